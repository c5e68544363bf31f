//! A Bundle of any size for load tests. Its numbers of quality are real: items form rings, the next
//! item is one of the neighbours of the last, and each epoch teaches the model a little of that.

use crate::BundleArgs;
use feature_store::{
    EncoderInfo, FeatureBlock, FeatureDtype, Interaction, Item, Snapshot, SnapshotContents, write_snapshot,
};
use fmrlrec::{
    Device, DropoutConfig, EarlyStopping, ModelConfig, ObjectiveConfig, OptimizerConfig, ProjectorStart, TrainConfig,
    train,
};
use rand::{Rng as _, SeedableRng as _};

/// Users of the training data: enough to touch every item a few times.
const USERS: u32 = 3_000;
/// Steps of a user's walk.
const STEPS: u32 = 24;
/// Width of the random features that stand for an encoder's.
const FEATURES: usize = 256;
/// Smallest dim trained.
const SMALLEST_DIM: usize = 16;

/// Writes a Snapshot beside `output`, trains on it, and removes it.
pub(crate) fn make(args: &BundleArgs) -> Result<(), Box<dyn std::error::Error>> {
    let mut beside = args.output.clone().into_os_string();
    beside.push(".snapshot");
    let beside = std::path::PathBuf::from(beside);
    write_snapshot(&beside, contents(args.items))?;
    let report = train(&Snapshot::open(&beside)?, &config(args), &args.output, false, Device::Cpu, &mut ())?;
    std::fs::remove_dir_all(&beside)?;
    for at in &report.dims {
        eprintln!("dim {:>4}: recall@10 {:.4}", at.dim, at.metrics["recall@10"]);
    }
    Ok(())
}

fn contents(items: usize) -> SnapshotContents {
    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(1);
    let mut interactions = Vec::new();
    for user in 0..USERS {
        let mut item = random.random_range(0..items as u32);
        for step in 0..STEPS {
            interactions.push(Interaction { user, item: item + 1, timestamp_ms: i64::from(step) });
            item = (item + random.random_range(1..=8)) % items as u32;
        }
    }
    let item = |id: usize| Item { key: id.to_string(), title: format!("Item number {id}"), text: String::new() };
    SnapshotContents {
        users: (0..USERS).map(|user| user.to_string()).collect(),
        items: (1..=items).map(item).collect(),
        interactions,
        features: vec![features(items, &mut random)],
        attributes: Vec::new(),
        sources: Vec::new(),
        config: serde_json::Value::Null,
        notes: Default::default(),
    }
}

/// Neighbours on the ring have similar features, as neighbours in a catalogue do: a sum of waves.
fn features(items: usize, random: &mut rand_chacha::ChaCha8Rng) -> FeatureBlock {
    let waves: Vec<(f32, f32)> =
        (0..FEATURES).map(|_| (random.random_range(1.0..400.0f32), random.random_range(0.0..6.3f32))).collect();
    let mut values = vec![0.0f32; FEATURES];
    for item in 0..items {
        let at = item as f32 / items as f32 * std::f32::consts::TAU;
        values.extend(waves.iter().map(|(frequency, phase)| (at * frequency.round() + phase).cos() * 0.3));
    }
    let mut mask = vec![1; items + 1];
    mask[0] = 0;
    let encoder = EncoderInfo { name: "waves".into(), weights_sha256: None };
    FeatureBlock { name: "waves".into(), dim: FEATURES, values, mask, dtype: FeatureDtype::F32, encoder }
}

fn config(args: &BundleArgs) -> TrainConfig {
    let mut dims: Vec<usize> =
        std::iter::successors(Some(args.dim), |dim| (dim / 2 >= SMALLEST_DIM).then_some(dim / 2)).collect();
    dims.reverse();
    let objective = ObjectiveConfig {
        dim_weights: vec![1.0; dims.len()],
        scaled_logits: false,
        distillation: 0.0,
        exits: Vec::new(),
    };
    TrainConfig {
        features: vec!["waves".into()],
        seed: 1,
        epochs: args.epochs,
        max_len: 50,
        batch_positions: 1024,
        dropout: DropoutConfig::Everywhere(0.1),
        model: ModelConfig {
            nesting_dims: dims,
            blocks: 2,
            r_min: 0.0,
            r_max: 0.99,
            item_embedding: false,
            projector_start: ProjectorStart::Normal,
            vector_norm: false,
        },
        objective,
        optimizer: OptimizerConfig {
            learning_rate: 0.002,
            warmup_steps: 10,
            final_rate: 0.1,
            weight_decay: 0.01,
            clip_norm: 5.0,
        },
        early_stopping: EarlyStopping { metric: "ndcg@10".into(), patience: 100 },
        compatibility: None,
    }
}
