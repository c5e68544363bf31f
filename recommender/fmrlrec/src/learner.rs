//! One training step: item vectors, forward, nested loss, backward, AdamW.

use crate::compatibility::OldTable;
use crate::data::Batch;
use crate::model::dropout::Dropout;
use crate::model::{FmrlRec, Projector, gather};
use crate::ops::{Factored, NestedBackend, Objective, host_values, slices};
use crate::{AdamW, Divergence, TrainingBackend};
use burn::optim::GradientsParams;
use burn::tensor::backend::AutodiffBackend;
use burn::tensor::{Tensor, TensorPrimitive};

/// Most memory for the kept products of factored slices, in elements.
const MOST_KEPT: usize = 1 << 27;

/// A model and its optimizer.
#[derive(Debug)]
pub struct Learner<B: TrainingBackend> {
    /// The model.
    pub model: FmrlRec<B>,
    /// Its optimizer, which also counts the steps.
    pub optimizer: AdamW<B::InnerBackend>,
    /// Share of activations dropped in each column, `D` of them; empty for none.
    pub dropout: Vec<f64>,
    /// With the step's number it fixes the dropout masks.
    pub seed: u64,
    /// Exits trained beside the last block's output.
    pub exits: Vec<Exit>,
    /// Older item vectors that user vectors are to fit too.
    pub old_table: Option<OldTable<B>>,
}

/// An exit after an earlier block.
#[derive(Debug, Clone)]
pub struct Exit {
    /// Blocks before it, from 1.
    pub depth: usize,
    /// Its dims, a leading part of the model's, and their weights beside the main objective's.
    pub objective: Objective,
}

impl Exit {
    /// Its largest dim.
    fn dim(&self) -> usize {
        self.objective.dims[self.objective.dims.len() - 1]
    }
}

/// What a step's losses are made of.
struct Scored<B: AutodiffBackend> {
    /// User vectors after each block, `[p, D]`.
    outputs: Vec<Tensor<B, 2>>,
    /// Item vectors `[n + 1, P]`: every exit's dim is at most `P`.
    table: Tensor<B, 2>,
    /// The slices past `P`.
    factored: Option<Factored<B>>,
}

impl<B: TrainingBackend> Learner<B> {
    /// One step at `learning_rate`; gives the loss before it.
    ///
    /// # Shapes
    /// `features` `[n + 1, f]`; the objective's dims are the model's nesting dims.
    ///
    /// # Errors
    /// The loss or the gradient norm is not finite: model and optimizer stay as they were.
    pub fn step(
        &mut self,
        batch: &Batch,
        features: &Tensor<B, 2>,
        objective: &Objective,
        learning_rate: f64,
    ) -> Result<f64, Divergence> {
        let mut dropout = Dropout::new(&self.dropout, self.seed, self.optimizer.step);
        let scored = self.forward(batch, features, objective, &mut dropout);
        let old = self.old_table.as_ref();
        let loss = total_loss(scored, &batch.labels, objective, &self.exits, old);
        let grads = GradientsParams::from_grads(loss.backward(), &self.model);
        // Read only now: a GPU would wait here before it is given the backward pass.
        let value = host_values::<f64, _, 2>(loss)[0];
        if !value.is_finite() {
            return Err(Divergence::Loss(value));
        }
        let (model, _) = self.optimizer.step(self.model.clone(), grads, learning_rate)?;
        self.model = model;
        Ok(value)
    }

    fn forward(
        &self,
        batch: &Batch,
        features: &Tensor<B, 2>,
        objective: &Objective,
        dropout: &mut Dropout,
    ) -> Scored<B> {
        let [items, feature_dim] = features.dims();
        if let (Some(projector), None, None) =
            (&self.model.projector, &self.model.item_embedding, &self.model.item_norm)
        {
            let most = slices(&objective.dims).len() - self.columns_of_exits(&objective.dims);
            let count = factored_slices(&objective.dims, batch.labels.len(), items, feature_dim).min(most);
            if count > 0 {
                return factored_forward(&self.model, projector, count, batch, features, &objective.dims, dropout);
            }
        }
        let table = self.model.item_table(features.clone());
        let outputs = self.model.forward_depths(gather(table.clone(), &batch.tokens), &batch.keep, dropout);
        Scored { outputs, table, factored: None }
    }

