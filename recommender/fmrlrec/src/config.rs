//! Everything that decides a training run. A TOML file states every value: only the tables of exits and of
//! compatibility may be left out, which means none, and a name that is not known is an error.

use crate::TrainError;
use crate::learner::Exit;
use crate::ops::{Objective, slices};
use serde::{Deserialize, Serialize};
use std::ops::RangeInclusive;

/// Weights of parts of the loss: within them no sum, quotient or product of two is infinite or 0.
const WEIGHTS: RangeInclusive<f64> = 1e-6..=1e6;

/// The dim whose scores stay as they are with `objective.scaled_logits`. With `model.vector_norm` any would do, since
/// `user_norm` learns its scale.
const UNSCALED_DIM: f64 = 64.0;

/// The shape of the model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// Dims trained, ascending; the last is the model's full width.
    pub nesting_dims: Vec<usize>,
    /// Number of LRU blocks.
    pub blocks: usize,
    /// Smallest |lambda| at the start.
    pub r_min: f64,
    /// Largest |lambda| at the start, below 1.
    pub r_max: f64,
    /// Whether each item also has a learned vector of its own, added to its projected features.
    pub item_embedding: bool,
    /// Where the projector starts.
    pub projector_start: ProjectorStart,
    /// Whether item vectors and user vectors end in a nested layer norm, so that scores compare
    /// directions and no item wins by its length.
    pub vector_norm: bool,
}

/// Where the projector from features to item vectors starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProjectorStart {
    /// Small normal weights, as in the paper.
    Normal,
    /// The features' principal directions, by falling variance.
    Principal,
    /// As `principal`, and training sees the features with these directions at variance 1 (see the
    /// module `whitening`).
    Whitened,
}

/// What is minimised, beyond the plain mean of the paper.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObjectiveConfig {
    /// Relative weight of each nesting dim's cross entropy, in the order of `model.nesting_dims`;
    /// equal ones are the paper's.
    pub dim_weights: Vec<f64>,
    /// Whether scores are multiplied by `sqrt(64 / dim)` before the softmax (see [`ObjectiveConfig::logit_scales`]), so that
    /// a small dim's softmax can be as sharp as a large one's; meant for `model.vector_norm`. The paper's are not.
    pub scaled_logits: bool,
    /// Share of the largest dim's softmax in the targets of the smaller dims, 0 to below 1; 0 is the
    /// paper's.
    pub distillation: f64,
    /// Exits after earlier blocks that are trained too, one table each (`[[objective.exits]]`); without
    /// such tables only the last block's output is trained, as in the paper.
    #[serde(default)]
    pub exits: Vec<ExitConfig>,
}

impl ObjectiveConfig {
    /// What the scores of each dim are multiplied by before the softmax.
    ///
    /// A dim's score is a sum over its columns, and the same columns serve all larger dims. With normed vectors its
    /// deviation grows with the root of the dim, whatever the model learns: columns that are scaled up until 8 of them
    /// make a sharp softmax drown all others at 256. So each dim's scores are divided by that root, as in attention.
    /// The order of scores does not change, so serving needs none of it.
    pub fn logit_scales(&self, dims: &[usize]) -> Vec<f64> {
        let scale = |dim: &usize| if self.scaled_logits { (UNSCALED_DIM / *dim as f64).sqrt() } else { 1.0 };
        dims.iter().map(scale).collect()
    }
}

/// An exit after an earlier block: its output is trained like the last one's, so that a tier may name
/// a depth and a dim (elastic depth, after 2D Matryoshka and Starbucks).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExitConfig {
    /// Blocks before the exit, from 1, fewer than `model.blocks`.
    pub depth: usize,
    /// Largest nesting dim trained there; the smaller ones are trained with it.
    pub dim: usize,
    /// Weight of its mean cross entropy beside 1 for the last block's.
    pub weight: f64,
}

/// AdamW, clipping and the learning rate's course: linear warm-up, then cosine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OptimizerConfig {
    /// Peak learning rate.
    pub learning_rate: f64,
    /// Steps from 0 to the peak; the first step already has rate `peak / warmup_steps`.
    pub warmup_steps: u64,
    /// Share of the peak left at the end of the last epoch.
    pub final_rate: f64,
    /// Decay of weight matrices; biases, norms and the LRU's logs have none.
    pub weight_decay: f64,
    /// Largest global gradient norm.
    pub clip_norm: f64,
}

/// Share of activations dropped.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "`dropout` must be a number, or a list of one number for each nesting dim")]
pub enum DropoutConfig {
    /// The same everywhere, as in the paper.
    Everywhere(f64),
    /// One share a nesting dim, for the columns that it adds to the dim before it.
    BySlice(Vec<f64>),
}

/// When to stop before the last epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EarlyStopping {
    /// Validation metric at the largest dim, such as `ndcg@10`. The best epoch's weights are kept.
    pub metric: String,
    /// Epochs without a better value before stopping.
    pub patience: usize,
}

/// Staying compatible with an older Bundle, given with the run; see the module `compatibility`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CompatibilityConfig {
    /// Weight of the loss against the older item vectors, beside 1 for the model's own.
    pub weight: f64,
}

