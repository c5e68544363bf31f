//! How the two operations enter burn's autodiff graph. A custom operation has one output, so real
//! and imaginary parts travel in one tensor.

use super::{NestedBackend, from_host, nested_cross_entropy, to_host};
use burn::backend::Autodiff;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::tensor::backend::Backend;
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
struct Loss;

impl<B: Backend> Backward<B, 2> for Loss {
    /// The gradients, formed together with the loss.
    type State = (FloatTensor<B>, FloatTensor<B>);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [x, table] = ops.parents;
        let (dx, dtable) = ops.state;
        let (factor, _) = to_host::<B>(grads.consume::<B>(&ops.node));
        for (node, grad) in [(x, dx), (table, dtable)] {
            if let Some(node) = node {
                // The loss is most often the root, and its own gradient is 1.
                let grad = if factor[0] == 1.0 { grad } else { B::float_mul_scalar(grad, factor[0].into()) };
                grads.register::<B>(node.id, grad);
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

    fn nested_cross_entropy(
        x: FloatTensor<Self>,
        table: FloatTensor<Self>,
        labels: &[u32],
        dims: &[usize],
    ) -> FloatTensor<Self> {
        let (x_values, x_shape) = to_host::<B>(x.primitive);
        let (table_values, table_shape) = to_host::<B>(table.primitive);
        let result = nested_cross_entropy(&x_values, &table_values, labels, dims);
        let loss = from_host::<B>(vec![result.loss as f32], [1, 1]);
        match Loss.prepare::<C>([x.node, table.node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let state = (from_host::<B>(result.dx, x_shape), from_host::<B>(result.dtable, table_shape));
                prep.finish(state, loss)
            }
            OpsKind::UnTracked(prep) => prep.finish(loss),
        }
    }
}
