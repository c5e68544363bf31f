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
pub mod principal;

use crate::config::ModelConfig;
use crate::ops::{NestedBackend, host_values};
use block::Block;
use burn::module::{Module, Param};
use burn::tensor::{Int, Tensor, TensorData, backend::Backend};
use dropout::Dropout;
use init::Init;
use lru::Complex;
use nested::NestedLayerNorm;
use std::ops::Range;

/// Linear map from the frozen item features to item vectors.
#[derive(Module, Debug)]
pub struct Projector<B: Backend> {
    /// `[D, f]`.
    pub weight: Param<Tensor<B, 2>>,
    /// `[D]`: also the vector of PAD, whose features are zero. It is the learned start token.
    pub bias: Param<Tensor<B, 1>>,
}

impl<B: Backend> Projector<B> {
    /// Some columns of the item vectors.
    ///
    /// # Shapes
    /// `features` `[n, f]` -> `[n, columns]`.
    pub fn forward(&self, features: Tensor<B, 2>, columns: Range<usize>) -> Tensor<B, 2> {
        let (start, count) = (columns.start, columns.len());
        let bias = self.bias.val().narrow(0, start, count).reshape([1, count]);
        features.matmul(self.weight.val().narrow(0, start, count).transpose()) + bias
    }

    /// Width of the item vectors.
    fn dim(&self) -> usize {
        self.bias.dims()[0]
    }

    /// The projector of a smaller model.
    fn slice(&self, dim: usize) -> Projector<B> {
        Projector {
            weight: Param::from_tensor(self.weight.val().narrow(0, 0, dim)),
            bias: Param::from_tensor(self.bias.val().narrow(0, 0, dim)),
        }
    }
}

/// Scale of a fresh `user_norm`: scores of two unlike vectors then have a standard deviation of `.1 sqrt(d)` (.8 at every
/// dim with `objective.scaled_logits`), an almost flat softmax, but for a user's own last item: fresh blocks pass it on, so
/// it scores `.1 d` (`.8 sqrt(d)`).
const USER_SCALE: f64 = 0.1;

/// The model.
#[derive(Module, Debug)]
pub struct FmrlRec<B: Backend> {
    /// Features to item vectors; none where items have no features.
    pub projector: Option<Projector<B>>,
    /// `[n + 1, D]`: what an item's features do not say, learned per item. Not in the paper.
    pub item_embedding: Option<Param<Tensor<B, 2>>>,
    /// LRU blocks in order.
    pub blocks: Vec<Block<B>>,
    /// Last layer of the item vectors, with `vector_norm`: then scores compare directions, slice by
    /// slice, and the scale of `user_norm` is the softmax's inverse temperature (but for a fixed factor a dim with
    /// `objective.scaled_logits`). Not in the paper.
    pub item_norm: Option<NestedLayerNorm<B>>,
    /// Last layer of the user vectors, with `vector_norm`.
    pub user_norm: Option<NestedLayerNorm<B>>,
}

/// Hidden state of `n` users: one complex `[n, d]` a block. A value: stepping makes a new one.
#[derive(Debug, Clone)]
pub struct HiddenState<B: Backend>(pub Vec<Complex<B>>);

impl<B: NestedBackend> FmrlRec<B> {
    /// Fresh weights for `items` items (PAD not counted) with features of width `feature_dim`.
    pub fn new(config: &ModelConfig, feature_dim: usize, items: usize, seed: u64, device: &B::Device) -> FmrlRec<B> {
        FmrlRec::made(config, feature_dim, items, Init::new(seed, device))
    }

    /// As [`FmrlRec::new`] with every weight 0: a model whose parameters are loaded.
    pub fn blank(config: &ModelConfig, feature_dim: usize, items: usize, device: &B::Device) -> FmrlRec<B> {
        FmrlRec::made(config, feature_dim, items, Init::blank(device))
    }

    fn made(config: &ModelConfig, feature_dim: usize, items: usize, mut init: Init<'_, B>) -> FmrlRec<B> {
        let dims = &config.nesting_dims;
        let largest = config.largest_dim();
        let projector = (feature_dim > 0)
            .then(|| Projector { weight: init.truncated_normal([largest, feature_dim]), bias: init.zeros([largest]) });
        let blocks = (0..config.blocks).map(|_| Block::new(dims, config.r_min, config.r_max, &mut init)).collect();
        let item_embedding = config.item_embedding.then(|| init.truncated_normal([items + 1, largest]));
        let mut norm = |scale| config.vector_norm.then(|| NestedLayerNorm::new(dims, scale, &mut init));
        let (item_norm, user_norm) = (norm(1.0), norm(USER_SCALE));
        FmrlRec { projector, item_embedding, blocks, item_norm, user_norm }
    }

