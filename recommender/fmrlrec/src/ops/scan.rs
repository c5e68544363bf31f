//! The diagonal complex recurrence over packed sequences, forward and backward, on plain slices.
//! Sequential in time, independent across channels: the inner loops run over channels and
//! vectorise; nothing is padded to a power of two.

use super::real::Real;

/// Hidden states of packed sequences.
///
/// # Shapes
/// `u` `[t, 2 d]` row-major (real parts, then imaginary), `lambda` `[2, d]`, `keep` `[t]` (0 where
/// a sequence starts, else 1) -> `h` `[t, 2 d]`.
pub fn lru_scan<T: Real>(u: &[T], lambda: &[T], keep: &[f32]) -> Vec<T> {
    let d = lambda.len() / 2;
    assert_eq!(u.len(), keep.len() * 2 * d, "u must be [t, 2 d]");
    let (lr, li) = lambda.split_at(d);
    let mut h = u.to_vec();
    pulp::Arch::new().dispatch(
        #[inline(always)]
        || {
            for t in 1..keep.len() {
                if keep[t] == 0.0 {
                    continue;
                }
                let (before, now) = h.split_at_mut(t * 2 * d);
                let (pr, pi) = before[(t - 1) * 2 * d..].split_at(d);
                let (nr, ni) = now[..2 * d].split_at_mut(d);
                for c in 0..d {
                    nr[c] += lr[c] * pr[c] - li[c] * pi[c];
                    ni[c] += lr[c] * pi[c] + li[c] * pr[c];
                }
            }
        },
    );
    h
}

/// Gradients of [`lru_scan`] for `u` `[t, 2 d]` and `lambda` `[2, d]`.
///
/// With `g_t` the full gradient at `h_t`: `g_t = grad_t + keep_{t+1} conj(lambda) g_{t+1}`,
/// `du_t = g_t`, `dlambda = sum_t keep_t conj(h_{t-1}) g_t`, complex numbers read as pairs of reals.
pub fn lru_scan_backward<T: Real>(h: &[T], lambda: &[T], keep: &[f32], grad: &[T]) -> (Vec<T>, Vec<T>) {
    let d = lambda.len() / 2;
    let (lr, li) = lambda.split_at(d);
    let mut g = grad.to_vec();
    let mut dlambda = vec![T::ZERO; 2 * d];
    let (dr, di) = dlambda.split_at_mut(d);
    pulp::Arch::new().dispatch(
        #[inline(always)]
        || {
            for t in (1..keep.len()).rev() {
                if keep[t] == 0.0 {
                    continue;
                }
                let (before, now) = g.split_at_mut(t * 2 * d);
                let (pr, pi) = before[(t - 1) * 2 * d..].split_at_mut(d);
                let (nr, ni) = now[..2 * d].split_at(d);
                let (hr, hi) = h[(t - 1) * 2 * d..t * 2 * d].split_at(d);
                for c in 0..d {
                    pr[c] += lr[c] * nr[c] + li[c] * ni[c];
                    pi[c] += lr[c] * ni[c] - li[c] * nr[c];
                    dr[c] += hr[c] * nr[c] + hi[c] * ni[c];
                    di[c] += hr[c] * ni[c] - hi[c] * nr[c];
                }
            }
        },
    );
    (g, dlambda)
}
