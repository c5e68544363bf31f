//! The best k of a stream: a reservoir that is cut to k whenever it is full.
//!
//! Against a heap: a candidate costs one append, and the rare cut is linear. Results are compared as one
//! integer, score above id, so that the order is total and no result depends on the order of the scan.

use crate::Scored;

/// Room beyond k before a cut: for a small k, so that cuts stay rare.
const SLACK: usize = 48;

/// Keeps the `k` best candidates: larger score first, equal scores by lower id.
pub(crate) struct Best {
    k: usize,
    keys: Vec<u64>,
    /// Key of the worst of the k best at the last cut; a candidate must beat it.
    floor: u64,
    /// Score in `floor`; minus infinity before the first cut.
    threshold: f32,
}

impl Best {
    /// `k` is at least 1; `most` is the largest number of candidates that can come, so that a large k
    /// over a small table reserves little.
    pub(crate) fn new(k: usize, most: usize) -> Best {
        assert!(k >= 1, "the caller checks k");
        Best { k, keys: Vec::with_capacity(capacity(k).min(most)), floor: 0, threshold: f32::NEG_INFINITY }
    }

    /// Number of candidates kept: at least that many results will come, up to k.
    pub(crate) fn kept(&self) -> usize {
        self.keys.len()
    }

    /// A score below it cannot be a result.
    #[inline]
    pub(crate) fn threshold(&self) -> f32 {
        self.threshold
    }

    /// Whether [`Best::push`] would keep this candidate now.
    #[inline]
    pub(crate) fn wants(&self, candidate: Scored) -> bool {
        key(candidate) > self.floor
    }

    /// Adds a candidate that [`Best::wants`], each at most once.
    #[inline]
    pub(crate) fn push(&mut self, candidate: Scored) {
        debug_assert!(self.wants(candidate));
        self.keys.push(key(candidate));
        if self.keys.len() >= capacity(self.k) {
            self.cut();
        }
    }

    /// Takes over what another kept of other candidates.
    pub(crate) fn absorb(&mut self, other: Best) {
        for key in other.keys {
            if key > self.floor {
                self.push(scored(key));
            }
        }
    }

    /// The results, best first.
    pub(crate) fn into_sorted(mut self) -> Vec<Scored> {
        self.keys.sort_unstable_by(|a, b| b.cmp(a));
        self.keys.truncate(self.k);
        self.keys.into_iter().map(scored).collect()
    }

    /// The results in no order.
    pub(crate) fn into_unsorted(mut self) -> Vec<Scored> {
        if self.keys.len() > self.k {
            self.cut();
        }
        self.keys.into_iter().map(scored).collect()
    }

    fn cut(&mut self) {
        let (_, &mut worst, _) = self.keys.select_nth_unstable_by(self.k - 1, |a, b| b.cmp(a));
        self.keys.truncate(self.k);
        self.floor = worst;
        self.threshold = scored(worst).score;
    }
}

/// Keys before a cut; from 2 k on, cuts cost a constant a candidate.
fn capacity(k: usize) -> usize {
    2 * k + SLACK
}

/// Which of the candidates are the best `count`, in the order they are given.
pub(crate) fn best_of(candidates: impl Iterator<Item = Scored>, count: usize) -> Vec<bool> {
    let keys: Vec<u64> = candidates.map(key).collect();
    if keys.len() <= count {
        return vec![true; keys.len()];
    }
    let (_, &mut worst, _) = keys.clone().select_nth_unstable_by(count - 1, |a, b| b.cmp(a));
    keys.into_iter().map(|key| key >= worst).collect()
}

/// Orders as (score, then lower id). Scores are finite.
#[inline]
fn key(candidate: Scored) -> u64 {
    // Adding zero turns -0 into +0, which the bits would otherwise rank below it.
    let bits = (candidate.score + 0.0).to_bits();
    let ordered = if bits >> 31 == 1 { !bits } else { bits | 1 << 31 };
    u64::from(ordered) << 32 | u64::from(!candidate.id)
}

/// The candidate of a key.
fn scored(key: u64) -> Scored {
    let ordered = (key >> 32) as u32;
    let bits = if ordered >> 31 == 1 { ordered & !(1 << 31) } else { !ordered };
    Scored { id: !(key as u32), score: f32::from_bits(bits) }
}

#[cfg(test)]
mod tests {
    use super::{Best, key, scored};
    use crate::Scored;

    #[test]
    fn keys_order_as_scores_do_and_come_back() {
        let scores = [f32::MIN, -1.5, -1e-40, 0.0, 1e-40, 2.0, f32::MAX];
        let keys: Vec<u64> = scores.iter().map(|&score| key(Scored { id: 7, score })).collect();
        assert!(keys.is_sorted_by(|a, b| a < b), "{keys:?}");
        assert!(scores.iter().zip(&keys).all(|(&score, &key)| scored(key) == Scored { id: 7, score }));
        assert!(key(Scored { id: 1, score: -0.0 }) > key(Scored { id: 2, score: 0.0 }), "equal scores by lower id");
    }

    #[test]
    fn any_order_of_arrival_gives_the_same_results() {
        for (k, scores) in [(1, 101), (3, 101), (200, 101), (3, 2), (200, 2)] {
            let candidate = |at: u32| Scored { id: at, score: (at * 37 % scores) as f32 };
            let run = |order: &mut dyn Iterator<Item = u32>| {
                let mut best = Best::new(k, 1000);
                for at in order {
                    if best.wants(candidate(at)) {
                        best.push(candidate(at));
                    }
                }
                best.into_sorted()
            };
            let forward = run(&mut (1..1000));
            assert_eq!(forward.len(), k);
            assert_eq!(forward, run(&mut (1..1000).rev()));
        }
    }
}
