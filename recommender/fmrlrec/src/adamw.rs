//! AdamW with the arithmetic of torch >= 1.13: decay first and apart from the gradient, bias
//! correction, `eps` outside the root; gradients clipped by global norm before. Burn's own AdamW
//! has one decay for all parameters; norms, biases and the LRU's logs must have none.

use crate::Divergence;
use crate::checkpoint::Moments;
use crate::ops::{Update, UpdateBackend, host_values};
use crate::params::{ParamValues, Path};
use burn::module::{AutodiffModule, ModuleMapper, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::backend::AutodiffBackend;
use burn::tensor::ops::FloatTensor;
use burn::tensor::{Tensor, TensorData, TensorPrimitive};
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

impl AdamWConfig {
    /// Betas and epsilon of the paper's code; only weight matrices decay.
    pub fn new(weight_decay: f64, clip_norm: f64) -> AdamWConfig {
        let (beta_1, beta_2, epsilon) = (0.9, 0.999, 1e-9);
        AdamWConfig { beta_1, beta_2, epsilon, weight_decay, clip_norm, rule: DecayRule::Matrices }
    }
}

/// The optimizer with its moments, on the device of the parameters.
#[derive(Debug, Clone)]
pub struct AdamW<B: UpdateBackend> {
    config: AdamWConfig,
    /// Steps done.
    pub step: u64,
    /// First and second moments `[2, n]` by parameter name.
    moments: BTreeMap<String, Tensor<B, 2>>,
}

impl<B: UpdateBackend> AdamW<B> {
    /// No step done yet.
    pub fn new(config: AdamWConfig) -> AdamW<B> {
        AdamW { config, step: 0, moments: BTreeMap::new() }
    }

    /// After `step` steps, from a checkpoint.
    pub(crate) fn resume(&mut self, step: u64, moments: Moments, device: &B::Device) {
        self.step = step;
        let tensor = |[first, second]: [ParamValues; 2]| {
            let n = first.values.len();
            Tensor::from_data(TensorData::new([first.values, second.values].concat(), [2, n]), device)
        };
        self.moments = moments.into_iter().map(|(name, moments)| (name, tensor(moments))).collect();
    }

    /// The moments for a checkpoint, in the shapes of `params`.
    pub(crate) fn moments(&self, params: &BTreeMap<String, ParamValues>) -> Moments {
        let host = |(name, moments): (&String, &Tensor<B, 2>)| {
            let mut first: Vec<f32> = host_values(moments.clone());
            let second = first.split_off(first.len() / 2);
            let shape = &params[name].shape;
            (name.clone(), [first, second].map(|values| ParamValues { shape: shape.clone(), values }))
        };
        self.moments.iter().map(host).collect()
    }

    /// One step at `learning_rate`, which consumes the gradients; gives the module after it and the
    /// gradient norm before clipping.
    ///
    /// # Errors
    /// The norm is not finite: no step is counted and the moments stay as they were.
    pub fn step<A: AutodiffBackend<InnerBackend = B>, M: AutodiffModule<A>>(
        &mut self,
        module: M,
        grads: GradientsParams,
        learning_rate: f64,
    ) -> Result<(M, f64), Divergence> {
        let mut gather = Gather::<B> { grads, names: Vec::new(), found: Vec::new(), path: Path::default() };
        module.visit(&mut gather);
        let found = B::row_by_row(gather.found);
        let norm = B::sum_of_squares(&found).sqrt();
        if !norm.is_finite() {
            return Err(Divergence::Gradient(norm));
        }
        self.step += 1;
        let clip = (self.config.clip_norm / (norm + 1e-6)).min(1.0);
        let grads = gather.names.into_iter().zip(found).collect();
        let mut map = Map { optimizer: self, grads, learning_rate, clip, path: Path::default() };
        Ok((module.map(&mut map), norm))
    }

    /// The constants of a parameter's update in the step that is counted.
    fn update(&self, name: &str, rank: usize, clip: f64, rate: f64) -> Update {
        let AdamWConfig { beta_1, beta_2, epsilon, weight_decay, .. } = self.config;
        let decays = match self.config.rule {
            DecayRule::Matrices => rank == 2,
            DecayRule::AllButBiases => !name.contains("bias"),
        };
        let step = self.step as i32;
        Update {
            clip,
            beta_1,
            beta_2,
            epsilon,
            decay: if decays { rate * weight_decay } else { 0.0 },
            rate: rate / (1.0 - beta_1.powi(step)),
            root: (1.0 - beta_2.powi(step)).sqrt(),
        }
    }
}

/// The gradients of the parameters that have one, in the order of the module.
struct Gather<B: UpdateBackend> {
    grads: GradientsParams,
    names: Vec<String>,
    found: Vec<FloatTensor<B>>,
    path: Path,
}

impl<B: UpdateBackend, A: AutodiffBackend<InnerBackend = B>> ModuleVisitor<A> for Gather<B> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.enter(name);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<A, D>>) {
        if let Some(grad) = self.grads.remove::<B, D>(param.id) {
            self.names.push(self.path.name());
            self.found.push(grad.into_primitive().tensor());
        }
    }
}

