//! The operations that are worth own code: the scan, the nested layer norm and the nested cross entropy, each
//! with its backward; dropout masks, and AdamW's update. Tensor operations would take 10 times as long for the scan, pass over the item table some
//! thirty times for its norm, and materialise dims x positions x items for the loss.
//!
//! On CPU they compute on host slices, where the tensors live, in f32 or f64. Any other backend gets
//! [`portable`] tensor operations, and a GPU kernels for the scan, dropout and AdamW; the autodiff side stays as it is.

mod autodiff;
mod cross_entropy;
#[cfg(any(feature = "cuda", feature = "wgpu"))]
mod cube;
mod exp;
mod mask;
mod norm;
pub mod portable;
mod product;
mod real;
mod scan;
#[cfg(any(feature = "cuda", feature = "wgpu"))]
mod scan_kernels;
mod softmax;
#[cfg(any(feature = "cuda", feature = "wgpu"))]
mod step_kernels;
mod update;

pub use cross_entropy::{CrossEntropy, Objective, Scoring, nested_cross_entropy};
pub use mask::{Mask, MaskColumn};
pub use norm::{LAYER_NORM_EPS, nested_norm, nested_norm_backward};
pub(crate) use product::{Matrix, multiply_add};
pub use product::{add_slice_scores, slices};
pub use real::Real;
pub use scan::{lru_scan, lru_scan_backward};
pub use update::{Update, UpdateBackend};

use burn::tensor::backend::Backend;
use burn::tensor::ops::{FloatTensor, FloatTensorOps};
use burn::tensor::{DType, Shape, Tensor, TensorData};
use burn_flex::{Flex, FlexTensor};

/// A backend on which the model runs.
pub trait NestedBackend: Backend {
    /// `h_t = u_t + keep_t lambda h_{t-1}`.
    ///
    /// # Shapes
    /// `u` `[t, 2 d]` (real parts, then imaginary), `lambda` `[2, d]`, `keep` `[t]` -> `[t, 2 d]`.
    fn lru_scan(u: FloatTensor<Self>, lambda: FloatTensor<Self>, keep: &[f32]) -> FloatTensor<Self> {
        portable::lru_scan::<Self>(u, lambda, keep)
    }

    /// Gradients of [`NestedBackend::lru_scan`] for `u` and `lambda`, from its output `h` and the
    /// output's gradient, both `[t, 2 d]`.
    fn lru_scan_backward(
        h: FloatTensor<Self>,
        lambda: FloatTensor<Self>,
        keep: &[f32],
        grad: FloatTensor<Self>,
    ) -> [FloatTensor<Self>; 2] {
        portable::lru_scan_backward::<Self>(h, lambda, keep, grad)
    }

    /// One layer norm a slice.
    ///
    /// # Shapes
    /// `x` `[n, d]`, `params` `[2, d]` (scale, then shift), `widths` of the slices -> `[n, d]`.
    fn nested_norm(x: FloatTensor<Self>, params: FloatTensor<Self>, widths: &[usize]) -> FloatTensor<Self> {
        portable::nested_norm::<Self>(x, params, widths)
    }

    /// Gradients of [`NestedBackend::nested_norm`] for `x` and `params`, from its input and the output's
    /// gradient `[n, d]`.
    fn nested_norm_backward(
        x: FloatTensor<Self>,
        params: FloatTensor<Self>,
        widths: &[usize],
        grad: FloatTensor<Self>,
    ) -> [FloatTensor<Self>; 2] {
        portable::nested_norm_backward::<Self>(x, params, widths, grad)
    }

    /// `tensor` `[n, d]` times `factor` `[1, 1]`. Where reading the factor costs nothing, nothing is done for a factor of
    /// 1: a GPU must not wait for it.
    fn scaled(tensor: FloatTensor<Self>, factor: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::float_mul(tensor, factor)
    }

    /// `rows` rows of a dropout mask, the same on every backend: each element is 0 or its column's scale.
    ///
    /// # Shapes
    /// `[rows, D]` for a mask of `D` columns.
    fn dropout_mask(mask: &Mask, rows: usize, device: &Self::Device) -> FloatTensor<Self> {
        let values = TensorData::new(mask.values(rows), [rows, mask.columns.len()]);
        Tensor::<Self, 2>::from_data(values, device).into_primitive().tensor()
    }

    /// Cross entropy over all dims with its gradients: forming them together costs less than keeping
    /// what a later backward would need.
    ///
    /// # Shapes
    /// As in [`Scoring`]: `x` `[p, P]` user vectors, `table` `[n + 1, P]`, `labels` `p` item ids.
    fn nested_cross_entropy(
        x: FloatTensor<Self>,
        table: FloatTensor<Self>,
        factored: Option<Factored<Self>>,
        labels: &[u32],
        objective: &Objective,
    ) -> LossAndGrads<Self> {
        portable::nested_cross_entropy::<Self>(x, table, factored, labels, objective)
    }
}

/// The slices whose table columns are not formed.
#[derive(Debug)]
pub struct Factored<B: Backend> {
    /// `[p, k f]`: `x W` of each slice.
    pub products: FloatTensor<B>,
    /// `[n + 1, f]`: constant.
    pub features: FloatTensor<B>,
}

/// What [`NestedBackend::nested_cross_entropy`] gives.
#[derive(Debug)]
pub struct LossAndGrads<B: Backend> {
    /// `[1, 1]`.
    pub loss: FloatTensor<B>,
    /// `[p, P]`.
    pub dx: FloatTensor<B>,
    /// `[n + 1, P]`.
    pub dtable: FloatTensor<B>,
    /// `[p, k f]`, if there are factored slices.
    pub dfactored: Option<FloatTensor<B>>,
}

