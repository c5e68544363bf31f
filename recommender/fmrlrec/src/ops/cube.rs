//! Kernels for GPUs. The scan: one thread a (sequence, channel), sequential in time; the tensor operations of
//! `portable` would read and write every state once a round. Dropout masks: random words of the CPU's generator,
//! formed on the device. AdamW: one launch a parameter instead of some fourteen. The loss stays with `portable`:
//! it is matrix products, which the backend has kernels for.

use super::scan_kernels::{scan_backward, scan_forward};
use super::step_kernels::{ConstantsLaunch, adamw, dropout_mask};
use super::{Mask, NestedBackend, Update, UpdateBackend, host_values};
use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensorOps;
use burn::tensor::{Int, Shape, Tensor, TensorData, TensorPrimitive};
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{BoolElement, CubeBackend, CubeRuntime, FloatElement, IntElement};
use cubecl::calculate_cube_count_elemwise;
use cubecl::prelude::*;

impl<R: CubeRuntime, F: FloatElement, I: IntElement, BT: BoolElement> NestedBackend for CubeBackend<R, F, I, BT> {
    fn lru_scan(u: CubeTensor<R>, lambda: CubeTensor<R>, keep: &[f32]) -> CubeTensor<R> {
        let (u, lambda) = (into_contiguous(u), into_contiguous(lambda));
        let (starts, sequences) = starts::<Self>(keep, &u.device);
        let h = like(&u, u.meta.shape().clone());
        let units = sequences * lambda.meta.shape()[1];
        let cube_dim = CubeDim::new(&u.client, units);
        scan_forward::launch::<R>(
            &u.client.clone(),
            calculate_cube_count_elemwise(&u.client, units, cube_dim),
            cube_dim,
            u.clone().into_tensor_arg(),
            lambda.into_tensor_arg(),
            starts.clone().into_tensor_arg(),
            h.clone().into_tensor_arg(),
            [u.dtype.into(), starts.dtype.into()],
        );
        h
    }

    fn lru_scan_backward(
        h: CubeTensor<R>,
        lambda: CubeTensor<R>,
        keep: &[f32],
        grad: CubeTensor<R>,
    ) -> [CubeTensor<R>; 2] {
        let (h, lambda, grad) = (into_contiguous(h), into_contiguous(lambda), into_contiguous(grad));
        let (starts, sequences) = starts::<Self>(keep, &h.device);
        let d = lambda.meta.shape()[1];
        let du = like(&h, h.meta.shape().clone());
        // A sequence's share of lambda's gradient a row: summed below, in a fixed order.
        let shares = like(&h, Shape::new([sequences, 2 * d]));
        let units = sequences * d;
        let cube_dim = CubeDim::new(&h.client, units);
        scan_backward::launch::<R>(
            &h.client.clone(),
            calculate_cube_count_elemwise(&h.client, units, cube_dim),
            cube_dim,
            h.clone().into_tensor_arg(),
            lambda.into_tensor_arg(),
            starts.clone().into_tensor_arg(),
            grad.into_tensor_arg(),
            du.clone().into_tensor_arg(),
            shares.clone().into_tensor_arg(),
            [h.dtype.into(), starts.dtype.into()],
        );
        let shares = Tensor::<Self, 2>::from_primitive(TensorPrimitive::Float(shares));
        [du, shares.sum_dim(0).reshape([2, d]).into_primitive().tensor()]
    }

    fn dropout_mask(mask: &Mask, rows: usize, device: &Self::Device) -> CubeTensor<R> {
        let width = mask.columns.len();
        // Thresholds as bits, as the state: there are no unsigned tensors.
        let thresholds = mask.columns.iter().map(|column| column.threshold as i32);
        let words: Vec<i32> = chacha_state(mask).into_iter().chain(thresholds).collect();
        let words = Tensor::<Self, 1, Int>::from_data(TensorData::new(words, [16 + width]), device).into_primitive();
        let scales: Vec<f32> = mask.columns.iter().map(|column| column.scale).collect();
        let scales = Tensor::<Self, 1>::from_data(TensorData::new(scales, [width]), device).into_primitive().tensor();
        let out = empty_device_contiguous_dtype(words.client.clone(), device.clone(), [rows, width].into(), F::dtype());
        let skip = (mask.start % 16) as usize;
        let units = (skip + rows * width).div_ceil(16);
        let cube_dim = CubeDim::new(&out.client, units);
        dropout_mask::launch::<R>(
            &out.client.clone(),
            calculate_cube_count_elemwise(&out.client, units, cube_dim),
            cube_dim,
            words.clone().into_tensor_arg(),
            scales.into_tensor_arg(),
            out.clone().into_tensor_arg(),
            skip,
            [out.dtype.into(), words.dtype.into()],
        );
        out
    }
}