struct Map<'a, B: UpdateBackend> {
    optimizer: &'a mut AdamW<B>,
    grads: BTreeMap<String, FloatTensor<B>>,
    learning_rate: f64,
    clip: f64,
    path: Path,
}

impl<B: UpdateBackend, A: AutodiffBackend<InnerBackend = B>> ModuleMapper<A> for Map<'_, B> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.enter(name);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<A, D>>) -> Param<Tensor<A, D>> {
        let name = self.path.name();
        let Some(grad) = self.grads.remove(&name) else { return param };
        let update = self.optimizer.update(&name, D, self.clip, self.learning_rate);
        param.map(|tensor| {
            let values = tensor.inner();
            let options = (&values.device(), values.dtype());
            let moments = self.optimizer.moments.remove(&name);
            let moments = moments.unwrap_or_else(|| Tensor::zeros([2, values.shape().num_elements()], options));
            let (values, moments) = (values.into_primitive().tensor(), moments.into_primitive().tensor());
            let [values, moments] = B::adamw(values, grad, moments, &update);
            self.optimizer.moments.insert(name, tensor_of(moments));
            Tensor::from_inner(tensor_of(values)).require_grad()
        })
    }
}

fn tensor_of<B: UpdateBackend, const D: usize>(primitive: FloatTensor<B>) -> Tensor<B, D> {
    Tensor::from_primitive(TensorPrimitive::Float(primitive))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::init::Init;
    use crate::model::nested::NestedLinear;
    use crate::params::named_params;
    use crate::{Cpu, CpuTraining};

    /// Gradients of `scale` times the sum of a layer's outputs.
    fn gradients(layer: &NestedLinear<CpuTraining>, scale: f32) -> GradientsParams {
        let x = Tensor::<CpuTraining, 2>::ones([1, 2], &Default::default());
        let loss = layer.forward(x).mul_scalar(scale).sum();
        GradientsParams::from_grads(loss.backward(), layer)
    }

    #[test]
    fn gradients_without_a_finite_norm_change_nothing() {
        let device = Default::default();
        let layer = NestedLinear::new(&[2], true, false, &mut Init::<CpuTraining>::new(1, &device));
        let mut optimizer = AdamW::<Cpu>::new(AdamWConfig::new(0.01, 5.0));
        let (layer, norm) = optimizer.step(layer.clone(), gradients(&layer, 1.0), 0.1).unwrap();
        let params = named_params(&layer);
        let before = (optimizer.step, optimizer.moments(&params));
        assert!(norm > 0.0 && !before.1.is_empty());
        for scale in [f32::INFINITY, f32::NAN] {
            let refused = optimizer.step(layer.clone(), gradients(&layer, scale), 0.1);
            assert!(matches!(refused, Err(Divergence::Gradient(norm)) if !norm.is_finite()), "{scale}");
            assert_eq!((optimizer.step, optimizer.moments(&params)), before);
        }
    }
}
