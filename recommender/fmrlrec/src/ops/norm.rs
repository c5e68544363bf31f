//! The nested layer norm on plain slices, forward and backward: two passes over a row where tensor operations
//! take some ten over the whole table, each with memory of its own.

use super::real::Real;
use rayon::prelude::*;

/// Variance floor.
pub const LAYER_NORM_EPS: f64 = 1e-5;
/// Rows whose gradients of scale and shift are added up by themselves, whatever the number of threads.
const ROWS: usize = 256;
/// Independent sums, so that the compiler uses whole SIMD registers.
const LANES: usize = 8;

/// One layer norm a slice: `y = (x - mean) / sqrt(variance + eps) * scale + shift`.
///
/// # Shapes
/// `x` `[n, d]`, `params` `[2, d]` (scale, then shift), `widths` of the slices, which add up to `d` -> `[n, d]`.
pub fn nested_norm<T: Real>(x: &[T], params: &[T], widths: &[usize]) -> Vec<T> {
    let d = width(params, widths);
    let (scale, shift) = params.split_at(d);
    let mut y = vec![T::ZERO; x.len()];
    y.par_chunks_mut(ROWS * d).zip(x.par_chunks(ROWS * d)).for_each(|(y, x)| {
        pulp::Arch::new().dispatch(
            #[inline(always)]
            || {
                for (y, x) in y.chunks_exact_mut(d).zip(x.chunks_exact(d)) {
                    let mut start = 0;
                    for width in widths {
                        let at = start..start + width;
                        start += width;
                        let y = &mut y[at.clone()];
                        standardise(&x[at.clone()], y);
                        let params = scale[at.clone()].iter().zip(&shift[at]);
                        y.iter_mut().zip(params).for_each(|(y, (scale, shift))| *y = *y * *scale + *shift);
                    }
                }
            },
        );
    });
    y
}

/// Gradients of [`nested_norm`] for `x` `[n, d]` and `params` `[2, d]`, from the output's gradient `[n, d]`.
///
/// With `z` the standardised row and `g = grad * scale`: `dx = (g - mean(g) - z mean(g z)) / sqrt(variance + eps)`,
/// `dscale = sum grad z`, `dshift = sum grad`.
pub fn nested_norm_backward<T: Real>(x: &[T], params: &[T], widths: &[usize], grad: &[T]) -> (Vec<T>, Vec<T>) {
    let d = width(params, widths);
    let scale = &params[..d];
    let mut dx = vec![T::ZERO; x.len()];
    let rows = dx.par_chunks_mut(ROWS * d).zip(x.par_chunks(ROWS * d).zip(grad.par_chunks(ROWS * d)));
    let parts: Vec<Vec<T>> = rows.map(|(dx, (x, grad))| backward_of_rows(x, scale, widths, grad, dx)).collect();
    let mut dparams = vec![T::ZERO; 2 * d];
    for part in parts {
        dparams.iter_mut().zip(part).for_each(|(sum, value)| *sum += value);
    }
    (dx, dparams)
}

/// Fills `dx`; gives the part of the rows in the gradients of scale and shift.
fn backward_of_rows<T: Real>(x: &[T], scale: &[T], widths: &[usize], grad: &[T], dx: &mut [T]) -> Vec<T> {
    let d = scale.len();
    let mut dparams = vec![T::ZERO; 2 * d];
    let mut scaled = vec![T::ZERO; d];
    let (dscale, dshift) = dparams.split_at_mut(d);
    pulp::Arch::new().dispatch(
        #[inline(always)]
        || {
            for ((dx, x), grad) in dx.chunks_exact_mut(d).zip(x.chunks_exact(d)).zip(grad.chunks_exact(d)) {
                let mut start = 0;
                for width in widths {
                    let at = start..start + width;
                    start += width;
                    let (z, grad, scaled) = (&mut dx[at.clone()], &grad[at.clone()], &mut scaled[at.clone()]);
                    let rate = standardise(&x[at.clone()], z);
                    let sums = dscale[at.clone()].iter_mut().zip(&mut dshift[at.clone()]);
                    for ((dscale, dshift), (grad, z)) in sums.zip(grad.iter().zip(&*z)) {
                        *dscale += *grad * *z;
                        *dshift += *grad;
                    }
                    let products = grad.iter().zip(&scale[at]);
                    scaled.iter_mut().zip(products).for_each(|(g, (grad, scale))| *g = *grad * *scale);
                    let mean = mean_of(scaled, z, |g, _| g);
                    let along = mean_of(scaled, z, |g, z| g * z);
                    z.iter_mut().zip(scaled).for_each(|(z, g)| *z = (*g - mean - *z * along) * rate);
                }
            }
        },
    );
    dparams
}

/// `z = (x - mean) rate`; gives `rate = 1 / sqrt(variance + eps)`.
#[inline(always)]
fn standardise<T: Real>(x: &[T], z: &mut [T]) -> T {
    let mean = mean_of(x, x, |x, _| x);
    let variance = mean_of(x, x, |x, _| (x - mean) * (x - mean));
    let rate = T::from_f64(1.0 / (variance.into_f64() + LAYER_NORM_EPS).sqrt());
    z.iter_mut().zip(x).for_each(|(z, x)| *z = (*x - mean) * rate);
    rate
}

/// Mean of `term` over two rows of one length.
#[inline(always)]
fn mean_of<T: Real>(a: &[T], b: &[T], term: impl Fn(T, T) -> T) -> T {
    let mut lanes = [T::ZERO; LANES];
    let (a_chunks, b_chunks) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest = a_chunks.remainder().iter().zip(b_chunks.remainder());
    let rest = rest.fold(0.0, |sum, (a, b)| sum + term(*a, *b).into_f64());
    for (a, b) in a_chunks.zip(b_chunks) {
        for lane in 0..LANES {
            lanes[lane] += term(a[lane], b[lane]);
        }
    }
    let sum = lanes.iter().fold(rest, |sum, lane| sum + lane.into_f64());
    T::from_f64(sum / a.len() as f64)
}

fn width<T>(params: &[T], widths: &[usize]) -> usize {
    let d = widths.iter().sum();
    assert_eq!(params.len(), 2 * d, "params must be [2, d]");
    d
}