impl<R: CubeRuntime, F: FloatElement, I: IntElement, BT: BoolElement> UpdateBackend for CubeBackend<R, F, I, BT> {
    fn adamw(
        values: CubeTensor<R>,
        grad: CubeTensor<R>,
        moments: CubeTensor<R>,
        update: &Update,
    ) -> [CubeTensor<R>; 2] {
        let (values, grad, moments) = (into_contiguous(values), into_contiguous(grad), into_contiguous(moments));
        let updated = like(&values, values.meta.shape().clone());
        let updated_moments = like(&moments, moments.meta.shape().clone());
        let units = values.meta.num_elements();
        let cube_dim = CubeDim::new(&values.client, units);
        adamw::launch::<R>(
            &values.client.clone(),
            calculate_cube_count_elemwise(&values.client, units, cube_dim),
            cube_dim,
            values.clone().into_tensor_arg(),
            grad.into_tensor_arg(),
            moments.into_tensor_arg(),
            constants(update),
            updated.clone().into_tensor_arg(),
            updated_moments.clone().into_tensor_arg(),
            values.dtype.into(),
        );
        [updated, updated_moments]
    }

    /// Each tensor in f32 on the device, their sum in f64; one transfer for all.
    fn sum_of_squares(tensors: &[CubeTensor<R>]) -> f64 {
        let squares = |tensor: &CubeTensor<R>| {
            let square = Self::float_mul(tensor.clone(), tensor.clone());
            Tensor::<Self, 1>::from_primitive(TensorPrimitive::Float(Self::float_sum(square)))
        };
        let squares: Vec<_> = tensors.iter().map(squares).collect();
        if squares.is_empty() {
            return 0.0;
        }
        host_values::<f64, _, 1>(Tensor::cat(squares, 0)).iter().sum()
    }
}

fn constants<R: Runtime>(update: &Update) -> ConstantsLaunch<R> {
    let Update { clip, beta_1, beta_2, epsilon, decay, rate, root } = *update;
    let rests = (1.0 - beta_1, 1.0 - beta_2);
    let values = [clip, beta_1, rests.0, beta_2, rests.1, epsilon, decay, rate, root];
    let [clip, beta_1, rest_1, beta_2, rest_2, epsilon, decay, rate, root] = values.map(|value| value as f32);
    ConstantsLaunch::new(clip, beta_1, rest_1, beta_2, rest_2, epsilon, decay, rate, root)
}

/// ChaCha's input for the block of the mask's first word: its constants, the key, the block's number, the stream.
fn chacha_state(mask: &Mask) -> [i32; 16] {
    let mut state = [0; 16];
    let (text, key) = (b"expand 32-byte k".chunks_exact(4), mask.key.chunks_exact(4));
    for (word, bytes) in state.iter_mut().zip(text.chain(key)) {
        *word = i32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    }
    let block = mask.start / 16;
    // Halves of 64-bit numbers, as bits.
    for (at, number) in [(12, block), (14, mask.stream)] {
        state[at] = number as u32 as i32;
        state[at + 1] = (number >> 32) as u32 as i32;
    }
    state
}

/// Where each sequence starts, and the end of the last: `[sequences + 1]`.
fn starts<B: Backend>(keep: &[f32], device: &B::Device) -> (B::IntTensorPrimitive, usize) {
    let cut = |t: &usize| *t == 0 || keep[*t] == 0.0;
    let starts: Vec<i32> = (0..keep.len()).filter(cut).chain([keep.len()]).map(|t| t as i32).collect();
    let count = starts.len();
    (Tensor::<B, 1, Int>::from_data(TensorData::new(starts, [count]), device).into_primitive(), count - 1)
}

fn like<R: CubeRuntime>(tensor: &CubeTensor<R>, shape: Shape) -> CubeTensor<R> {
    empty_device_contiguous_dtype(tensor.client.clone(), tensor.device.clone(), shape, tensor.dtype)
}
