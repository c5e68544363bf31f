//! fMRLRec (Wang et al., EMNLP Findings 2024, arXiv 2409.16627), read top-down.
//!
//! | symbol | meaning |
//! |---|---|
//! | `n` | items, PAD not counted |
//! | `f` | width of the frozen item features: text and image side by side |
//! | `D`, `d` | the largest nesting dim, any nesting dim |
//! | `t` | tokens of all packed sequences of a batch |
//!
//! Sequences are packed one behind the other without padding, with `keep[t] = 0` where one starts:
//! the recurrence is the only place where tokens meet, so nothing else needs to know (law 3).

pub mod block;
pub mod dropout;
pub mod init;
pub mod lru;
pub mod nested;

use crate::config::ModelConfig;
use crate::ops::NestedBackend;
use block::Block;
use burn::module::{Module, Param};
use burn::tensor::{Int, Tensor, TensorData, backend::Backend};
use dropout::Dropout;
use init::Init;
use lru::Complex;

/// Linear map from the frozen item features to item vectors.
#[derive(Module, Debug)]
pub struct Projector<B: Backend> {
    /// `[D, f]`.
    pub weight: Param<Tensor<B, 2>>,
    /// `[D]`: also the vector of PAD, whose features are zero. It is the learned start token.
    pub bias: Param<Tensor<B, 1>>,
}

/// The model.
#[derive(Module, Debug)]
pub struct FmrlRec<B: Backend> {
    /// Features to item vectors.
    pub projector: Projector<B>,
    /// LRU blocks in order.
    pub blocks: Vec<Block<B>>,
}

/// Hidden state of `n` users: one complex `[n, d]` a block. A value: stepping makes a new one.
#[derive(Debug, Clone)]
pub struct HiddenState<B: Backend>(pub Vec<Complex<B>>);

impl<B: Backend> FmrlRec<B> {
    /// Fresh weights for features of width `feature_dim`.
    pub fn new(config: &ModelConfig, feature_dim: usize, seed: u64, device: &B::Device) -> FmrlRec<B> {
        let mut init = Init::new(seed, device);
        let dims = &config.nesting_dims;
        let largest = config.largest_dim();
        FmrlRec {
            projector: Projector { weight: init.truncated_normal([largest, feature_dim]), bias: init.zeros([largest]) },
            blocks: (0..config.blocks).map(|_| Block::new(dims, config.r_min, config.r_max, &mut init)).collect(),
        }
    }

    /// Vectors of all items, PAD first.
    ///
    /// # Shapes
    /// `features` `[n + 1, f]` -> `[n + 1, D]`.
    pub fn item_table(&self, features: Tensor<B, 2>) -> Tensor<B, 2> {
        let bias = self.projector.bias.val();
        let dim = bias.dims()[0];
        features.matmul(self.projector.weight.val().transpose()) + bias.reshape([1, dim])
    }

    /// The model of a smaller dim; weights are shared, not copied (law 1).
    pub fn slice(&self, dim: usize) -> FmrlRec<B> {
        FmrlRec {
            projector: Projector {
                weight: Param::from_tensor(self.projector.weight.val().narrow(0, 0, dim)),
                bias: Param::from_tensor(self.projector.bias.val().narrow(0, 0, dim)),
            },
            blocks: self.blocks.iter().map(|block| block.slice(dim)).collect(),
        }
    }

    /// State before the first token.
    pub fn start(&self, users: usize, dim: usize, device: &B::Device) -> HiddenState<B> {
        let zero = || Tensor::zeros([users, dim], device);
        HiddenState(self.blocks.iter().map(|_| Complex { re: zero(), im: zero() }).collect())
    }

    /// Takes in one item a user (law 2): cost independent of the history's length.
    ///
    /// # Shapes
    /// `x` `[n, d]` item vectors -> user vectors `[n, d]` and the next state.
    pub fn step(&self, x: Tensor<B, 2>, state: HiddenState<B>) -> (Tensor<B, 2>, HiddenState<B>) {
        let mut next = Vec::with_capacity(state.0.len());
        let mut y = x;
        for (block, hidden) in self.blocks.iter().zip(state.0) {
            let (out, hidden) = block.step(y, hidden);
            y = out;
            next.push(hidden);
        }
        (y, HiddenState(next))
    }
}

impl<B: NestedBackend> FmrlRec<B> {
    /// A user vector at every token of packed sequences.
    ///
    /// # Shapes
    /// `x` `[t, d]` item vectors, `keep` `[t]` -> `[t, d]`.
    pub fn forward(&self, x: Tensor<B, 2>, keep: &[f32], dropout: &mut Dropout) -> Tensor<B, 2> {
        let mut y = dropout.apply(x);
        for block in &self.blocks {
            y = block.forward(y, keep, dropout);
        }
        y
    }
}

/// Rows of the item table.
///
/// # Shapes
/// `table` `[n + 1, d]`, `ids` `t` of them -> `[t, d]`.
pub fn gather<B: Backend>(table: Tensor<B, 2>, ids: &[u32]) -> Tensor<B, 2> {
    let ids: Vec<i32> = ids.iter().map(|id| *id as i32).collect();
    let count = ids.len();
    let ids = Tensor::<B, 1, Int>::from_data(TensorData::new(ids, [count]), &table.device());
    table.select(0, ids)
}
