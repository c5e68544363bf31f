//! `exp` that the compiler can vectorise: the library's call per element would cost as much as the
//! loss's matrix products.

/// `exp(x)` for `x <= 0`, relative error below 3e-7; 0 below -87.
#[inline(always)]
pub(super) fn exp_nonpositive(x: f32) -> f32 {
    // Adding and taking away 1.5 * 2^23 rounds to the nearest integer without a call.
    const ROUND: f32 = 12_582_912.0;
    let clamped = if x > -87.0 { x } else { -87.0 };
    let shifted = clamped * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    // ln 2 in two parts, so that the remainder keeps its low bits.
    let r = clamped - n * 0.693_359_4 - n * -2.121_944_4e-4;
    // Taylor series: |r| <= ln 2 / 2, so the first term left out is below 1.2e-8.
    let p = 1.0
        + r * (1.0
            + r * (0.5
                + r * (1.0 / 6.0 + r * (1.0 / 24.0 + r * (1.0 / 120.0 + r * (1.0 / 720.0 + r * (1.0 / 5040.0)))))));
    // n sits in the low bits of `shifted`; move it into the exponent.
    let scale = f32::from_bits((shifted.to_bits() << 23).wrapping_add(127 << 23));
    let value = p * scale;
    if x > -87.0 { value } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::exp_nonpositive;

    #[test]
    fn is_close_to_the_library() {
        for i in 0..87_000 {
            let x = -(i as f32) / 1000.0;
            let (ours, exact) = (f64::from(exp_nonpositive(x)), f64::from(x).exp());
            assert!(((ours - exact) / exact).abs() < 3e-7, "exp({x}) = {ours}, expected {exact}");
        }
        assert_eq!(exp_nonpositive(-1e9), 0.0);
        assert_eq!(exp_nonpositive(0.0), 1.0);
    }
}