    /// Leading slices that must be table columns: the first, and all that an exit reads.
    fn columns_of_exits(&self, dims: &[usize]) -> usize {
        let widest = self.exits.iter().map(Exit::dim).max().unwrap_or(0);
        dims.iter().take_while(|dim| **dim <= widest).count().max(1)
    }
}

/// How many of the last slices cost less as `(x W) features^T` than with their table columns formed.
/// Multiplications of one step: a slice of width w takes 2 n f w to project and backward and
/// 4 p n w to score (twice) and backward; factored it takes 2 p n f, and 3 p f w for `x W`.
fn factored_slices(dims: &[usize], positions: usize, items: usize, features: usize) -> usize {
    let cheaper = |width: usize| {
        let projected = 2 * items * features * width + 4 * positions * items * width;
        2 * positions * items * features + 3 * positions * features * width < projected
    };
    let most = (MOST_KEPT / (positions * items).max(1)).min(dims.len() - 1);
    slices(dims).iter().rev().take(most).take_while(|slice| cheaper(slice.len())).count()
}

/// The forward pass with the last `count` slices factored. Their bias adds the same to every item's
/// score, which the softmax does not see.
fn factored_forward<B: TrainingBackend>(
    model: &FmrlRec<B>,
    projector: &Projector<B>,
    count: usize,
    batch: &Batch,
    features: &Tensor<B, 2>,
    dims: &[usize],
    dropout: &mut Dropout,
) -> Scored<B> {
    let (head, width) = (dims[dims.len() - count - 1], dims[dims.len() - 1]);
    let table = projector.forward(features.clone(), 0..head);
    let tail = projector.forward(gather(features.clone(), &batch.tokens), head..width);
    let tokens = Tensor::cat(vec![gather(table.clone(), &batch.tokens), tail], 1);
    let outputs = model.forward_depths(tokens, &batch.keep, dropout);
    let x = &outputs[outputs.len() - 1];
    let product = |slice: &std::ops::Range<usize>| {
        let weight = projector.weight.val().narrow(0, slice.start, slice.len());
        x.clone().narrow(1, slice.start, slice.len()).matmul(weight)
    };
    let products = slices(dims)[dims.len() - count..].iter().map(product).collect();
    let factored = Factored {
        products: Tensor::cat(products, 1).into_primitive().tensor(),
        features: features.clone().into_primitive().tensor(),
    };
    Scored { outputs, table, factored: Some(factored) }
}

/// The last block's loss plus those of the exits and against older item vectors.
fn total_loss<B: TrainingBackend>(
    scored: Scored<B>,
    labels: &[u32],
    objective: &Objective,
    exits: &[Exit],
    old: Option<&OldTable<B>>,
) -> Tensor<B, 2> {
    let Scored { outputs, table, factored } = scored;
    let last = &outputs[outputs.len() - 1];
    let columns = |tensor: &Tensor<B, 2>, width: usize| tensor.clone().narrow(1, 0, width);
    let mut total = nested_loss(columns(last, table.dims()[1]), table.clone(), factored, labels, objective);
    for exit in exits {
        let (x, table) = (columns(&outputs[exit.depth - 1], exit.dim()), columns(&table, exit.dim()));
        total = total + nested_loss(x, table, None, labels, &exit.objective);
    }
    if let Some((old, (x, labels))) = old.and_then(|old| Some((old, old.select(last, labels)?))) {
        total = total + nested_loss(x, old.table.clone(), None, &labels, &old.objective);
    }
    total
}

/// The weighted cross entropy over dims and positions, `[1, 1]`.
///
/// # Shapes
/// `x` `[p, P]`, `table` `[n + 1, P]`, `labels` `p`.
fn nested_loss<B: NestedBackend>(
    x: Tensor<B, 2>,
    table: Tensor<B, 2>,
    factored: Option<Factored<B>>,
    labels: &[u32],
    objective: &Objective,
) -> Tensor<B, 2> {
    let (x, table) = (x.into_primitive().tensor(), table.into_primitive().tensor());
    let result = B::nested_cross_entropy(x, table, factored, labels, objective);
    Tensor::from_primitive(TensorPrimitive::Float(result.loss))
}
