//! Nested layers: the weights of the model of dim `s_i` are the leading part of the weights of
//! every larger one (paper section 3.2, after MatFormer).
//!
//! A layer works at every nesting dim: the width of its input says how many slices take part.

use super::init::Init;
use crate::ops::NestedBackend;
use burn::module::{Module, Param};
use burn::tensor::{Tensor, TensorPrimitive, backend::Backend};

/// One output slice of a nested linear layer: `y = x W^T + b`.
#[derive(Module, Debug)]
pub struct SliceLinear<B: Backend> {
    /// `[s_i - s_{i-1}, s_i]`.
    pub weight: Param<Tensor<B, 2>>,
    /// `[s_i - s_{i-1}]`; none where it could never matter.
    pub bias: Option<Param<Tensor<B, 1>>>,
}

/// Square linear layer whose output slice `i` (columns `s_{i-1}..s_i`) reads inputs `..s_i`.
#[derive(Module, Debug)]
pub struct NestedLinear<B: Backend> {
    /// One part a nesting dim, smallest first.
    pub slices: Vec<SliceLinear<B>>,
}

impl<B: Backend> NestedLinear<B> {
    /// Fresh weights from `init`; zero weights where `zero`.
    pub fn new(dims: &[usize], bias: bool, zero: bool, init: &mut Init<B>) -> NestedLinear<B> {
        let mut previous = 0;
        let mut slices = Vec::with_capacity(dims.len());
        for &dim in dims {
            let rows = dim - previous;
            let weight = if zero { init.zeros([rows, dim]) } else { init.truncated_normal([rows, dim]) };
            slices.push(SliceLinear { weight, bias: bias.then(|| init.zeros([rows])) });
            previous = dim;
        }
        NestedLinear { slices }
    }

    /// # Shapes
    /// `x` `[n, d]` for a nesting dim `d` -> `[n, d]`.
    pub fn forward(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        let mut parts = Vec::with_capacity(self.slices.len());
        for slice in leading(&self.slices, x.dims()[1], |slice| slice.weight.dims()[0]) {
            let weight = slice.weight.val();
            let [rows, reads] = weight.dims();
            let product = x.clone().narrow(1, 0, reads).matmul(weight.transpose());
            parts.push(match &slice.bias {
                Some(bias) => product + bias.val().reshape([1, rows]),
                None => product,
            });
        }
        Tensor::cat(parts, 1)
    }

    /// The layer of a smaller model: its leading slices, sharing memory with this one.
    pub fn slice(&self, dim: usize) -> NestedLinear<B> {
        NestedLinear { slices: leading(&self.slices, dim, |slice| slice.weight.dims()[0]).to_vec() }
    }
}

/// Scale and shift of one slice of a nested layer norm.
#[derive(Module, Debug)]
pub struct SliceNorm<B: Backend> {
    /// `[s_i - s_{i-1}]`.
    pub weight: Param<Tensor<B, 1>>,
    /// `[s_i - s_{i-1}]`.
    pub bias: Param<Tensor<B, 1>>,
}

/// One layer norm a slice, so that a larger model's norm never changes a smaller one's.
#[derive(Module, Debug)]
pub struct NestedLayerNorm<B: Backend> {
    /// One norm a nesting dim, smallest first.
    pub slices: Vec<SliceNorm<B>>,
}

impl<B: Backend> NestedLayerNorm<B> {
    /// The same `scale` everywhere, shift 0.
    pub fn new(dims: &[usize], scale: f64, init: &mut Init<B>) -> NestedLayerNorm<B> {
        let mut previous = 0;
        let mut slices = Vec::with_capacity(dims.len());
        for &dim in dims {
            let width = dim - previous;
            slices.push(SliceNorm { weight: init.constant(scale, [width]), bias: init.zeros([width]) });
            previous = dim;
        }
        NestedLayerNorm { slices }
    }

    /// The norm of a smaller model.
    pub fn slice(&self, dim: usize) -> NestedLayerNorm<B> {
        NestedLayerNorm { slices: leading(&self.slices, dim, |slice| slice.weight.dims()[0]).to_vec() }
    }
}

impl<B: NestedBackend> NestedLayerNorm<B> {
    /// # Shapes
    /// `x` `[n, d]` for a nesting dim `d` -> `[n, d]`.
    pub fn forward(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        let slices = leading(&self.slices, x.dims()[1], |slice| slice.weight.dims()[0]);
        let widths: Vec<usize> = slices.iter().map(|slice| slice.weight.dims()[0]).collect();
        let row = |param: &Param<Tensor<B, 1>>| param.val().unsqueeze::<2>();
        let scale = Tensor::cat(slices.iter().map(|slice| row(&slice.weight)).collect(), 1);
        let shift = Tensor::cat(slices.iter().map(|slice| row(&slice.bias)).collect(), 1);
        let (x, params) = (x.into_primitive().tensor(), Tensor::cat(vec![scale, shift], 0).into_primitive().tensor());
        Tensor::from_primitive(TensorPrimitive::Float(B::nested_norm(x, params, &widths)))
    }
}

/// The leading slices whose widths add up to `dim`.
fn leading<T>(slices: &[T], dim: usize, width: impl Fn(&T) -> usize) -> &[T] {
    let mut total = 0;
    let count = slices
        .iter()
        .take_while(|slice| {
            total < dim && {
                total += width(slice);
                true
            }
        })
        .count();
    assert_eq!(total, dim, "dim {dim} is not a nesting dim of this layer");
    &slices[..count]
}
