//! The scan's kernels, forward and backward, in CubeCL: one thread a (sequence, channel).

use cubecl::prelude::*;

/// `h_t = u_t + lambda h_{t-1}` within each sequence; `u` and `h` are `[t, 2 d]`, `lambda` `[2, d]`.
#[cube(launch)]
pub(super) fn scan_forward<F: Float, I: Int>(
    u: &Tensor<F>,
    lambda: &Tensor<F>,
    starts: &Tensor<I>,
    h: &mut Tensor<F>,
    #[define(F, I)] _types: [StorageType; 2],
) {
    let d = lambda.shape(1);
    let sequence = ABSOLUTE_POS / d;
    let channel = ABSOLUTE_POS % d;
    if sequence + 1 >= starts.len() {
        terminate!();
    }
    let first = u32::cast_from(starts[sequence]) as usize;
    let end = u32::cast_from(starts[sequence + 1]) as usize;
    let lr = lambda[channel];
    let li = lambda[d + channel];
    let mut re = F::new(0.0);
    let mut im = F::new(0.0);
    for t in first..end {
        let at = t * 2 * d + channel;
        let next = u[at] + lr * re - li * im;
        im = u[at + d] + lr * im + li * re;
        re = next;
        h[at] = re;
        h[at + d] = im;
    }
}

/// Gradients of [`scan_forward`] from its output `h` and the output's gradient `grad`; `shares` is
/// `[sequences, 2 d]`.
#[cube(launch)]
pub(super) fn scan_backward<F: Float, I: Int>(
    h: &Tensor<F>,
    lambda: &Tensor<F>,
    starts: &Tensor<I>,
    grad: &Tensor<F>,
    du: &mut Tensor<F>,
    shares: &mut Tensor<F>,
    #[define(F, I)] _types: [StorageType; 2],
) {
    let d = lambda.shape(1);
    let sequence = ABSOLUTE_POS / d;
    let channel = ABSOLUTE_POS % d;
    if sequence + 1 >= starts.len() {
        terminate!();
    }
    let first = u32::cast_from(starts[sequence]) as usize;
    let end = u32::cast_from(starts[sequence + 1]) as usize;
    let lr = lambda[channel];
    let li = lambda[d + channel];
    let mut gr = F::new(0.0);
    let mut gi = F::new(0.0);
    let mut sum_re = F::new(0.0);
    let mut sum_im = F::new(0.0);
    for back in 0..end - first {
        let t = end - 1 - back;
        let at = t * 2 * d + channel;
        let next = grad[at] + lr * gr + li * gi;
        gi = grad[at + d] + lr * gi - li * gr;
        gr = next;
        du[at] = gr;
        du[at + d] = gi;
        if t > first {
            let before = at - 2 * d;
            sum_re += h[before] * gr + h[before + d] * gi;
            sum_im += h[before] * gi - h[before + d] * gr;
        }
    }
    let row = sequence * 2 * d + channel;
    shares[row] = sum_re;
    shares[row + d] = sum_im;
}
