//! AdamW with the arithmetic of torch >= 1.13: decay first and apart from the gradient, bias
//! correction, `eps` outside the root; gradients clipped by global norm before. Burn's own AdamW
//! has one decay for all parameters; norms, biases and the LRU's logs must have none.

use crate::Divergence;
use crate::ops::{Real, host_values};
use crate::params::{ParamValues, Path};
use burn::module::{AutodiffModule, ModuleMapper, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::backend::AutodiffBackend;
use burn::tensor::{Tensor, TensorData};
use rayon::prelude::*;
use std::collections::BTreeMap;

/// Elements that one thread updates at a time.
const CHUNK: usize = 1 << 15;

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
pub struct AdamW<T = f32> {
    config: AdamWConfig,
    /// Steps done.
    pub step: u64,
    /// First and second moments.
    pub moments: BTreeMap<String, [ParamValues<T>; 2]>,
}

impl<T: Real> AdamW<T> {
    /// No step done yet.
    pub fn new(config: AdamWConfig) -> AdamW<T> {
        AdamW { config, step: 0, moments: BTreeMap::new() }
    }

    /// One step at `learning_rate`, which consumes the gradients; gives the module after it and the
    /// gradient norm before clipping.
    ///
    /// # Errors
    /// The norm is not finite: no step is counted and the moments stay as they were.
    pub fn step<B: AutodiffBackend, M: AutodiffModule<B>>(
        &mut self,
        module: M,
        grads: GradientsParams,
        learning_rate: f64,
    ) -> Result<(M, f64), Divergence> {
        let mut gather = Gather { grads, found: Vec::new() };
        module.visit(&mut gather);
        let squares = |grad: &Vec<T>| grad.iter().map(|g| g.into_f64().powi(2)).sum::<f64>();
        let norm = gather.found.iter().flatten().map(squares).sum::<f64>().sqrt();
        if !norm.is_finite() {
            return Err(Divergence::Gradient(norm));
        }
        self.step += 1;
        let clip = (self.config.clip_norm / (norm + 1e-6)).min(1.0);
        let grads = gather.found.into_iter();
        let mut update = Update { optimizer: self, grads, learning_rate, clip, path: Path::default() };
        Ok((module.map(&mut update), norm))
    }

    fn decays(&self, name: &str, rank: usize) -> bool {
        match self.config.rule {
            DecayRule::Matrices => rank == 2,
            DecayRule::AllButBiases => !name.contains("bias"),
        }
    }

    /// Torch's update of one parameter, in place on the host, in f64; chunks go to all threads.
    fn update(&mut self, name: &str, shape: &[usize], values: &mut [T], grad: &[T], clip: f64, rate: f64) {
        let AdamWConfig { beta_1, beta_2, epsilon, weight_decay, .. } = self.config;
        let decay = if self.decays(name, shape.len()) { 1.0 - rate * weight_decay } else { 1.0 };
        let step = self.step as i32;
        let rate = rate / (1.0 - beta_1.powi(step));
        let root = (1.0 - beta_2.powi(step)).sqrt();
        let zero = || ParamValues { shape: shape.to_vec(), values: vec![T::ZERO; values.len()] };
        let [first, second] = self.moments.entry(name.to_owned()).or_insert_with(|| [zero(), zero()]);
        let chunks = values.par_chunks_mut(CHUNK).zip(grad.par_chunks(CHUNK));
        let moments = first.values.par_chunks_mut(CHUNK).zip(second.values.par_chunks_mut(CHUNK));
        chunks.zip(moments).for_each(|((values, grad), (first, second))| {
            pulp::Arch::new().dispatch(
                #[inline(always)]
                || {
                    let moments = first.iter_mut().zip(second);
                    for ((value, grad), (m, v)) in values.iter_mut().zip(grad).zip(moments) {
                        let g = T::from_f64(grad.into_f64() * clip).into_f64();
                        *m = T::from_f64(beta_1 * m.into_f64() + (1.0 - beta_1) * g);
                        *v = T::from_f64(beta_2 * v.into_f64() + (1.0 - beta_2) * g * g);
                        let denominator = v.into_f64().sqrt() / root + epsilon;
                        *value = T::from_f64(value.into_f64() * decay - rate * m.into_f64() / denominator);
                    }
                },
            );
        });
    }
}

/// The gradients in the order of the module's parameters; none where a parameter has none.
struct Gather<T> {
    grads: GradientsParams,
    found: Vec<Option<Vec<T>>>,
}

impl<T: Real, B: AutodiffBackend> ModuleVisitor<B> for Gather<T> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        self.found.push(self.grads.remove::<B::InnerBackend, D>(param.id).map(host_values));
    }
}

struct Update<'a, T> {
    optimizer: &'a mut AdamW<T>,
    grads: std::vec::IntoIter<Option<Vec<T>>>,
    learning_rate: f64,
    clip: f64,
    path: Path,
}

impl<T: Real, B: AutodiffBackend> ModuleMapper<B> for Update<'_, T> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.enter(name);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        let Some(grad) = self.grads.next().expect("a module is mapped in the order it is visited") else {
            return param;
        };
        let name = self.path.name();
        let shape = param.dims();
        param.map(|tensor| {
            let device = tensor.device();
            let mut values = host_values(tensor.inner());
            self.optimizer.update(&name, &shape, &mut values, &grad, self.clip, self.learning_rate);
            let data = TensorData::new(values, shape);
            Tensor::from_inner(Tensor::from_data(data, (&device, T::dtype()))).require_grad()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CpuTraining;
    use crate::model::init::Init;
    use crate::model::nested::NestedLinear;

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
        let mut optimizer = AdamW::<f32>::new(AdamWConfig {
            beta_1: 0.9,
            beta_2: 0.999,
            epsilon: 1e-9,
            weight_decay: 0.01,
            clip_norm: 5.0,
            rule: DecayRule::Matrices,
        });
        let (layer, norm) = optimizer.step(layer.clone(), gradients(&layer, 1.0), 0.1).unwrap();
        assert!(norm > 0.0 && !optimizer.moments.is_empty());
        let before = optimizer.clone();
        for scale in [f32::INFINITY, f32::NAN] {
            let refused = optimizer.step(layer.clone(), gradients(&layer, scale), 0.1);
            assert!(matches!(refused, Err(Divergence::Gradient(norm)) if !norm.is_finite()), "{scale}");
            assert_eq!((optimizer.step, &optimizer.moments), (before.step, &before.moments));
        }
    }
}
