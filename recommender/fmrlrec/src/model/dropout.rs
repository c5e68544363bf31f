//! Dropout whose masks come from a seeded generator of our own: the backend's generator is global
//! and cannot be rewound, and a resumed run must draw what the uninterrupted one would have.

use burn::tensor::{Tensor, TensorData, backend::Backend};
use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Masks of one training step, or none when serving.
pub struct Dropout(Option<(ChaCha8Rng, f64)>);

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
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(step + 1);
        Dropout(Some((rng, rate)))
    }

    /// # Shapes
    /// `x` `[n, d]` -> `[n, d]`, scaled by `1 / (1 - rate)` so that the expectation stays.
    pub fn apply<B: Backend>(&mut self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        let Some((rng, rate)) = &mut self.0 else { return x };
        let threshold = (*rate * f64::from(u32::MAX)) as u32;
        let scale = (1.0 / (1.0 - *rate)) as f32;
        let [n, d] = x.dims();
        let mask: Vec<f32> = (0..n * d).map(|_| if rng.next_u32() < threshold { 0.0 } else { scale }).collect();
        let mask = Tensor::from_data(TensorData::new(mask, [n, d]), &x.device());
        x * mask
    }
}
