//! AdamW with the arithmetic of torch >= 1.13: decay first and apart from the gradient, bias
//! correction, `eps` outside the root; gradients clipped by global norm before. Burn's own AdamW
//! has one decay for all parameters; norms, biases and the LRU's logs must have none.

use crate::ops::host_values;
use crate::params::{ParamValues, Path};
use burn::module::{AutodiffModule, ModuleMapper, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::backend::AutodiffBackend;
use burn::tensor::{Tensor, TensorData};
use std::collections::BTreeMap;

/// Which parameters decay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DecayRule {
    /// Weight matrices only: ours.
    Matrices,
    /// All but those named bias: what the paper's code does, by accident of naming. For parity.
    AllButBiases,
}

/// Constants of the optimizer.
#[derive(Debug, Clone, PartialEq)]
pub struct AdamWConfig {
    /// Decay of the first moment.
    pub beta_1: f64,
    /// Decay of the second moment.
    pub beta_2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Largest global gradient norm.
    pub clip_norm: f64,
    /// Which parameters decay.
    pub rule: DecayRule,
}

/// The optimizer with its moments, by parameter name.
#[derive(Debug, Clone)]
pub struct AdamW {
    config: AdamWConfig,
    /// Steps done.
    pub step: u64,
    /// First and second moments.
    pub moments: BTreeMap<String, [ParamValues; 2]>,
}

impl AdamW {
    /// No step done yet.
    pub fn new(config: AdamWConfig) -> AdamW {
        AdamW { config, step: 0, moments: BTreeMap::new() }
    }

    /// One step at `learning_rate`; gives the module after it and the gradient norm before clipping.
    pub fn step<B: AutodiffBackend, M: AutodiffModule<B>>(
        &mut self,
        module: M,
        grads: &GradientsParams,
        learning_rate: f64,
    ) -> (M, f64) {
        let mut norm = Norm { grads, sum: 0.0 };
        module.visit(&mut norm);
        let norm = norm.sum.sqrt();
        self.step += 1;
        let clip = (self.config.clip_norm / (norm + 1e-6)).min(1.0);
        let mut update = Update { optimizer: self, grads, learning_rate, clip, path: Path::default() };
        (module.map(&mut update), norm)
    }

    fn decays(&self, name: &str, rank: usize) -> bool {
        match self.config.rule {
            DecayRule::Matrices => rank == 2,
            DecayRule::AllButBiases => !name.contains("bias"),
        }
    }

    /// Torch's update of one parameter, in place on the host.
    fn update(&mut self, name: &str, shape: &[usize], values: &mut [f32], grad: &[f32], rate: f64) {
        let AdamWConfig { beta_1, beta_2, epsilon, weight_decay, .. } = self.config;
        let decay = if self.decays(name, shape.len()) { 1.0 - rate * weight_decay } else { 1.0 };
        let step = self.step as i32;
        let rate = rate / (1.0 - beta_1.powi(step));
        let root = (1.0 - beta_2.powi(step)).sqrt();
        let zero = || ParamValues { shape: shape.to_vec(), values: vec![0.0; values.len()] };
        let [first, second] = self.moments.entry(name.to_owned()).or_insert_with(|| [zero(), zero()]);
        let moments = first.values.iter_mut().zip(&mut second.values);
        for ((value, grad), (m, v)) in values.iter_mut().zip(grad).zip(moments) {
            let g = f64::from(*grad);
            *m = (beta_1 * f64::from(*m) + (1.0 - beta_1) * g) as f32;
            *v = (beta_2 * f64::from(*v) + (1.0 - beta_2) * g * g) as f32;
            let denominator = f64::from(*v).sqrt() / root + epsilon;
            *value = (f64::from(*value) * decay - rate * f64::from(*m) / denominator) as f32;
        }
    }
}

struct Norm<'a> {
    grads: &'a GradientsParams,
    sum: f64,
}

impl<B: AutodiffBackend> ModuleVisitor<B> for Norm<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        if let Some(grad) = self.grads.get::<B::InnerBackend, D>(param.id) {
            self.sum += host_values(grad).iter().map(|g| f64::from(*g).powi(2)).sum::<f64>();
        }
    }
}

struct Update<'a> {
    optimizer: &'a mut AdamW,
    grads: &'a GradientsParams,
    learning_rate: f64,
    clip: f64,
    path: Path,
}

impl<B: AutodiffBackend> ModuleMapper<B> for Update<'_> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.enter(name);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        let Some(grad) = self.grads.get::<B::InnerBackend, D>(param.id) else { return param };
        let name = self.path.name();
        let shape = param.dims();
        param.map(|tensor| {
            let device = tensor.device();
            let mut grad = host_values(grad);
            if self.clip < 1.0 {
                grad.iter_mut().for_each(|g| *g = (f64::from(*g) * self.clip) as f32);
            }
            let mut values = host_values(tensor.inner());
            self.optimizer.update(&name, &shape, &mut values, &grad, self.learning_rate);
            Tensor::from_inner(Tensor::from_data(TensorData::new(values, shape), &device)).require_grad()
        })
    }
}
