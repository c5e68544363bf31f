//! Linear recurrent unit (Orvieto et al. 2023; paper section 3.1): a diagonal complex recurrence,
//! `h_t = gamma * in_proj(x_t) + lambda * h_{t-1}`, `y_t = Re(out_proj(h_t))`,
//! with `lambda = exp(-exp(nu_log) + i exp(theta_log))`, so `|lambda| < 1` always.

use super::gather;
use super::init::Init;
use super::nested::NestedLinear;
use crate::ops::NestedBackend;
use burn::module::{Module, Param};
use burn::tensor::{Tensor, TensorPrimitive, backend::Backend};

/// A complex tensor as two real ones: burn has no complex element type.
#[derive(Debug, Clone)]
pub struct Complex<B: Backend> {
    /// Real part.
    pub re: Tensor<B, 2>,
    /// Imaginary part.
    pub im: Tensor<B, 2>,
}

impl<B: Backend> Complex<B> {
    /// Some rows.
    pub fn at(self, rows: &[u32]) -> Complex<B> {
        Complex { re: gather(self.re, rows), im: gather(self.im, rows) }
    }
}

/// The recurrent layer. Its input is real and only the real part of its output is used, so each
/// projection costs two real products, not four. The imaginary bias of `out_proj` cannot reach the
/// output and is left out.
#[derive(Module, Debug)]
pub struct Lru<B: Backend> {
    /// `[D]`, `log(-log |lambda|)`.
    pub nu_log: Param<Tensor<B, 1>>,
    /// `[D]`, log of lambda's phase.
    pub theta_log: Param<Tensor<B, 1>>,
    /// `[D]`, log of the input's scale.
    pub gamma_log: Param<Tensor<B, 1>>,
    /// Real part of the input projection.
    pub in_proj_re: NestedLinear<B>,
    /// Imaginary part, zero at the start.
    pub in_proj_im: NestedLinear<B>,
    /// Real part of the output projection.
    pub out_proj_re: NestedLinear<B>,
    /// Imaginary part, zero at the start, no bias.
    pub out_proj_im: NestedLinear<B>,
}

impl<B: Backend> Lru<B> {
    /// Fresh weights, `|lambda|` within `r_min..r_max`.
    pub fn new(dims: &[usize], r_min: f64, r_max: f64, init: &mut Init<B>) -> Lru<B> {
        let largest = dims.last().copied().unwrap_or(0);
        let [nu_log, theta_log, gamma_log] = init.lru(largest, r_min, r_max);
        Lru {
            nu_log,
            theta_log,
            gamma_log,
            in_proj_re: NestedLinear::new(dims, true, false, init),
            in_proj_im: NestedLinear::new(dims, true, true, init),
            out_proj_re: NestedLinear::new(dims, true, false, init),
            out_proj_im: NestedLinear::new(dims, false, true, init),
        }
    }

    /// The layer of a smaller model.
    pub fn slice(&self, dim: usize) -> Lru<B> {
        let cut = |param: &Param<Tensor<B, 1>>| Param::from_tensor(param.val().narrow(0, 0, dim));
        Lru {
            nu_log: cut(&self.nu_log),
            theta_log: cut(&self.theta_log),
            gamma_log: cut(&self.gamma_log),
            in_proj_re: self.in_proj_re.slice(dim),
            in_proj_im: self.in_proj_im.slice(dim),
            out_proj_re: self.out_proj_re.slice(dim),
            out_proj_im: self.out_proj_im.slice(dim),
        }
    }

    /// One token a row: the O(1) step of law 2.
    ///
    /// # Shapes
    /// `x` `[n, d]`, `state` `[n, d]` -> output `[n, d]` and the next state.
    pub fn step(&self, x: Tensor<B, 2>, state: Complex<B>) -> (Tensor<B, 2>, Complex<B>) {
        let u = self.input(x);
        let [_, d] = u.re.dims();
        let lambda = self.lambda(d);
        let (re, im) = (lambda.clone().narrow(0, 0, 1), lambda.narrow(0, 1, 1));
        let next = Complex {
            re: u.re + state.re.clone() * re.clone() - state.im.clone() * im.clone(),
            im: u.im + state.im * re + state.re * im,
        };
        (self.output(next.clone()), next)
    }

    /// `gamma * in_proj(x)`, bias included.
    fn input(&self, x: Tensor<B, 2>) -> Complex<B> {
        let d = x.dims()[1];
        let gamma = self.gamma_log.val().narrow(0, 0, d).exp().reshape([1, d]);
        Complex { re: self.in_proj_re.forward(x.clone()) * gamma.clone(), im: self.in_proj_im.forward(x) * gamma }
    }

    /// `Re(out_proj(h))`.
    pub(super) fn output(&self, h: Complex<B>) -> Tensor<B, 2> {
        self.out_proj_re.forward(h.re) - self.out_proj_im.forward(h.im)
    }

    /// `[2, d]`: real parts of lambda, then imaginary parts.
    fn lambda(&self, d: usize) -> Tensor<B, 2> {
        let radius = self.nu_log.val().narrow(0, 0, d).exp().neg().exp();
        let phase = self.theta_log.val().narrow(0, 0, d).exp();
        let parts =
            vec![(radius.clone() * phase.clone().cos()).reshape([1, d]), (radius * phase.sin()).reshape([1, d])];
        Tensor::cat(parts, 0)
    }
}

impl<B: NestedBackend> Lru<B> {
    /// Whole sequences, packed one behind the other.
    ///
    /// # Shapes
    /// `x` `[t, d]`, `keep` `[t]`: 0 where a sequence starts, else 1 -> `[t, d]`.
    pub fn forward(&self, x: Tensor<B, 2>, keep: &[f32]) -> Tensor<B, 2> {
        self.output(self.states(x, keep))
    }

    /// The hidden states, `[t, d]`; `x` and `keep` as in [`Lru::forward`].
    pub fn states(&self, x: Tensor<B, 2>, keep: &[f32]) -> Complex<B> {
        let u = self.input(x);
        let [_, d] = u.re.dims();
        let packed = Tensor::cat(vec![u.re, u.im], 1);
        let h = B::lru_scan(packed.into_primitive().tensor(), self.lambda(d).into_primitive().tensor(), keep);
        let h: Tensor<B, 2> = Tensor::from_primitive(TensorPrimitive::Float(h));
        Complex { re: h.clone().narrow(1, 0, d), im: h.narrow(1, d, d) }
    }
}
