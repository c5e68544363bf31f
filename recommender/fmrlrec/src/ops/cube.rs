//! The scan as a kernel for GPUs: one thread a (sequence, channel), sequential in time. The tensor
//! operations of `portable` would read and write every state once a round. The loss stays with
//! `portable`: it is matrix products, which the backend has kernels for.

use super::NestedBackend;
use super::scan_kernels::{scan_backward, scan_forward};
use burn::tensor::backend::Backend;
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
