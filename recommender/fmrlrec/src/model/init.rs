//! Where fresh weights come from: one generator, drawn from in a fixed order, so a seed gives the
//! same model on every machine.

use burn::module::Param;
use burn::tensor::{Tensor, TensorData, backend::Backend};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Standard deviation of fresh weights; draws past two of them are drawn again (paper's code).
pub(super) const STD: f64 = 0.02;

/// Draws parameters for one model, or leaves them at 0.
pub struct Init<'d, B: Backend> {
    /// None: every weight is 0.
    rng: Option<ChaCha8Rng>,
    device: &'d B::Device,
}

impl<'d, B: Backend> Init<'d, B> {
    /// A source of weights for `seed`.
    pub fn new(seed: u64, device: &'d B::Device) -> Init<'d, B> {
        Init { rng: Some(ChaCha8Rng::seed_from_u64(seed)), device }
    }

    /// A source of zeros, for a model whose parameters are loaded.
    pub fn blank(device: &'d B::Device) -> Init<'d, B> {
        Init { rng: None, device }
    }

    /// Normal with standard deviation .02, cut at two deviations.
    pub fn truncated_normal<const D: usize>(&mut self, shape: [usize; D]) -> Param<Tensor<B, D>> {
        let count = shape.iter().product();
        let values = match &mut self.rng {
            Some(rng) => (0..count).map(|_| (STD * normal_within_two(rng)) as f32).collect(),
            None => vec![0.0; count],
        };
        self.param(values, shape)
    }

    /// All zero.
    pub fn zeros<const D: usize>(&mut self, shape: [usize; D]) -> Param<Tensor<B, D>> {
        self.param(vec![0.0; shape.iter().product()], shape)
    }

    /// All the same.
    pub fn constant<const D: usize>(&mut self, value: f64, shape: [usize; D]) -> Param<Tensor<B, D>> {
        self.param(vec![value as f32; shape.iter().product()], shape)
    }

    /// `nu_log`, `theta_log`, `gamma_log`, each `[dim]`, with |lambda| uniform on the ring between
    /// `r_min` and `r_max` and any phase (LRU paper, lemma 3.2). gamma makes the state's variance 1.
    pub fn lru(&mut self, dim: usize, r_min: f64, r_max: f64) -> [Param<Tensor<B, 1>>; 3] {
        let Some(rng) = &mut self.rng else { return std::array::from_fn(|_| self.zeros([dim])) };
        let (mut nu, mut theta, mut gamma) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..dim {
            let (u1, u2): (f64, f64) = (rng.random(), rng.random());
            // Away from 0 and 1, where the logarithms below have no value.
            let radius_squared = (u1 * (r_max * r_max - r_min * r_min) + r_min * r_min).clamp(1e-8, 1.0 - 1e-8);
            nu.push((-0.5 * radius_squared.ln()).ln() as f32);
            theta.push((u2.max(1e-8) * std::f64::consts::TAU).ln() as f32);
            gamma.push((1.0 - radius_squared).sqrt().ln() as f32);
        }
        [nu, theta, gamma].map(|values| self.param(values, [dim]))
    }

    fn param<const D: usize>(&self, values: Vec<f32>, shape: [usize; D]) -> Param<Tensor<B, D>> {
        Param::from_tensor(Tensor::from_data(TensorData::new(values, shape), self.device))
    }
}

fn normal_within_two(rng: &mut ChaCha8Rng) -> f64 {
    loop {
        // Box-Muller; 1 - u keeps the logarithm's argument above zero.
        let (u1, u2): (f64, f64) = (1.0 - rng.random::<f64>(), rng.random());
        let z = (-2.0 * u1.ln()).sqrt() * (std::f64::consts::TAU * u2).cos();
        if z.abs() <= 2.0 {
            return z;
        }
    }
}
