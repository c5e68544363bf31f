//! Whitening of the item features while training (`projector_start = "whitened"`).
//!
//! Encoders put most of the variance into few directions, and an optimizer that steps every weight alike
//! then learns little of the others. Training sees `A x` instead of the features `x`: `A` brings each leading
//! principal direction to variance 1, and all that is orthogonal to them, by one factor, to mean variance 1.
//! `A` is linear, so the projector `W` over `A x` is the projector `W A` over `x`: the Bundle holds that one,
//! and nothing that evaluates or serves knows of whitening. After WhitenRec (arXiv 2402.10602).
//!
//! All of it runs on the CPU whatever trains: a GPU may multiply f32 with fewer digits, and the Bundle's
//! projector would not be the one that was trained.

use crate::Cpu;
use crate::checkpoint::Params;
use crate::model::principal::Principal;
use crate::ops::{Matrix, host_values, multiply_add};
use burn::tensor::{Tensor, TensorData};

/// Directions with a smaller share of the largest variance are scaled as if they had this one: they are
/// mostly rounding.
const LEAST_SHARE: f64 = 1e-4;

/// The map `A`.
pub(crate) struct Whitening {
    /// `[f, f]`, symmetric.
    map: Tensor<Cpu, 2>,
}

impl Whitening {
    /// From the features' principal directions.
    pub(crate) fn new(principal: &Principal, f: usize) -> Whitening {
        let Principal { directions, variances, rest } = principal;
        let floor = (LEAST_SHARE * variances.first().copied().unwrap_or(0.0)).max(1e-12);
        let inverse = |variance: f64| 1.0 / variance.max(floor).sqrt();
        let others = inverse(*rest);
        let scaled: Vec<f64> = directions
            .chunks_exact(f)
            .zip(variances)
            .flat_map(|(direction, variance)| direction.iter().map(|value| value * (inverse(*variance) - others)))
            .collect();
        let mut map = vec![0.0; f * f];
        map.iter_mut().step_by(f + 1).for_each(|value| *value = others);
        let rows = |values| Matrix::columns(values, variances.len(), f, &(0..f));
        multiply_add(rows(&scaled).transposed(), rows(directions), &mut map, f);
        let map: Vec<f32> = map.into_iter().map(|value| value as f32).collect();
        Whitening { map: Tensor::<Cpu, 2>::from_data(TensorData::new(map, [f, f]), &Default::default()) }
    }

    /// `A x` for every row; PAD's zeros stay zeros.
    ///
    /// # Shapes
    /// `[n + 1, f]` -> `[n + 1, f]`.
    pub(crate) fn apply(&self, features: &Tensor<Cpu, 2>) -> Tensor<Cpu, 2> {
        features.clone().matmul(self.map.clone())
    }

    /// Turns a projector over whitened features into the one over the features themselves.
    pub(crate) fn fold(&self, params: &mut Params) {
        let Some(weight) = params.get_mut("projector.weight") else { return };
        let shape = [weight.shape[0], weight.shape[1]];
        let projector = Tensor::<Cpu, 2>::from_data(TensorData::new(weight.values.clone(), shape), &Default::default());
        weight.values = host_values(projector.matmul(self.map.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::principal::principal_directions;
    use crate::params::ParamValues;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    /// Features with standard deviations 8, 4, 2, 1, 1, 0 along mixed axes.
    fn features() -> Vec<f32> {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let spread = [8.0_f32, 4.0, 2.0, 1.0, 1.0, 0.0];
        (0..3000)
            .flat_map(|_| {
                let z: Vec<f32> = spread.iter().map(|spread| spread * rng.random_range(-1.7..1.7)).collect();
                // A Householder reflection mixes the axes and keeps lengths.
                let mean = z.iter().sum::<f32>() / 3.0;
                z.into_iter().map(|value| value - mean).collect::<Vec<f32>>()
            })
            .collect()
    }

    /// Variances of what `count` leading directions whiten, along all principal directions.
    fn check(count: usize, expect: [f64; 6]) {
        let features = features();
        let whitening = Whitening::new(&principal_directions(&features, 6, count, 1), 6);
        let rows = features.len() / 6;
        let tensor = Tensor::from_data(TensorData::new(features, [rows, 6]), &Default::default());
        let found = principal_directions(&host_values::<f32, _, 2>(whitening.apply(&tensor)), 6, 6, 1).variances;
        for (found, expect) in found.iter().zip(expect) {
            assert!((found - expect).abs() < 0.1 * expect + 0.01, "{count} directions: {found} is not {expect}");
        }
    }

    #[test]
    fn leading_directions_get_variance_1_and_the_rest_mean_variance_1() {
        check(5, [1.0, 1.0, 1.0, 1.0, 1.0, 0.0]);
        // Left are 4, 1, 1 and 0, with mean 1.5.
        check(2, [4.0 / 1.5, 1.0, 1.0, 1.0 / 1.5, 1.0 / 1.5, 0.0]);
    }

    #[test]
    fn a_folded_projector_gives_the_same_item_vectors() {
        let features = features();
        let whitening = Whitening::new(&principal_directions(&features, 6, 3, 1), 6);
        let tensor = Tensor::<Cpu, 2>::from_data(TensorData::new(features, [3000, 6]), &Default::default());
        let values: Vec<f32> = (0..24).map(|at| (at * 7 % 5) as f32 - 2.0).collect();
        let mut params = Params::new();
        params.insert("projector.weight".into(), ParamValues { shape: vec![4, 6], values: values.clone() });
        whitening.fold(&mut params);
        let product = |features: Tensor<Cpu, 2>, weight: &[f32]| {
            let weight = Tensor::<Cpu, 2>::from_data(TensorData::new(weight.to_vec(), [4, 6]), &Default::default());
            host_values::<f32, _, 2>(features.matmul(weight.transpose()))
        };
        let (whitened, folded) =
            (product(whitening.apply(&tensor), &values), product(tensor, &params["projector.weight"].values));
        let far = whitened.iter().zip(&folded).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(far < 1e-4, "{far}");
    }

    #[test]
    fn features_without_any_variance_stay_finite() {
        let map = Whitening::new(&principal_directions(&[0.0; 12], 4, 2, 1), 4).map;
        assert!(host_values::<f32, _, 2>(map).iter().all(|value| value.is_finite()));
    }
}
