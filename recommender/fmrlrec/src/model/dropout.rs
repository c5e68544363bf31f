//! Dropout whose masks come from a seeded generator of our own: the backend's generator is global
//! and cannot be rewound, and a resumed run must draw what the uninterrupted one would have.

use crate::ops::{Mask, MaskColumn, NestedBackend};
use burn::tensor::{Tensor, TensorPrimitive};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// Masks of one training step, or none when serving.
pub struct Dropout(Option<Mask>);

impl Dropout {
    /// No dropout: evaluation and serving.
    pub fn off() -> Dropout {
        Dropout(None)
    }

    /// Zeroes each element of a column with the probability in `rates`, one a column; (seed, step) fixes every mask of
    /// the step.
    pub fn new(rates: &[f64], seed: u64, step: u64) -> Dropout {
        if rates.iter().all(|rate| *rate == 0.0) {
            return Dropout::off();
        }
        Dropout(Some(Mask {
            key: ChaCha8Rng::seed_from_u64(seed).get_seed(),
            stream: step + 1,
            start: 0,
            columns: rates.iter().copied().map(MaskColumn::new).collect(),
        }))
    }

    /// # Shapes
    /// `x` `[n, D]` -> `[n, D]`, scaled by `1 / (1 - rate)` so that the expectation stays.
    pub fn apply<B: NestedBackend>(&mut self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        let Some(mask) = &mut self.0 else { return x };
        let [rows, width] = x.dims();
        assert_eq!(width, mask.columns.len(), "dropout has a rate for each column");
        let values = B::dropout_mask(mask, rows, &x.device());
        mask.start += (rows * width) as u64;
        x * Tensor::from_primitive(TensorPrimitive::Float(values))
    }
}