    /// Vectors of all items, PAD first.
    ///
    /// # Shapes
    /// `features` `[n + 1, f]` -> `[n + 1, D]`.
    pub fn item_table(&self, features: Tensor<B, 2>) -> Tensor<B, 2> {
        let embedding = self.item_embedding.as_ref().map(Param::val);
        let projected = self.projector.as_ref().map(|projector| projector.forward(features, 0..projector.dim()));
        let table = match (projected, embedding) {
            (Some(projected), Some(embedding)) => projected + embedding,
            (Some(table), None) | (None, Some(table)) => table,
            (None, None) => panic!("a configuration with neither features nor an item embedding is refused"),
        };
        normed(&self.item_norm, table)
    }

    /// The model of a smaller dim; weights are shared, not copied (law 1).
    pub fn slice(&self, dim: usize) -> FmrlRec<B> {
        FmrlRec {
            projector: self.projector.as_ref().map(|projector| projector.slice(dim)),
            item_embedding: self.item_embedding.as_ref().map(|all| Param::from_tensor(all.val().narrow(1, 0, dim))),
            blocks: self.blocks.iter().map(|block| block.slice(dim)).collect(),
            item_norm: self.item_norm.as_ref().map(|norm| norm.slice(dim)),
            user_norm: self.user_norm.as_ref().map(|norm| norm.slice(dim)),
        }
    }

    /// Starts the projector from directions in feature space, the first one in the first column, for
    /// features that have this variance along them on average: item vectors start as large as fresh
    /// weights would make them. Columns past the directions stay as they are.
    ///
    /// # Shapes
    /// `directions` `[k, f]` row-major, orthonormal.
    pub fn start_projector(&mut self, directions: &[f64], variance: f64) {
        let Some(projector) = &mut self.projector else { return };
        let shape = projector.weight.dims();
        let device = projector.weight.device();
        let mut weight: Vec<f32> = host_values(projector.weight.val());
        let scale = init::STD / variance.sqrt().max(1e-12);
        weight.iter_mut().zip(directions).for_each(|(weight, value)| *weight = (scale * value) as f32);
        projector.weight = Param::from_tensor(Tensor::from_data(TensorData::new(weight, shape), &device));
    }

    /// Item vectors from features alone, without what was learned of items one by one; none if the
    /// model has no projector.
    ///
    /// # Shapes
    /// `features` `[n, f]` -> `[n, D]`.
    pub fn item_vectors(&self, features: Tensor<B, 2>) -> Option<Tensor<B, 2>> {
        let projector = self.projector.as_ref()?;
        Some(normed(&self.item_norm, projector.forward(features, 0..projector.dim())))
    }

    /// User vectors from the last block's output, or an earlier one's at an exit.
    ///
    /// # Shapes
    /// `y` `[n, d]` -> `[n, d]`.
    pub fn user_vectors(&self, y: Tensor<B, 2>) -> Tensor<B, 2> {
        normed(&self.user_norm, y)
    }

    /// The block dims of [`FmrlRec::forward_cut`] that keep the first `depth` blocks whole.
    pub fn block_dims(&self, depth: usize) -> Vec<usize> {
        (0..self.blocks.len()).map(|block| if block < depth { usize::MAX } else { 0 }).collect()
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
        self.step_cut(x, state, &self.block_dims(self.blocks.len()))
    }

    /// As [`FmrlRec::step`] of the model inside this one that [`FmrlRec::forward_cut`] runs: the state has a part for
    /// each block that takes part, as wide as the block is cut.
    pub fn step_cut(
        &self,
        x: Tensor<B, 2>,
        state: HiddenState<B>,
        block_dims: &[usize],
    ) -> (Tensor<B, 2>, HiddenState<B>) {
        let mut parts = state.0.into_iter();
        let mut next = Vec::with_capacity(self.blocks.len());
        let y = self.blocks.iter().zip(block_dims).fold(x, |x, (block, &dim)| {
            let step = |block: &Block<B>, x| block.step(x, parts.next().expect("a state has a part for each block"));
            let (y, hidden) = on_columns(block, x, dim, step);
            next.extend(hidden);
            y
        });
        (self.user_vectors(y), HiddenState(next))
    }
}

impl<B: NestedBackend> FmrlRec<B> {
    /// A user vector at every token of packed sequences.
    ///
    /// # Shapes
    /// `x` `[t, d]` item vectors, `keep` `[t]` -> `[t, d]`.
    pub fn forward(&self, x: Tensor<B, 2>, keep: &[f32], dropout: &mut Dropout) -> Tensor<B, 2> {
        let y = self.blocks.iter().fold(dropout.apply(x), |y, block| block.forward(y, keep, dropout));
        self.user_vectors(y)
    }

