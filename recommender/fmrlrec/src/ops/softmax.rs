//! Row-wise pieces of the softmax over item tiles, each run with the widest SIMD that is there.

use super::real::Real;

/// Independent sums, so that the compiler uses whole SIMD registers.
const LANES: usize = 16;

/// Maximum and sum of exponentials seen so far: `ln sum exp = max + ln(sum)`.
#[derive(Clone, Copy)]
pub(super) struct LogSum<T> {
    max: T,
    sum: f64,
}

impl<T: Real> LogSum<T> {
    pub(super) const EMPTY: LogSum<T> = LogSum { max: T::LOWEST, sum: 0.0 };

    /// Takes in a sum of exponentials relative to `max`.
    #[inline(always)]
    fn add(&mut self, max: T, sum: f64) {
        if max > self.max {
            self.sum = self.sum * (self.max - max).exp_nonpositive().into_f64() + sum;
            self.max = max;
        } else {
            self.sum += sum * (max - self.max).exp_nonpositive().into_f64();
        }
    }
}

/// `ln sum exp` over all parts, per (dim, position).
pub(super) fn merge<T: Real>(parts: Vec<Vec<LogSum<T>>>) -> Vec<f64> {
    let mut parts = parts.into_iter();
    let mut all = parts.next().unwrap_or_default();
    for part in parts {
        all.iter_mut().zip(part).for_each(|(sum, other)| sum.add(other.max, other.sum));
    }
    all.into_iter().map(|sum| sum.max.into_f64() + sum.sum.ln()).collect()
}

/// Takes each row of a tile `[rows, items]`, times `scale` above 0, into its sum.
pub(super) fn add_log_sums<T: Real>(scores: &[T], scale: T, items: usize, sums: &mut [LogSum<T>]) {
    pulp::Arch::new().dispatch(
        #[inline(always)]
        || {
            for (scores, sum) in scores.chunks_exact(items).zip(sums) {
                let max = row_max(scores);
                let mut lanes = [T::ZERO; LANES];
                let chunks = scores.chunks_exact(LANES);
                let mut rest = T::ZERO;
                for value in chunks.remainder() {
                    rest += ((*value - max) * scale).exp_nonpositive();
                }
                for chunk in chunks {
                    for lane in 0..LANES {
                        lanes[lane] += ((chunk[lane] - max) * scale).exp_nonpositive();
                    }
                }
                let total = lanes.iter().fold(rest.into_f64(), |total, lane| total + lane.into_f64());
                sum.add(max * scale, total);
            }
        },
    );
}

/// `out = exp(scale score - log_sum)`.
pub(super) fn softmax<T: Real>(scores: &[T], scale: T, items: usize, log_sums: &[T], out: &mut [T]) {
    pulp::Arch::new().dispatch(
        #[inline(always)]
        || {
            let rows = scores.chunks_exact(items).zip(out.chunks_exact_mut(items));
            for ((scores, out), log_sum) in rows.zip(log_sums) {
                for (out, score) in out.iter_mut().zip(scores) {
                    *out = (*score * scale - *log_sum).exp_nonpositive();
                }
            }
        },
    );
}

/// `values = scale (values - share teacher)`.
pub(super) fn scale_and_distil<T: Real>(values: &mut [T], teacher: &[T], scale: T, share: T) {
    pulp::Arch::new().dispatch(
        #[inline(always)]
        || {
            if share == T::ZERO {
                values.iter_mut().for_each(|value| *value = *value * scale);
            } else {
                values
                    .iter_mut()
                    .zip(teacher)
                    .for_each(|(value, teacher)| *value = scale * (*value - share * *teacher));
            }
        },
    );
}

/// `sum += other`.
pub(super) fn add<T: Real>(sum: &mut [T], other: &[T]) {
    pulp::Arch::new().dispatch(
        #[inline(always)]
        || sum.iter_mut().zip(other).for_each(|(sum, value)| *sum += *value),
    );
}

#[inline(always)]
fn row_max<T: Real>(values: &[T]) -> T {
    let mut lanes = [T::LOWEST; LANES];
    let chunks = values.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        for lane in 0..LANES {
            lanes[lane] = if chunk[lane] > lanes[lane] { chunk[lane] } else { lanes[lane] };
        }
    }
    lanes.iter().chain(rest).fold(T::LOWEST, |max, value| if *value > max { *value } else { max })
}