impl NestedBackend for Flex {
    fn scaled(tensor: FlexTensor, factor: FlexTensor) -> FlexTensor {
        let one = match factor.dtype() {
            DType::F64 => factor.to_contiguous().storage::<f64>()[0] == 1.0,
            _ => factor.to_contiguous().storage::<f32>()[0] == 1.0,
        };
        if one { tensor } else { Flex::float_mul(tensor, factor) }
    }

    fn lru_scan(u: FlexTensor, lambda: FlexTensor, keep: &[f32]) -> FlexTensor {
        match u.dtype() {
            DType::F64 => flex_scan::<f64>(u, lambda, keep),
            _ => flex_scan::<f32>(u, lambda, keep),
        }
    }

    fn lru_scan_backward(h: FlexTensor, lambda: FlexTensor, keep: &[f32], grad: FlexTensor) -> [FlexTensor; 2] {
        match h.dtype() {
            DType::F64 => flex_scan_backward::<f64>(h, lambda, keep, grad),
            _ => flex_scan_backward::<f32>(h, lambda, keep, grad),
        }
    }

    fn nested_norm(x: FlexTensor, params: FlexTensor, widths: &[usize]) -> FlexTensor {
        match x.dtype() {
            DType::F64 => flex_norm::<f64>(x, params, widths),
            _ => flex_norm::<f32>(x, params, widths),
        }
    }

    fn nested_norm_backward(x: FlexTensor, params: FlexTensor, widths: &[usize], grad: FlexTensor) -> [FlexTensor; 2] {
        match x.dtype() {
            DType::F64 => flex_norm_backward::<f64>(x, params, widths, grad),
            _ => flex_norm_backward::<f32>(x, params, widths, grad),
        }
    }

    fn nested_cross_entropy(
        x: FlexTensor,
        table: FlexTensor,
        factored: Option<Factored<Flex>>,
        labels: &[u32],
        objective: &Objective,
    ) -> LossAndGrads<Flex> {
        match x.dtype() {
            DType::F64 => flex_cross_entropy::<f64>(x, table, factored, labels, objective),
            _ => flex_cross_entropy::<f32>(x, table, factored, labels, objective),
        }
    }
}

fn flex_scan<T: Real>(u: FlexTensor, lambda: FlexTensor, keep: &[f32]) -> FlexTensor {
    let (u, lambda) = (u.to_contiguous(), lambda.to_contiguous());
    flex(lru_scan::<T>(u.storage(), lambda.storage(), keep), u.layout().shape())
}

fn flex_scan_backward<T: Real>(h: FlexTensor, lambda: FlexTensor, keep: &[f32], grad: FlexTensor) -> [FlexTensor; 2] {
    let (h, lambda, grad) = (h.to_contiguous(), lambda.to_contiguous(), grad.to_contiguous());
    let (du, dlambda) = lru_scan_backward::<T>(h.storage(), lambda.storage(), keep, grad.storage());
    [flex(du, h.layout().shape()), flex(dlambda, lambda.layout().shape())]
}

fn flex_norm<T: Real>(x: FlexTensor, params: FlexTensor, widths: &[usize]) -> FlexTensor {
    let (x, params) = (x.to_contiguous(), params.to_contiguous());
    flex(nested_norm::<T>(x.storage(), params.storage(), widths), x.layout().shape())
}

fn flex_norm_backward<T: Real>(
    x: FlexTensor,
    params: FlexTensor,
    widths: &[usize],
    grad: FlexTensor,
) -> [FlexTensor; 2] {
    let (x, params, grad) = (x.to_contiguous(), params.to_contiguous(), grad.to_contiguous());
    let (dx, dparams) = nested_norm_backward::<T>(x.storage(), params.storage(), widths, grad.storage());
    [flex(dx, x.layout().shape()), flex(dparams, params.layout().shape())]
}

fn flex_cross_entropy<T: Real>(
    x: FlexTensor,
    table: FlexTensor,
    factored: Option<Factored<Flex>>,
    labels: &[u32],
    objective: &Objective,
) -> LossAndGrads<Flex> {
    let (x, table) = (x.to_contiguous(), table.to_contiguous());
    let factored = factored.map(|slices| (slices.products.to_contiguous(), slices.features.to_contiguous()));
    let (products, features) = factored.as_ref().map_or((&[][..], &[][..]), |(a, b)| (a.storage(), b.storage()));
    let scoring = Scoring { x: x.storage::<T>(), table: table.storage(), factored: products, features, labels };
    let result = nested_cross_entropy(scoring, objective);
    LossAndGrads {
        loss: flex(vec![T::from_f64(result.loss)], &Shape::new([1, 1])),
        dx: flex(result.dx, x.layout().shape()),
        dtable: flex(result.dtable, table.layout().shape()),
        dfactored: factored.map(|(products, _)| flex(result.dfactored, products.layout().shape())),
    }
}

/// A tensor of values, which are not copied.
fn flex<T: Real>(values: Vec<T>, shape: &Shape) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, shape.clone()))
}

/// Elements of a tensor, row-major.
pub fn host_values<T: Real, B: Backend, const D: usize>(tensor: Tensor<B, D>) -> Vec<T> {
    tensor.into_data().convert::<T>().into_vec().expect("the data was just converted")
}
