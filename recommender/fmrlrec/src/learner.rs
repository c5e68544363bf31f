//! One training step: item vectors, forward, nested loss, backward, AdamW.

use crate::data::Batch;
use crate::model::dropout::Dropout;
use crate::model::{FmrlRec, Projector, gather};
use crate::ops::{Factored, NestedBackend, Objective, host_values, slices};
use crate::{AdamW, TrainingBackend};
use burn::optim::GradientsParams;
use burn::tensor::backend::AutodiffBackend;
use burn::tensor::{Tensor, TensorPrimitive};

/// Most memory for the kept products of factored slices, in elements.
const MOST_KEPT: usize = 1 << 27;

/// A model and its optimizer.
#[derive(Debug)]
pub struct Learner<B: AutodiffBackend> {
    /// The model.
    pub model: FmrlRec<B>,
    /// Its optimizer, which also counts the steps.
    pub optimizer: AdamW,
    /// Share of activations dropped.
    pub dropout: f64,
    /// With the step's number it fixes the dropout masks.
    pub seed: u64,
}

impl<B: TrainingBackend> Learner<B> {
    /// One step at `learning_rate`; gives the loss before it.
    ///
    /// # Shapes
    /// `features` `[n + 1, f]`; the objective's dims are the model's nesting dims.
    pub fn step(&mut self, batch: &Batch, features: &Tensor<B, 2>, objective: &Objective, learning_rate: f64) -> f64 {
        let mut dropout = Dropout::new(self.dropout, self.seed, self.optimizer.step);
        let [items, feature_dim] = features.dims();
        let factored = match (&self.model.projector, &self.model.item_embedding) {
            (Some(_), None) => factored_slices(&objective.dims, batch.labels.len(), items, feature_dim),
            _ => 0,
        };
        let loss = match &self.model.projector {
            Some(projector) if factored > 0 => {
                factored_loss(&self.model, projector, factored, batch, features, objective, &mut dropout)
            }
            _ => {
                let table = self.model.item_table(features.clone());
                let x = self.model.forward(gather(table.clone(), &batch.tokens), &batch.keep, &mut dropout);
                nested_loss(x, table, None, &batch.labels, objective)
            }
        };
        let value = host_values::<f64, _, 2>(loss.clone())[0];
        let grads = GradientsParams::from_grads(loss.backward(), &self.model);
        let (model, _) = self.optimizer.step(self.model.clone(), grads, learning_rate);
        self.model = model;
        value
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

/// The same loss with the last `count` slices factored. Their bias adds the same to every item's
/// score, which the softmax does not see.
fn factored_loss<B: NestedBackend>(
    model: &FmrlRec<B>,
    projector: &Projector<B>,
    count: usize,
    batch: &Batch,
    features: &Tensor<B, 2>,
    objective: &Objective,
    dropout: &mut Dropout,
) -> Tensor<B, 2> {
    let dims = &objective.dims;
    let (head, width) = (dims[dims.len() - count - 1], dims[dims.len() - 1]);
    let table = projector.forward(features.clone(), 0..head);
    let tail = projector.forward(gather(features.clone(), &batch.tokens), head..width);
    let tokens = Tensor::cat(vec![gather(table.clone(), &batch.tokens), tail], 1);
    let x = model.forward(tokens, &batch.keep, dropout);
    let product = |slice: &std::ops::Range<usize>| {
        let weight = projector.weight.val().narrow(0, slice.start, slice.len());
        x.clone().narrow(1, slice.start, slice.len()).matmul(weight)
    };
    let products = slices(dims)[dims.len() - count..].iter().map(product).collect();
    let factored = Factored {
        products: Tensor::cat(products, 1).into_primitive().tensor(),
        features: features.clone().into_primitive().tensor(),
    };
    nested_loss(x.clone().narrow(1, 0, head), table, Some(factored), &batch.labels, objective)
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
