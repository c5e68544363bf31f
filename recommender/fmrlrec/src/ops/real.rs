//! The two element types of the host operations: f32 to train, f64 to compare with exact fixtures.

use super::exp::exp_nonpositive;
use burn::tensor::Element;
use std::ops::{Add, AddAssign, Mul, Sub, SubAssign};

/// A floating-point element that the operations compute with.
pub trait Real:
    Element
    + bytemuck::Pod
    + PartialOrd
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + AddAssign
    + SubAssign
{
    /// 0.
    const ZERO: Self;
    /// Below every finite value.
    const LOWEST: Self;
    /// Nearest value.
    fn from_f64(value: f64) -> Self;
    /// Exact.
    fn into_f64(self) -> f64;
    /// `exp(self)` for `self <= 0`.
    fn exp_nonpositive(self) -> Self;
}

impl Real for f32 {
    const ZERO: f32 = 0.0;
    const LOWEST: f32 = f32::NEG_INFINITY;

    #[inline(always)]
    fn from_f64(value: f64) -> f32 {
        value as f32
    }

    #[inline(always)]
    fn into_f64(self) -> f64 {
        f64::from(self)
    }

    #[inline(always)]
    fn exp_nonpositive(self) -> f32 {
        exp_nonpositive(self)
    }
}

impl Real for f64 {
    const ZERO: f64 = 0.0;
    const LOWEST: f64 = f64::NEG_INFINITY;

    #[inline(always)]
    fn from_f64(value: f64) -> f64 {
        value
    }

    #[inline(always)]
    fn into_f64(self) -> f64 {
        self
    }

    #[inline(always)]
    fn exp_nonpositive(self) -> f64 {
        self.exp()
    }
}
