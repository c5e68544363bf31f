//! Variety in a list: maximal marginal relevance (Carbonell and Goldstein, SIGIR 1998). The next item
//! is the one whose score, less its likeness to what is already listed, is largest.

use crate::problem::Problem;
use retrieval::{Scored, Tailed};

/// Items looked at for each one answered, and at most.
const POOL_FACTOR: usize = 4;
const MAX_POOL: usize = 400;

/// Candidates to search for when `k` diverse items are wanted.
pub(crate) fn pool(k: usize) -> usize {
    (k * POOL_FACTOR).min(MAX_POOL).max(k)
}

/// The `k` items of `candidates` (best first) by marginal relevance: `diversity` 0 keeps the order, 1
/// looks at likeness only. Scores stay what they were, so the list need not descend.
///
/// # Errors
/// A candidate that the table does not know, which is a fault of the caller.
pub(crate) fn diversify(
    table: &Tailed<'_>,
    dim: usize,
    candidates: Vec<Scored>,
    k: usize,
    diversity: f32,
) -> Result<Vec<Scored>, Problem> {
    let (Some(first), Some(last)) = (candidates.first(), candidates.last()) else { return Ok(candidates) };
    // Scores of two users differ in scale: relevance counts within this pool, 0 to 1.
    let (least, range) = (last.score, (first.score - last.score).max(f32::MIN_POSITIVE));
    let mut left = candidates
        .iter()
        .map(|&item| {
            let vector = unit(table.vector(item.id, dim)?);
            Ok(Left { item, relevance: (item.score - least) / range, likeness: 0.0, vector })
        })
        .collect::<Result<Vec<Left>, Problem>>()?;
    let mut chosen = Vec::with_capacity(k);
    while chosen.len() < k && !left.is_empty() {
        let gain = |left: &Left| (1.0 - diversity) * left.relevance - diversity * left.likeness;
        // Of equal gains the first, which is the more relevant one.
        let best = (1..left.len()).fold(0, |best, at| if gain(&left[at]) > gain(&left[best]) { at } else { best });
        let taken = left.remove(best);
        for other in &mut left {
            let cosine: f32 = other.vector.iter().zip(&taken.vector).map(|(a, b)| a * b).sum();
            other.likeness = other.likeness.max(cosine);
        }
        chosen.push(taken.item);
    }
    Ok(chosen)
}

struct Left {
    item: Scored,
    relevance: f32,
    /// Largest cosine with a chosen item.
    likeness: f32,
    vector: Vec<f32>,
}

fn unit(mut vector: Vec<f32>) -> Vec<f32> {
    let norm = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
    if norm > 0.0 {
        vector.iter_mut().for_each(|value| *value /= norm);
    }
    vector
}

#[cfg(test)]
mod tests {
    use super::*;
    use retrieval::NestedTable;

    /// Items 1 and 2 point the same way, 3 does not.
    fn table() -> NestedTable {
        NestedTable::new(&[0.0, 0.0, 1.0, 0.0, 0.9, 0.1, 0.0, 1.0], &[2]).unwrap()
    }

    #[test]
    fn diversity_trades_score_for_difference() {
        let candidates = [(1, 3.0), (2, 2.9), (3, 1.0)].map(|(id, score)| Scored { id, score }).to_vec();
        let check = |diversity: f32, k: usize, expect: &[u32]| {
            let found = diversify(&Tailed::new(&table(), None).unwrap(), 2, candidates.clone(), k, diversity).unwrap();
            let ids: Vec<u32> = found.iter().map(|item| item.id).collect();
            assert_eq!(ids, expect, "diversity {diversity}");
        };
        check(0.0, 3, &[1, 2, 3]);
        check(0.9, 3, &[1, 3, 2]);
        check(0.9, 2, &[1, 3]);
        check(0.2, 2, &[1, 2]);
        assert!(diversify(&Tailed::new(&table(), None).unwrap(), 2, Vec::new(), 2, 0.5).unwrap().is_empty());
    }

    #[test]
    fn a_pool_is_bounded_and_never_smaller_than_k() {
        assert_eq!((pool(1), pool(10), pool(100), pool(1000)), (4, 40, 400, 1000));
    }
}
