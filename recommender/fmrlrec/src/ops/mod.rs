//! The two operations that are worth own code: the scan and the nested cross entropy, each with
//! its backward. Tensor operations would take 10 times as long for the scan and materialise
//! dims x positions x items for the loss.
//!
//! They compute on host slices, in f32. On CPU that is where the tensors live. Another backend
//! implements [`NestedBackend`] with kernels of its own; the autodiff side stays as it is.

mod autodiff;
mod cross_entropy;
mod exp;
mod product;
mod scan;

pub use cross_entropy::{CrossEntropy, nested_cross_entropy};
pub use product::{add_slice_scores, slices};
pub use scan::{lru_scan, lru_scan_backward};

use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;
use burn::tensor::{Tensor, TensorData, TensorPrimitive};
use burn_flex::Flex;

/// A backend on which the model runs.
pub trait NestedBackend: Backend {
    /// `h_t = u_t + keep_t lambda h_{t-1}`.
    ///
    /// # Shapes
    /// `u` `[t, 2 d]` (real parts, then imaginary), `lambda` `[2, d]`, `keep` `[t]` -> `[t, 2 d]`.
    fn lru_scan(u: FloatTensor<Self>, lambda: FloatTensor<Self>, keep: &[f32]) -> FloatTensor<Self>;

    /// Gradients of [`NestedBackend::lru_scan`] for `u` and `lambda`, from its output `h` and the
    /// output's gradient, both `[t, 2 d]`.
    fn lru_scan_backward(
        h: FloatTensor<Self>,
        lambda: FloatTensor<Self>,
        keep: &[f32],
        grad: FloatTensor<Self>,
    ) -> [FloatTensor<Self>; 2];

    /// Mean cross entropy over (dim, position) pairs, shape `[1]`.
    ///
    /// # Shapes
    /// `x` `[p, D]` user vectors, `table` `[n + 1, D]`, `labels` `p` item ids.
    fn nested_cross_entropy(
        x: FloatTensor<Self>,
        table: FloatTensor<Self>,
        labels: &[u32],
        dims: &[usize],
    ) -> FloatTensor<Self>;
}

impl NestedBackend for Flex {
    fn lru_scan(u: FloatTensor<Self>, lambda: FloatTensor<Self>, keep: &[f32]) -> FloatTensor<Self> {
        let (u, shape) = to_host::<Self>(u);
        let (lambda, _) = to_host::<Self>(lambda);
        from_host::<Self>(lru_scan(&u, &lambda, keep), shape)
    }

    fn lru_scan_backward(
        h: FloatTensor<Self>,
        lambda: FloatTensor<Self>,
        keep: &[f32],
        grad: FloatTensor<Self>,
    ) -> [FloatTensor<Self>; 2] {
        let (h, shape) = to_host::<Self>(h);
        let (lambda, lambda_shape) = to_host::<Self>(lambda);
        let (grad, _) = to_host::<Self>(grad);
        let (du, dlambda) = lru_scan_backward(&h, &lambda, keep, &grad);
        [from_host::<Self>(du, shape), from_host::<Self>(dlambda, lambda_shape)]
    }

    fn nested_cross_entropy(
        x: FloatTensor<Self>,
        table: FloatTensor<Self>,
        labels: &[u32],
        dims: &[usize],
    ) -> FloatTensor<Self> {
        let (x, _) = to_host::<Self>(x);
        let (table, _) = to_host::<Self>(table);
        let result = nested_cross_entropy(&x, &table, labels, dims);
        from_host::<Self>(vec![result.loss as f32], [1, 1])
    }
}

/// Elements and shape of a matrix.
fn to_host<B: Backend>(tensor: FloatTensor<B>) -> (Vec<f32>, [usize; 2]) {
    let tensor: Tensor<B, 2> = Tensor::from_primitive(TensorPrimitive::Float(tensor));
    let shape = tensor.dims();
    (host_values(tensor), shape)
}

/// Elements of a tensor, row-major.
pub fn host_values<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> Vec<f32> {
    tensor.into_data().convert::<f32>().into_vec().expect("the data was just converted to f32")
}

fn from_host<B: Backend>(values: Vec<f32>, shape: [usize; 2]) -> FloatTensor<B> {
    B::float_from_data(TensorData::new(values, shape), &B::Device::default())
}
