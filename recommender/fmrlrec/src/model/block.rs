//! One block: `y = x + lru(norm1(x))`, then `y + w_2(silu(gate(z)) * w_1(z))` with `z = norm2(y)`
//! (paper section 3.1). Everything but the scan works on one token at a time.

use super::dropout::Dropout;
use super::gather;
use super::init::Init;
use super::lru::{Complex, Lru};
use super::nested::{NestedLayerNorm, NestedLinear};
use crate::ops::NestedBackend;
use burn::module::Module;
use burn::tensor::{Tensor, activation::silu, backend::Backend};

/// Gated position-wise feed-forward layer.
#[derive(Module, Debug)]
pub struct FeedForward<B: Backend> {
    /// Gate.
    pub gate: NestedLinear<B>,
    /// Input weights.
    pub w_1: NestedLinear<B>,
    /// Output weights.
    pub w_2: NestedLinear<B>,
}

impl<B: NestedBackend> FeedForward<B> {
    /// # Shapes
    /// `[n, d]` -> `[n, d]`.
    pub fn forward(&self, x: Tensor<B, 2>, dropout: &mut Dropout) -> Tensor<B, 2> {
        let hidden = silu(self.gate.forward(x.clone())) * self.w_1.forward(x);
        self.w_2.forward(dropout.apply(hidden))
    }
}

/// One LRU block.
#[derive(Module, Debug)]
pub struct Block<B: Backend> {
    /// Norm before the recurrence.
    pub input_norm: NestedLayerNorm<B>,
    /// The recurrence.
    pub lru: Lru<B>,
    /// Norm before the feed-forward layer.
    pub post_norm: NestedLayerNorm<B>,
    /// The feed-forward layer.
    pub feed_forward: FeedForward<B>,
}

impl<B: Backend> Block<B> {
    /// Fresh weights.
    pub fn new(dims: &[usize], r_min: f64, r_max: f64, init: &mut Init<B>) -> Block<B> {
        Block {
            input_norm: NestedLayerNorm::new(dims, 1.0, init),
            lru: Lru::new(dims, r_min, r_max, init),
            post_norm: NestedLayerNorm::new(dims, 1.0, init),
            feed_forward: FeedForward {
                gate: NestedLinear::new(dims, true, false, init),
                w_1: NestedLinear::new(dims, true, false, init),
                w_2: NestedLinear::new(dims, true, false, init),
            },
        }
    }

    /// The block of a smaller model.
    pub fn slice(&self, dim: usize) -> Block<B> {
        Block {
            input_norm: self.input_norm.slice(dim),
            lru: self.lru.slice(dim),
            post_norm: self.post_norm.slice(dim),
            feed_forward: FeedForward {
                gate: self.feed_forward.gate.slice(dim),
                w_1: self.feed_forward.w_1.slice(dim),
                w_2: self.feed_forward.w_2.slice(dim),
            },
        }
    }
}

impl<B: NestedBackend> Block<B> {
    /// # Shapes
    /// `x` `[t, d]`, `keep` `[t]` as in [`Lru::forward`] -> `[t, d]`.
    pub fn forward(&self, x: Tensor<B, 2>, keep: &[f32], dropout: &mut Dropout) -> Tensor<B, 2> {
        let y = self.lru.forward(self.input_norm.forward(x.clone()), keep);
        self.after_lru(x + dropout.apply(y), dropout)
    }

    /// As [`Block::forward`] without dropout, with the hidden states at some tokens.
    ///
    /// # Shapes
    /// `tokens` `n` of `0..t` -> `[t, d]` and `[n, d]`.
    pub fn forward_with_states(&self, x: Tensor<B, 2>, keep: &[f32], tokens: &[u32]) -> (Tensor<B, 2>, Complex<B>) {
        let states = self.lru.states(self.input_norm.forward(x.clone()), keep);
        let y = self.lru.output(states.clone());
        (self.after_lru(x + y, &mut Dropout::off()), states.at(tokens))
    }

    /// Output and hidden states at some tokens: what follows the recurrence is computed for these alone.
    ///
    /// # Shapes
    /// `tokens` `n` of `0..t` -> `[n, d]` both.
    pub fn forward_at(&self, x: Tensor<B, 2>, keep: &[f32], tokens: &[u32]) -> (Tensor<B, 2>, Complex<B>) {
        let states = self.lru.states(self.input_norm.forward(x.clone()), keep).at(tokens);
        let y = self.lru.output(states.clone());
        (self.after_lru(gather(x, tokens) + y, &mut Dropout::off()), states)
    }

    /// One token a row; see [`Lru::step`].
    pub fn step(&self, x: Tensor<B, 2>, state: Complex<B>) -> (Tensor<B, 2>, Complex<B>) {
        let (y, state) = self.lru.step(self.input_norm.forward(x.clone()), state);
        (self.after_lru(x + y, &mut Dropout::off()), state)
    }

    fn after_lru(&self, x: Tensor<B, 2>, dropout: &mut Dropout) -> Tensor<B, 2> {
        let y = self.feed_forward.forward(self.post_norm.forward(x.clone()), dropout);
        x + dropout.apply(y)
    }
}