    /// As [`FmrlRec::forward`], with the output after every block.
    pub fn forward_depths(&self, x: Tensor<B, 2>, keep: &[f32], dropout: &mut Dropout) -> Vec<Tensor<B, 2>> {
        let mut y = dropout.apply(x);
        let mut outputs = Vec::with_capacity(self.blocks.len());
        for block in &self.blocks {
            y = block.forward(y, keep, dropout);
            outputs.push(self.user_vectors(y.clone()));
        }
        outputs
    }

    /// A cheaper model inside this one: each block works on the leading `block_dims[i]` columns (all of
    /// a narrower `x`) and lets the others pass; 0 leaves the block out. So equal dims are a slice,
    /// zeros at the end an early exit, and falling dims a mix of sizes (MatFormer's Mix'n'Match).
    ///
    /// # Shapes
    /// `x` `[t, d]`, `keep` `[t]`, one nesting dim or 0 a block -> `[t, d]`. No dropout.
    pub fn forward_cut(&self, x: Tensor<B, 2>, keep: &[f32], block_dims: &[usize]) -> Tensor<B, 2> {
        let forward = |block: &Block<B>, x: Tensor<B, 2>| (block.forward(x, keep, &mut Dropout::off()), ());
        let y = self.blocks.iter().zip(block_dims).fold(x, |x, (block, &dim)| on_columns(block, x, dim, forward).0);
        self.user_vectors(y)
    }

    /// What [`FmrlRec::forward_cut`] gives at some tokens only, with the hidden states of each block that takes part.
    /// The last one computes its output for these tokens alone: of seven linear layers two read every token. Blocks
    /// past the end of `block_dims` are left out.
    ///
    /// # Shapes
    /// `x` `[t, d]`, `keep` `[t]`, `tokens` `n` of `0..t` -> `[n, d]`, and `[n, its columns]` a block.
    pub fn forward_cut_at(
        &self,
        x: Tensor<B, 2>,
        keep: &[f32],
        block_dims: &[usize],
        tokens: &[u32],
    ) -> (Tensor<B, 2>, Vec<Complex<B>>) {
        let mut states = Vec::with_capacity(self.blocks.len());
        let blocks: Vec<_> = self.blocks.iter().zip(block_dims).filter(|(_, dim)| **dim > 0).collect();
        let mut y = x;
        for (at, (block, dim)) in blocks.iter().enumerate() {
            let last = at + 1 == blocks.len();
            let forward = |block: &Block<B>, x: Tensor<B, 2>| match last {
                true => block.forward_at(x, keep, tokens),
                false => block.forward_with_states(x, keep, tokens),
            };
            let (out, of_block) = on_columns_at(block, y, **dim, last.then_some(tokens), forward);
            y = out;
            states.extend(of_block);
        }
        if blocks.is_empty() {
            y = gather(y, tokens);
        }
        (self.user_vectors(y), states)
    }
}

/// Runs a block on the leading `dim` columns of `x` (all of a narrower one) and lets the others pass.
fn on_columns<B: NestedBackend, R>(
    block: &Block<B>,
    x: Tensor<B, 2>,
    dim: usize,
    run: impl FnOnce(&Block<B>, Tensor<B, 2>) -> (Tensor<B, 2>, R),
) -> (Tensor<B, 2>, Option<R>) {
    on_columns_at(block, x, dim, None, run)
}

/// As [`on_columns`], where the block gives the rows of `tokens` alone.
fn on_columns_at<B: NestedBackend, R>(
    block: &Block<B>,
    x: Tensor<B, 2>,
    dim: usize,
    tokens: Option<&[u32]>,
    run: impl FnOnce(&Block<B>, Tensor<B, 2>) -> (Tensor<B, 2>, R),
) -> (Tensor<B, 2>, Option<R>) {
    let [_, width] = x.dims();
    let (y, beside) = match dim.min(width) {
        0 => return (x, None),
        dim if dim == width => run(block, x),
        dim => {
            let rest = x.clone().narrow(1, dim, width - dim);
            let rest = match tokens {
                Some(tokens) => gather(rest, tokens),
                None => rest,
            };
            let (cut, beside) = run(&block.slice(dim), x.narrow(1, 0, dim));
            (Tensor::cat(vec![cut, rest], 1), beside)
        }
    };
    (y, Some(beside))
}

/// `x` through a norm that may be absent.
fn normed<B: NestedBackend>(norm: &Option<NestedLayerNorm<B>>, x: Tensor<B, 2>) -> Tensor<B, 2> {
    match norm {
        Some(norm) => norm.forward(x),
        None => x,
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
