//! The inner product of two short vectors, written so that the compiler uses SIMD registers.

/// Independent sums: enough to hide the latency of an addition and to fill two 8-lane registers.
const LANES: usize = 16;
/// One 8-lane register, for the widths of small slices.
const HALF: usize = LANES / 2;

/// Inner product; `a` and `b` have equal lengths. The order of additions depends only on the length,
/// so equal inputs give equal bits.
#[inline]
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    debug_assert_eq!(a.len(), b.len());
    let mut sums = [0.0f32; LANES];
    let (a_chunks, b_chunks) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let (a_rest, b_rest) = (a_chunks.remainder(), b_chunks.remainder());
    for (x, y) in a_chunks.zip(b_chunks) {
        for lane in 0..LANES {
            sums[lane] += x[lane] * y[lane];
        }
    }
    let (a_half, b_half) = (a_rest.chunks_exact(HALF), b_rest.chunks_exact(HALF));
    let (a_rest, b_rest) = (a_half.remainder(), b_half.remainder());
    for (x, y) in a_half.zip(b_half) {
        for lane in 0..HALF {
            sums[lane] += x[lane] * y[lane];
        }
    }
    let tail: f32 = a_rest.iter().zip(b_rest).map(|(x, y)| x * y).sum();
    reduce(&sums) + tail
}

/// Pairwise sum of the lanes, which the compiler turns into shuffles.
#[inline]
fn reduce(sums: &[f32; LANES]) -> f32 {
    let mut half = [0.0f32; HALF];
    for lane in 0..HALF {
        half[lane] = sums[lane] + sums[lane + HALF];
    }
    ((half[0] + half[4]) + (half[2] + half[6])) + ((half[1] + half[5]) + (half[3] + half[7]))
}

#[cfg(test)]
mod tests {
    use super::dot;

    #[test]
    fn every_length_agrees_with_the_plain_sum() {
        for len in 0..70usize {
            // Small whole numbers: sums are exact in any order.
            let a: Vec<f32> = (0..len).map(|i| (i % 7) as f32 - 3.0).collect();
            let b: Vec<f32> = (0..len).map(|i| (i % 5) as f32 - 1.0).collect();
            let plain: f32 = a.iter().zip(&b).map(|(x, y)| x * y).sum();
            assert_eq!(dot(&a, &b), plain, "length {len}");
        }
    }
}