/// Fewest columns of a slice with `model.vector_norm`, which leaves a slice of two nothing but a sign, and one of a single
/// column nothing at all.
const LEAST_NORMED: usize = 4;

/// A training run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainConfig {
    /// Names of the Snapshot's feature matrices, side by side in this order.
    pub features: Vec<String>,
    /// Seed of weights, order and dropout.
    pub seed: u64,
    /// Most epochs.
    pub epochs: usize,
    /// Longest window of a sequence; longer sequences are cut into windows. Also the number of
    /// newest items that evaluation and serving read.
    pub max_len: usize,
    /// Labelled positions a step, about.
    pub batch_positions: usize,
    /// Share of activations dropped.
    pub dropout: DropoutConfig,
    /// The model.
    pub model: ModelConfig,
    /// The loss.
    pub objective: ObjectiveConfig,
    /// The optimizer.
    pub optimizer: OptimizerConfig,
    /// Early stopping.
    pub early_stopping: EarlyStopping,
    /// Compatibility with an older Bundle; without this table there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compatibility: Option<CompatibilityConfig>,
}

impl ModelConfig {
    /// The model's full width.
    pub fn largest_dim(&self) -> usize {
        self.nesting_dims.last().copied().unwrap_or(0)
    }

    /// Checks what a model is made of.
    ///
    /// # Errors
    /// One sentence that names the field, its value and what is allowed.
    pub fn validate(&self) -> Result<(), TrainError> {
        let dims = &self.nesting_dims;
        check(!dims.is_empty(), "model.nesting_dims", "is empty", "name at least one dim")?;
        check(
            dims[0] > 0 && dims.windows(2).all(|pair| pair[0] < pair[1]),
            "model.nesting_dims",
            dims,
            "must rise from 1 on",
        )?;
        check(
            dims.len() <= 16 && self.largest_dim() <= 8192,
            "model.nesting_dims",
            dims,
            "at most 16 dims of at most 8192",
        )?;
        check((1..=32).contains(&self.blocks), "model.blocks", self.blocks, "must be in 1..=32")?;
        let radii = 0.0 <= self.r_min && self.r_min < self.r_max && self.r_max < 1.0;
        check(radii, "model.r_min, r_max", (self.r_min, self.r_max), "must rise within 0..1")
    }
}

impl TrainConfig {
    /// The loss's dims and weights.
    pub fn objective(&self) -> Objective {
        let total: f64 = self.objective.dim_weights.iter().sum();
        Objective {
            dims: self.model.nesting_dims.clone(),
            weights: self.objective.dim_weights.iter().map(|weight| weight / total).collect(),
            logit_scales: self.objective.logit_scales(&self.model.nesting_dims),
            distillation: self.objective.distillation,
        }
    }

    /// Share of activations dropped in each of the model's columns.
    pub fn dropout_of_columns(&self) -> Vec<f64> {
        let dims = &self.model.nesting_dims;
        let rate = |column| match &self.dropout {
            DropoutConfig::Everywhere(rate) => *rate,
            DropoutConfig::BySlice(rates) => rates[dims.partition_point(|dim| *dim <= column)],
        };
        (0..self.model.largest_dim()).map(rate).collect()
    }

    /// Each exit's depth, weight and loss: the mean over its dims, weighted as at the last block.
    pub fn exits(&self) -> Vec<Exit> {
        let exit = |exit: &ExitConfig| {
            let dims: Vec<usize> = self.model.nesting_dims.iter().copied().filter(|dim| *dim <= exit.dim).collect();
            let weights = &self.objective.dim_weights[..dims.len()];
            let scale = exit.weight / weights.iter().sum::<f64>();
            let weights = weights.iter().map(|weight| weight * scale).collect();
            let logit_scales = self.objective.logit_scales(&dims);
            let objective = Objective { dims, weights, logit_scales, distillation: self.objective.distillation };
            Exit { depth: exit.depth, objective }
        };
        self.objective.exits.iter().map(exit).collect()
    }

    /// Checks every value, and what would train and be of no use. A Bundle that was trained so all the same is read.
    ///
    /// # Errors
    /// One sentence that names the field, its value and what is allowed.
    pub fn validate_new(&self) -> Result<(), TrainError> {
        self.validate()?;
        let twice = (1..self.features.len()).find(|at| self.features[..*at].contains(&self.features[*at]));
        if let Some(at) = twice {
            return check(false, "features", &self.features[at], "is named twice; name it once");
        }
        let dims = &self.model.nesting_dims;
        let narrow = |slice: &std::ops::Range<usize>| self.model.vector_norm && slice.len() < LEAST_NORMED;
        check(
            !slices(dims).iter().any(narrow),
            "model.nesting_dims",
            dims,
            format_args!(
                "each must add {LEAST_NORMED} columns at least to the one before it with model.vector_norm, which norms \
                 what each adds: leave dims out"
            ),
        )
    }

