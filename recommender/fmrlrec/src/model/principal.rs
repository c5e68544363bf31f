//! Principal directions of the item features, for a projector whose first columns carry the most:
//! a small dim then starts with what a large one knows best.

use crate::ops::{Matrix, multiply_add};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Rounds of orthogonal iteration: enough for a start that training goes on from.
const ROUNDS: usize = 12;
/// Items whose features are centred at a time.
const ROWS: usize = 1024;

/// The leading principal directions of item features, by falling variance.
#[derive(Debug, Clone)]
pub struct Principal {
    /// `[k, f]` row-major, orthonormal rows.
    pub directions: Vec<f64>,
    /// `[k]`: variance along each.
    pub variances: Vec<f64>,
    /// Mean variance along what is orthogonal to all of them; 0 if that is nothing.
    pub rest: f64,
}

/// The leading `min(count, f)` principal directions.
///
/// # Shapes
/// `features` `[n, f]` row-major.
pub fn principal_directions(features: &[f32], f: usize, count: usize, seed: u64) -> Principal {
    let count = count.min(f);
    let covariance = covariance(features, f);
    let total: f64 = covariance.iter().step_by(f + 1).sum();
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut directions: Vec<f64> = (0..count * f).map(|_| rng.random_range(-1.0..1.0)).collect();
    orthonormalise(&mut directions, f);
    let mut variances = Vec::new();
    for _ in 0..ROUNDS {
        directions = times(&directions, &covariance, f);
        // A direction's length after the product is its variance once the iteration has settled.
        variances = orthonormalise(&mut directions, f);
    }
    let rest = (total - variances.iter().sum::<f64>()).max(0.0) / (f - count).max(1) as f64;
    Principal { directions, variances, rest }
}

/// `[f, f]`, symmetric.
fn covariance(features: &[f32], f: usize) -> Vec<f64> {
    let n = (features.len() / f).max(1) as f64;
    let mut mean = vec![0.0; f];
    for row in features.chunks_exact(f) {
        mean.iter_mut().zip(row).for_each(|(sum, value)| *sum += f64::from(*value) / n);
    }
    let centre = |row: &[f32]| -> Vec<f64> {
        row.iter().zip(&mean).map(|(value, mean)| (f64::from(*value) - mean) / n.sqrt()).collect()
    };
    let mut covariance = vec![0.0; f * f];
    // Blocks of rows bound the memory for the centred copy.
    for rows in features.chunks(ROWS * f) {
        let centred: Vec<f64> = rows.chunks_exact(f).flat_map(centre).collect();
        let centred = Matrix::columns(&centred, rows.len() / f, f, &(0..f));
        multiply_add(centred.transposed(), centred, &mut covariance, f);
    }
    covariance
}

/// `rows matrix`, shapes `[k, f]` and symmetric `[f, f]`.
fn times(rows: &[f64], matrix: &[f64], f: usize) -> Vec<f64> {
    let mut product = vec![0.0; rows.len()];
    let rows = Matrix::columns(rows, rows.len() / f, f, &(0..f));
    multiply_add(rows, Matrix::columns(matrix, f, f, &(0..f)), &mut product, f);
    product
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Gram-Schmidt over the rows, in order; gives the lengths that were left. A row that depends on
/// those before it becomes zero.
fn orthonormalise(rows: &mut [f64], f: usize) -> Vec<f64> {
    let mut lengths = Vec::new();
    for at in 0..rows.len() / f {
        let (before, rest) = rows.split_at_mut(at * f);
        let row = &mut rest[..f];
        let scale = dot(row, row).sqrt();
        // Twice: the second round takes away what rounding left of the first.
        for _ in 0..2 {
            for other in before.chunks_exact(f) {
                let share = dot(other, row);
                row.iter_mut().zip(other).for_each(|(value, other)| *value -= share * other);
            }
        }
        let length = dot(row, row).sqrt();
        let inverse = if length > 1e-10 * scale && length > 0.0 { 1.0 / length } else { 0.0 };
        row.iter_mut().for_each(|value| *value *= inverse);
        lengths.push(length);
    }
    lengths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_planted_directions_in_order() {
        // Three axes of an oblique frame with standard deviations 3, 2 and 1.
        let frame = [[0.6, 0.8, 0.0], [0.8, -0.6, 0.0], [0.0, 0.0, 1.0]];
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let mut features = Vec::new();
        for _ in 0..4000 {
            let weights: [f64; 3] = std::array::from_fn(|axis| (3 - axis) as f64 * rng.random_range(-1.7..1.7));
            let value = |column: usize| 5.0 + weights.iter().zip(frame).map(|(w, axis)| w * axis[column]).sum::<f64>();
            features.extend((0..3).map(|column| value(column) as f32));
        }
        let Principal { directions, variances, .. } = principal_directions(&features, 3, 9, 1);
        assert_eq!(directions.len(), 9);
        for (axis, direction) in directions.chunks(3).enumerate() {
            assert!(dot(direction, &frame[axis]).abs() > 0.99, "axis {axis}: {direction:?}");
        }
        assert!(variances.windows(2).all(|pair| pair[0] > pair[1]), "{variances:?}");
        let rest = principal_directions(&features, 3, 1, 1).rest;
        assert!((rest - (variances[1] + variances[2]) / 2.0).abs() < 0.01 * rest, "{rest} of {variances:?}");
    }
}
