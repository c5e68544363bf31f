//! How the own operations enter burn's autodiff graph. A custom operation has one output, so real
//! and imaginary parts travel in one tensor.

use super::{Factored, LossAndGrads, Mask, NestedBackend, Objective};
use burn::backend::Autodiff;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::tensor::backend::AutodiffBackend;
use burn::tensor::ops::FloatTensor;

#[derive(Debug)]
struct Scan;

impl<B: NestedBackend> Backward<B, 2> for Scan {
    /// Output `h`, lambda, keep.
    type State = (FloatTensor<B>, FloatTensor<B>, Vec<f32>);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [u, lambda] = ops.parents;
        let (h, values, keep) = ops.state;
        let grad = grads.consume::<B>(&ops.node);
        let [du, dlambda] = B::lru_scan_backward(h, values, &keep, grad);
        if let Some(node) = u {
            grads.register::<B>(node.id, du);
        }
        if let Some(node) = lambda {
            grads.register::<B>(node.id, dlambda);
        }
    }
}

#[derive(Debug)]
struct Norm;

impl<B: NestedBackend> Backward<B, 2> for Norm {
    /// Input, parameters, widths of the slices.
    type State = (FloatTensor<B>, FloatTensor<B>, Vec<usize>);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (x, params, widths) = ops.state;
        let grad = grads.consume::<B>(&ops.node);
        let found = B::nested_norm_backward(x, params, &widths, grad);
        for (node, grad) in ops.parents.into_iter().zip(found) {
            if let Some(node) = node {
                grads.register::<B>(node.id, grad);
            }
        }
    }
}

#[derive(Debug)]
struct Loss;

impl<B: NestedBackend, const N: usize> Backward<B, N> for Loss {
    /// The gradients, formed together with the loss.
    type State = [FloatTensor<B>; N];

    fn backward(self, ops: Ops<Self::State, N>, grads: &mut Gradients, _: &mut Checkpointer) {
        let factor = grads.consume::<B>(&ops.node);
        for (node, grad) in ops.parents.into_iter().zip(ops.state) {
            if let Some(node) = node {
                grads.register::<B>(node.id, B::scaled(grad, factor.clone()));
            }
        }
    }
}

impl<B: NestedBackend, C: CheckpointStrategy> NestedBackend for Autodiff<B, C> {
    fn lru_scan(u: FloatTensor<Self>, lambda: FloatTensor<Self>, keep: &[f32]) -> FloatTensor<Self> {
        let h = B::lru_scan(u.primitive.clone(), lambda.primitive.clone(), keep);
        match Scan.prepare::<C>([u.node.clone(), lambda.node.clone()]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((h.clone(), lambda.primitive, keep.to_vec()), h),
            OpsKind::UnTracked(prep) => prep.finish(h),
        }
    }

    fn lru_scan_backward(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: &[f32],
        _: FloatTensor<Self>,
    ) -> [FloatTensor<Self>; 2] {
        panic!("the scan has no second derivative: nothing in training asks for one")
    }

    fn nested_norm(x: FloatTensor<Self>, params: FloatTensor<Self>, widths: &[usize]) -> FloatTensor<Self> {
        let y = B::nested_norm(x.primitive.clone(), params.primitive.clone(), widths);
        match Norm.prepare::<C>([x.node.clone(), params.node.clone()]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((x.primitive, params.primitive, widths.to_vec()), y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }

    fn nested_norm_backward(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: &[usize],
        _: FloatTensor<Self>,
    ) -> [FloatTensor<Self>; 2] {
        panic!("the norm has no second derivative: nothing in training asks for one")
    }

    fn dropout_mask(mask: &Mask, rows: usize, device: &Self::Device) -> FloatTensor<Self> {
        <Self as AutodiffBackend>::from_inner(B::dropout_mask(mask, rows, device))
    }

    fn nested_cross_entropy(
        x: FloatTensor<Self>,
        table: FloatTensor<Self>,
        factored: Option<Factored<Self>>,
        labels: &[u32],
        objective: &Objective,
    ) -> LossAndGrads<Self> {
        let products = factored.as_ref().map(|slices| slices.products.clone());
        let factored = factored
            .map(|slices| Factored { products: slices.products.primitive, features: slices.features.primitive });
        let values = (x.primitive.clone(), table.primitive.clone());
        let result = B::nested_cross_entropy(values.0, values.1, factored, labels, objective);
        let (dx, dtable, dfactored) = (result.dx, result.dtable, result.dfactored);
        let constant = |grad: &FloatTensor<B>| <Self as AutodiffBackend>::from_inner(grad.clone());
        let constants = (constant(&dx), constant(&dtable), dfactored.as_ref().map(constant));
        let loss = match (products, dfactored) {
            (Some(products), Some(dfactored)) => {
                track::<B, C, 3>([x, table, products], [dx, dtable, dfactored], result.loss)
            }
            _ => track::<B, C, 2>([x, table], [dx, dtable], result.loss),
        };
        LossAndGrads { loss, dx: constants.0, dtable: constants.1, dfactored: constants.2 }
    }
}

/// The loss as a node of the graph, with the gradients of its parents.
fn track<B: NestedBackend, C: CheckpointStrategy, const N: usize>(
    parents: [FloatTensor<Autodiff<B, C>>; N],
    grads: [FloatTensor<B>; N],
    loss: FloatTensor<B>,
) -> FloatTensor<Autodiff<B, C>> {
    match Loss.prepare::<C>(parents.map(|parent| parent.node)).compute_bound().stateful() {
        OpsKind::Tracked(prep) => prep.finish(grads, loss),
        OpsKind::UnTracked(prep) => prep.finish(loss),
    }
}
