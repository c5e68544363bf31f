//! The AdamW update of one parameter and the norm of all gradients, where parameters live: nothing of a step
//! leaves the device but its loss and its norm.

use super::real::Real;
use burn::tensor::DType;
use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;
use burn_flex::{Flex, FlexTensor};
use rayon::prelude::*;

/// Elements that one thread updates at a time.
const CHUNK: usize = 1 << 15;

/// Constants of one parameter's update in one step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Update {
    /// Factor that brings the gradients to the largest norm allowed, at most 1.
    pub clip: f64,
    /// Decay of the first moment.
    pub beta_1: f64,
    /// Decay of the second moment.
    pub beta_2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Share of a value that decoupled weight decay takes.
    pub decay: f64,
    /// Learning rate over the first moment's bias correction.
    pub rate: f64,
    /// Root of the second moment's bias correction.
    pub root: f64,
}

/// A backend on which parameters are updated.
pub trait UpdateBackend: Backend {
    /// Torch's AdamW: gives the values and moments after it.
    ///
    /// # Shapes
    /// `values` and `grad` of one shape, `n` elements; `moments` `[2, n]` (first, then second).
    fn adamw(
        values: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        moments: FloatTensor<Self>,
        update: &Update,
    ) -> [FloatTensor<Self>; 2];

    /// Sum of the squares of all elements.
    fn sum_of_squares(tensors: &[FloatTensor<Self>]) -> f64;

    /// The same tensors row by row. Gradients of matrices come transposed and are read twice, and a CPU would turn them
    /// each time. A GPU reads them as they lie for the squares, and turns them in `adamw`.
    fn row_by_row(tensors: Vec<FloatTensor<Self>>) -> Vec<FloatTensor<Self>> {
        tensors
    }
}

impl UpdateBackend for Flex {
    fn adamw(values: FlexTensor, grad: FlexTensor, moments: FlexTensor, update: &Update) -> [FlexTensor; 2] {
        match values.dtype() {
            DType::F64 => flex_adamw::<f64>(values, grad, moments, update),
            _ => flex_adamw::<f32>(values, grad, moments, update),
        }
    }

    fn sum_of_squares(tensors: &[FlexTensor]) -> f64 {
        let squares = |tensor: &FlexTensor| match tensor.dtype() {
            DType::F64 => squares::<f64>(tensor),
            _ => squares::<f32>(tensor),
        };
        tensors.iter().map(squares).sum()
    }

    fn row_by_row(tensors: Vec<FlexTensor>) -> Vec<FlexTensor> {
        tensors.into_par_iter().map(|tensor| tensor.to_contiguous()).collect()
    }
}

/// Chunks are added up in order, so that the number of threads does not matter.
fn squares<T: Real>(tensor: &FlexTensor) -> f64 {
    let of_chunk = |chunk: &[T]| chunk.iter().map(|value| value.into_f64().powi(2)).sum::<f64>();
    tensor.to_contiguous().storage().par_chunks(CHUNK).map(of_chunk).collect::<Vec<f64>>().into_iter().sum()
}

fn flex_adamw<T: Real>(values: FlexTensor, grad: FlexTensor, moments: FlexTensor, update: &Update) -> [FlexTensor; 2] {
    // Moved, not borrowed: whoever holds a tensor alone changes it in place.
    let contiguous = |tensor: FlexTensor| FlexTensor::from_data(tensor.into_data());
    let (mut values, grad, mut moments) = (contiguous(values), grad.to_contiguous(), contiguous(moments));
    adamw::<T>(values.storage_mut(), grad.storage(), moments.storage_mut(), update);
    [values, moments]
}

/// In place and in f64; chunks go to all threads.
fn adamw<T: Real>(values: &mut [T], grad: &[T], moments: &mut [T], update: &Update) {
    let Update { clip, beta_1, beta_2, epsilon, decay, rate, root } = *update;
    let (first, second) = moments.split_at_mut(values.len());
    let chunks = values.par_chunks_mut(CHUNK).zip(grad.par_chunks(CHUNK));
    let moments = first.par_chunks_mut(CHUNK).zip(second.par_chunks_mut(CHUNK));
    chunks.zip(moments).for_each(|((values, grad), (first, second))| {
        pulp::Arch::new().dispatch(
            #[inline(always)]
            || {
                let moments = first.iter_mut().zip(second);
                for ((value, grad), (m, v)) in values.iter_mut().zip(grad).zip(moments) {
                    let g = T::from_f64(grad.into_f64() * clip).into_f64();
                    *m = T::from_f64(beta_1 * m.into_f64() + (1.0 - beta_1) * g);
                    *v = T::from_f64(beta_2 * v.into_f64() + (1.0 - beta_2) * g * g);
                    let denominator = v.into_f64().sqrt() / root + epsilon;
                    *value = T::from_f64(value.into_f64() * (1.0 - decay) - rate * m.into_f64() / denominator);
                }
            },
        );
    });
}
