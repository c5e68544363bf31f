//! What a run says about itself: quality per dim, baselines, curves.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Quality at one dim.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DimQuality {
    /// The dim.
    pub dim: usize,
    /// `recall@10` and so on.
    pub metrics: BTreeMap<String, f64>,
}

/// Quality at an exit after an earlier block.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExitQuality {
    /// Blocks before the exit.
    pub depth: usize,
    /// Largest dim last.
    pub dims: Vec<DimQuality>,
}

/// Quality of a method without training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BaselineQuality {
    /// Method.
    pub name: String,
    /// `recall@10` and so on.
    pub metrics: BTreeMap<String, f64>,
}

/// One evaluation: leave-one-out, full ranking, seen items not removed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// `test` or `validation`.
    pub split: String,
    /// Users evaluated.
    pub users: usize,
    /// Items ranked.
    pub items: usize,
    /// Largest dim last.
    pub dims: Vec<DimQuality>,
    /// Trained exits after earlier blocks; absent in reports of before there were any.
    #[serde(default)]
    pub exits: Vec<ExitQuality>,
    /// Columns that each block worked on, where not the whole model was evaluated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block_dims: Option<Vec<usize>>,
    /// Popularity and item-to-item cosine.
    pub baselines: Vec<BaselineQuality>,
    /// Epoch whose weights these are; 0 when not known.
    pub epoch: usize,
}

/// One epoch of training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EpochLine {
    /// From 1.
    pub epoch: usize,
    /// Mean training loss over the epoch's steps.
    pub loss: f64,
    /// Learning rate of the last step.
    pub learning_rate: f64,
    /// Validation metric that early stopping watches.
    pub metric: f64,
    /// Best value so far.
    pub best: f64,
    /// Validation metrics of every dim.
    pub validation: Vec<DimQuality>,
}

/// Sees training go by. All methods have a quiet default.
pub trait TrainObserver {
    /// After each step; `step` from 1.
    fn step(&mut self, epoch: usize, step: usize, steps: usize, loss: f64) {
        let _ = (epoch, step, steps, loss);
    }
    /// After each epoch.
    fn epoch(&mut self, line: &EpochLine) {
        let _ = line;
    }
    /// Asked before each step: true stops with a checkpoint.
    fn should_stop(&self) -> bool {
        false
    }
}

impl TrainObserver for () {}
