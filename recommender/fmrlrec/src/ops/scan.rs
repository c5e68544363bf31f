//! The diagonal complex recurrence over packed sequences, forward and backward, on plain slices.
//! Sequential in time, independent across channels: the inner loops run over channels and
//! vectorise; nothing is padded to a power of two.

/// Hidden states of packed sequences.
///
/// # Shapes
/// `u` `[t, 2 d]` row-major (real parts, then imaginary), `lambda` `[2, d]`, `keep` `[t]` (0 where
/// a sequence starts) -> `h` `[t, 2 d]`.
pub fn lru_scan(u: &[f32], lambda: &[f32], keep: &[f32]) -> Vec<f32> {
    let d = lambda.len() / 2;
    assert_eq!(u.len(), keep.len() * 2 * d, "u must be [t, 2 d]");
    let (lr, li) = lambda.split_at(d);
    let mut h = u.to_vec();
    for t in 1..keep.len() {
        if keep[t] == 0.0 {
            continue;
        }
        let (before, now) = h.split_at_mut(t * 2 * d);
        let (pr, pi) = before[(t - 1) * 2 * d..].split_at(d);
        let (nr, ni) = now[..2 * d].split_at_mut(d);
        for c in 0..d {
            nr[c] += keep[t] * (lr[c] * pr[c] - li[c] * pi[c]);
            ni[c] += keep[t] * (lr[c] * pi[c] + li[c] * pr[c]);
        }
    }
    h
}

/// Gradients of [`lru_scan`] for `u` `[t, 2 d]` and `lambda` `[2, d]`.
///
/// With `g_t` the full gradient at `h_t`: `g_t = grad_t + keep_{t+1} conj(lambda) g_{t+1}`,
/// `du_t = g_t`, `dlambda = sum_t keep_t conj(h_{t-1}) g_t`, complex numbers read as pairs of reals.
pub fn lru_scan_backward(h: &[f32], lambda: &[f32], keep: &[f32], grad: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let d = lambda.len() / 2;
    let (lr, li) = lambda.split_at(d);
    let mut g = grad.to_vec();
    let mut dlambda = vec![0.0f32; 2 * d];
    for t in (1..keep.len()).rev() {
        if keep[t] == 0.0 {
            continue;
        }
        let (before, now) = g.split_at_mut(t * 2 * d);
        let (pr, pi) = before[(t - 1) * 2 * d..].split_at_mut(d);
        let (nr, ni) = now[..2 * d].split_at(d);
        let (hr, hi) = h[(t - 1) * 2 * d..t * 2 * d].split_at(d);
        let (dr, di) = dlambda.split_at_mut(d);
        for c in 0..d {
            pr[c] += keep[t] * (lr[c] * nr[c] + li[c] * ni[c]);
            pi[c] += keep[t] * (lr[c] * ni[c] - li[c] * nr[c]);
            dr[c] += keep[t] * (hr[c] * nr[c] + hi[c] * ni[c]);
            di[c] += keep[t] * (hr[c] * ni[c] - hi[c] * nr[c]);
        }
    }
    (g, dlambda)
}
