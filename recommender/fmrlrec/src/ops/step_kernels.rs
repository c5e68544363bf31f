//! Kernels of a training step beside the scan's, in CubeCL: dropout masks and AdamW, elementwise.

use cubecl::prelude::*;

/// A dropout mask from ChaCha8's words: one thread a block of 16 words.
///
/// `words` `[16 + d]` is the first block's input, then the threshold of each column; `out` `[n, d]` takes ChaCha8's words
/// from `skip` of the first block on: 0 below its column's threshold, else its column's of the `scales` `[d]`.
#[cube(launch)]
pub(super) fn dropout_mask<F: Float, I: Int>(
    words: &Tensor<I>,
    scales: &Tensor<F>,
    out: &mut Tensor<F>,
    skip: usize,
    #[define(F, I)] _types: [StorageType; 2],
) {
    let first = ABSOLUTE_POS * 16;
    if first >= out.len() + skip {
        terminate!();
    }
    let mut input = Array::<u32>::new(16usize);
    let mut x = Array::<u32>::new(16usize);
    #[unroll]
    for word in 0..16usize {
        input[word] = u32::cast_from(words[word]);
    }
    let counter = input[12];
    input[12] = counter + ABSOLUTE_POS as u32;
    if input[12] < counter {
        input[13] = input[13] + 1;
    }
    #[unroll]
    for word in 0..16usize {
        x[word] = input[word];
    }
    for _ in 0..4u32 {
        quarter_round(&mut x, 0usize, 4usize, 8usize, 12usize);
        quarter_round(&mut x, 1usize, 5usize, 9usize, 13usize);
        quarter_round(&mut x, 2usize, 6usize, 10usize, 14usize);
        quarter_round(&mut x, 3usize, 7usize, 11usize, 15usize);
        quarter_round(&mut x, 0usize, 5usize, 10usize, 15usize);
        quarter_round(&mut x, 1usize, 6usize, 11usize, 12usize);
        quarter_round(&mut x, 2usize, 7usize, 8usize, 13usize);
        quarter_round(&mut x, 3usize, 4usize, 9usize, 14usize);
    }
    #[unroll]
    for word in 0..16usize {
        let at = first + word;
        if at >= skip && at < out.len() + skip {
            let drawn = x[word] + input[word];
            let element = at - skip;
            let column = element % scales.len();
            out[element] = if drawn < u32::cast_from(words[16 + column]) { F::new(0.0) } else { scales[column] };
        }
    }
}

#[cube]
fn quarter_round(
    x: &mut Array<u32>,
    #[comptime] a: usize,
    #[comptime] b: usize,
    #[comptime] c: usize,
    #[comptime] d: usize,
) {
    x[a] = x[a] + x[b];
    x[d] = rotate(x[d] ^ x[a], 16u32);
    x[c] = x[c] + x[d];
    x[b] = rotate(x[b] ^ x[c], 12u32);
    x[a] = x[a] + x[b];
    x[d] = rotate(x[d] ^ x[a], 8u32);
    x[c] = x[c] + x[d];
    x[b] = rotate(x[b] ^ x[c], 7u32);
}

#[cube]
fn rotate(word: u32, #[comptime] left: u32) -> u32 {
    (word << left) | (word >> comptime!(32 - left))
}

/// [`super::Update`] for a kernel: what is left of 1 is given, not subtracted in f32.
#[derive(CubeLaunch, CubeType)]
pub(super) struct Constants {
    clip: f32,
    beta_1: f32,
    rest_1: f32,
    beta_2: f32,
    rest_2: f32,
    epsilon: f32,
    decay: f32,
    rate: f32,
    root: f32,
}

/// AdamW's update of one parameter; both `moments` are `[2, n]`.
#[cube(launch)]
pub(super) fn adamw<F: Float>(
    values: &Tensor<F>,
    grad: &Tensor<F>,
    moments: &Tensor<F>,
    constants: &Constants,
    updated: &mut Tensor<F>,
    updated_moments: &mut Tensor<F>,
    #[define(F)] _type: StorageType,
) {
    let at = ABSOLUTE_POS;
    let n = values.len();
    if at >= n {
        terminate!();
    }
    let g = grad[at] * F::cast_from(constants.clip);
    let m = F::cast_from(constants.beta_1) * moments[at] + F::cast_from(constants.rest_1) * g;
    let v = F::cast_from(constants.beta_2) * moments[n + at] + F::cast_from(constants.rest_2) * g * g;
    let denominator = v.sqrt() / F::cast_from(constants.root) + F::cast_from(constants.epsilon);
    let value = values[at];
    updated[at] = value - F::cast_from(constants.decay) * value - F::cast_from(constants.rate) * m / denominator;
    updated_moments[at] = m;
    updated_moments[n + at] = v;
}
