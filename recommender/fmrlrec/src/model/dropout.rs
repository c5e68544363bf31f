//! Dropout whose masks come from a seeded generator of our own: the backend's generator is global
//! and cannot be rewound, and a resumed run must draw what the uninterrupted one would have.

use crate::ops::{Mask, NestedBackend};
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

    /// Zeroes each element with probability `rate`; (seed, step) fixes every mask of the step.
    pub fn new(rate: f64, seed: u64, step: u64) -> Dropout {
        assert!((0.0..1.0).contains(&rate), "dropout rate {rate} is not in 0..1");
        if rate == 0.0 {
            return Dropout::off();
        }
        Dropout(Some(Mask {
            key: ChaCha8Rng::seed_from_u64(seed).get_seed(),
            stream: step + 1,
            start: 0,
            threshold: (rate * f64::from(u32::MAX)) as u32,
            scale: (1.0 / (1.0 - rate)) as f32,
        }))
    }

    /// # Shapes
    /// `x` `[n, d]` -> `[n, d]`, scaled by `1 / (1 - rate)` so that the expectation stays.
    pub fn apply<B: NestedBackend>(&mut self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        let Some(mask) = &mut self.0 else { return x };
        let shape = x.dims();
        let values = B::dropout_mask(mask, shape, &x.device());
        mask.start += (shape[0] * shape[1]) as u64;
        x * Tensor::from_primitive(TensorPrimitive::Float(values))
    }
}