    /// Checks every value.
    ///
    /// # Errors
    /// One sentence that names the field, its value and what is allowed.
    pub fn validate(&self) -> Result<(), TrainError> {
        self.model.validate()?;
        let dims = &self.model.nesting_dims;
        let has_input = !self.features.is_empty() || self.model.item_embedding;
        check(has_input, "features", "is empty", "name a feature matrix of the Snapshot or set model.item_embedding")?;
        check(
            !self.features.is_empty() || self.model.projector_start == ProjectorStart::Normal,
            "model.projector_start",
            match self.model.projector_start {
                ProjectorStart::Normal => "normal",
                ProjectorStart::Principal => "principal",
                ProjectorStart::Whitened => "whitened",
            },
            "needs features; without any there is no projector: set it to \"normal\"",
        )?;
        let weights = &self.objective.dim_weights;
        check(
            weights.len() == dims.len() && weights.iter().all(|weight| WEIGHTS.contains(weight)),
            "objective.dim_weights",
            weights,
            "one number in 1e-6..=1e6 for each nesting dim",
        )?;
        let distillation = self.objective.distillation;
        check((0.0..1.0).contains(&distillation), "objective.distillation", distillation, "must be in 0..1")?;
        self.validate_exits()?;
        if let Some(CompatibilityConfig { weight }) = self.compatibility {
            check(WEIGHTS.contains(&weight), "compatibility.weight", weight, "must be in 1e-6..=1e6")?;
        }
        check((1..=10_000).contains(&self.epochs), "epochs", self.epochs, "must be in 1..=10000")?;
        check((2..=10_000).contains(&self.max_len), "max_len", self.max_len, "must be in 2..=10000")?;
        check(
            (1..=1_000_000).contains(&self.batch_positions),
            "batch_positions",
            self.batch_positions,
            "must be in 1..=1000000",
        )?;
        self.validate_dropout()?;
        self.validate_optimizer()?;
        let metric = self.early_stopping.metric.as_str();
        check(
            crate::metrics::names().iter().any(|name| name == metric),
            "early_stopping.metric",
            metric,
            "must be one like ndcg@10 or recall@20",
        )?;
        check(self.early_stopping.patience > 0, "early_stopping.patience", 0, "must be at least 1")
    }

    fn validate_dropout(&self) -> Result<(), TrainError> {
        let good = |rate: &f64| (0.0..1.0).contains(rate);
        match &self.dropout {
            DropoutConfig::Everywhere(rate) => check(good(rate), "dropout", rate, "must be in 0..1"),
            DropoutConfig::BySlice(rates) => check(
                rates.len() == self.model.nesting_dims.len() && rates.iter().all(good),
                "dropout",
                rates,
                "must be one number in 0..1, or one for each nesting dim",
            ),
        }
    }

    fn validate_optimizer(&self) -> Result<(), TrainError> {
        let optimizer = &self.optimizer;
        let rate = optimizer.learning_rate;
        check(rate > 0.0 && rate < 1.0, "optimizer.learning_rate", rate, "must be within 0..1")?;
        check(
            (0.0..=1.0).contains(&optimizer.final_rate),
            "optimizer.final_rate",
            optimizer.final_rate,
            "must be in 0..=1",
        )?;
        check(
            (0.0..1.0).contains(&optimizer.weight_decay),
            "optimizer.weight_decay",
            optimizer.weight_decay,
            "must be in 0..1",
        )?;
        // Infinity has no place in JSON, where the Bundle's configuration is kept.
        let clip_norm = optimizer.clip_norm;
        let bounded = clip_norm.is_finite() && clip_norm > 0.0;
        check(bounded, "optimizer.clip_norm", clip_norm, "must be a finite number above 0")
    }

    fn validate_exits(&self) -> Result<(), TrainError> {
        let exits = &self.objective.exits;
        let blocks = self.model.blocks;
        check(
            exits.windows(2).all(|pair| pair[0].depth < pair[1].depth),
            "objective.exits",
            exits,
            "depths must rise",
        )?;
        for exit in exits {
            let depth = 1 <= exit.depth && exit.depth < blocks;
            check(
                depth,
                "objective.exits.depth",
                exit.depth,
                format_args!("must be in 1..{blocks}, before the last block"),
            )?;
            let dims = &self.model.nesting_dims;
            check(dims.contains(&exit.dim), "objective.exits.dim", exit.dim, format_args!("must be one of {dims:?}"))?;
            let good = WEIGHTS.contains(&exit.weight);
            check(good, "objective.exits.weight", exit.weight, "must be in 1e-6..=1e6")?;
        }
        Ok(())
    }
}

fn check(good: bool, field: &str, value: impl std::fmt::Debug, rule: impl std::fmt::Display) -> Result<(), TrainError> {
    if good { Ok(()) } else { Err(TrainError::Config(format!("{field} = {value:?}: {rule}"))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_divided_by_the_root_of_their_dim() {
        let check = |scaled_logits, expect: &[f64]| {
            let dim_weights = vec![1.0; 3];
            let objective = ObjectiveConfig { dim_weights, scaled_logits, distillation: 0.0, exits: Vec::new() };
            assert_eq!(objective.logit_scales(&[16, 64, 256]), expect);
        };
        check(true, &[2.0, 1.0, 0.5]);
        check(false, &[1.0, 1.0, 1.0]);
    }
}
