//! What a training step costs at a given shape, on random data: one JSON line with the median wall
//! and CPU seconds of a step and, on the CPU, the process's peak memory after the steps and how many users
//! per second are evaluated at all dims (every item ranked). `benches/training_cost.sh` compares it with PyTorch
//! on the CPU, `benches/gpu_cost.sh` on a GPU. RAYON_NUM_THREADS sets the threads.
//!
//! ```text
//! cargo run --release -p fmrlrec --example training_cost -- dims=8,16,32,64,128 items=12101 features=2048
//! ```
//! Settings, each `name=value`: `dims` (comma-separated), `items`, `features`, `blocks`, `users` a
//! step, `max_len`, `mean_len` of the labelled positions a user has, `steps` timed, `dropout`; 1 for `embedding` adds
//! a learned vector for each item, 1 for `norm` ends item and user vectors in a norm; `device` cpu, cuda or wgpu.
#![allow(clippy::print_stdout)]

use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};
use fmrlrec::model::{FmrlRec, gather};
use fmrlrec::ops::{NestedBackend, Objective, host_values};
use fmrlrec::{
    AdamW, AdamWConfig, Batch, Cpu, CpuTraining, Learner, LeaveOneOut, ModelConfig, ProjectorStart, TrainingBackend,
    pack_histories, ranks_at_dims, training_batches,
};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Instant;

/// Steps before the clock starts.
const WARM_UP: usize = 2;
/// Multiples of it, less their whole parts, are spread evenly over 0..1.
const GOLDEN: f64 = 0.618_033_988_749_894_9;
/// Users evaluated.
const EVALUATED: usize = 512;

fn main() -> Result<(), String> {
    let settings = Settings::read()?;
    let mut row = match settings.0["device"].as_str() {
        "cpu" => steps::<CpuTraining>(&settings)?,
        #[cfg(feature = "cuda")]
        "cuda" => {
            fmrlrec::gpu::check_cuda().map_err(|missing| missing.to_string())?;
            steps::<fmrlrec::gpu::CudaTraining>(&settings)?
        }
        #[cfg(feature = "wgpu")]
        "wgpu" => {
            fmrlrec::gpu::check_wgpu().map_err(|missing| missing.to_string())?;
            steps::<fmrlrec::gpu::WgpuTraining>(&settings)?
        }
        other => return Err(format!("device={other}: cpu, or cuda or wgpu in a build with that feature")),
    };
    if settings.0["device"] == "cpu" {
        row["peak_mib"] = peak_mib().into();
        row["evaluated_a_second"] = evaluated_a_second(&settings)?.into();
    }
    println!("{row}");
    Ok(())
}

/// The features of random items, `[n + 1, f]`.
fn features<B: Backend>(settings: &Settings, rng: &mut ChaCha8Rng) -> Result<Tensor<B, 2>, String> {
    let (items, features) = (settings.number("items")? as usize, settings.number("features")? as usize);
    let values: Vec<f32> = (0..(items + 1) * features)
        .map(|at| if at < features { 0.0 } else { rng.random_range(-1.0..1.0) / (features as f32).sqrt() })
        .collect();
    Ok(Tensor::from_data(TensorData::new(values, [items + 1, features]), &Default::default()))
}

fn model<B: NestedBackend>(settings: &Settings) -> Result<FmrlRec<B>, String> {
    let number = |name: &str| settings.number(name);
    let config = ModelConfig {
        nesting_dims: settings.dims()?,
        blocks: number("blocks")? as usize,
        r_min: 0.8,
        r_max: 0.99,
        item_embedding: number("embedding")? > 0.0,
        projector_start: ProjectorStart::Normal,
        vector_norm: number("norm")? > 0.0,
    };
    Ok(FmrlRec::new(&config, number("features")? as usize, number("items")? as usize, 1, &Default::default()))
}

/// Times steps; the row that is printed.
fn steps<B: TrainingBackend>(settings: &Settings) -> Result<serde_json::Value, String> {
    let number = |name: &str| settings.number(name);
    let dims = settings.dims()?;
    let (items, users, steps) = (number("items")? as usize, number("users")? as usize, number("steps")? as usize);
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let features = features::<B>(settings, &mut rng)?;
    let objective = Objective::mean(&dims);
    let mut learner = Learner::<B> {
        model: model(settings)?,
        optimizer: AdamW::new(AdamWConfig::new(0.01, 5.0)),
        dropout: vec![number("dropout")?; dims[dims.len() - 1]],
        seed: 1,
        exits: Vec::new(),
        old_table: None,
    };
    let mut times = Vec::new();
    let mut positions = 0;
    let mut loss = 0.0;
    for step in 0..WARM_UP + steps {
        let batch = batch(&mut rng, items, step * users..(step + 1) * users, number("max_len")?, number("mean_len")?)?;
        let (wall, cpu) = (Instant::now(), cpu_seconds());
        loss = learner.step(&batch, &features, &objective, 1e-3).map_err(|what| what.to_string())?;
        // A GPU may still be at the update when the loss is there.
        B::sync(&features.device()).map_err(|error| format!("the device failed: {error:?}"))?;
        if step >= WARM_UP {
            times.push((wall.elapsed().as_secs_f64(), cpu_seconds() - cpu));
            positions += batch.labels.len();
        }
    }
    let positions = positions / steps;
    Ok(serde_json::json!({
        "implementation": "this repository",
        "dims": dims,
        "items": items,
        "positions_a_step": positions,
        "wall_s": median(times.iter().map(|(wall, _)| *wall)),
        // The kernel counts CPU time in ticks of 10 ms: the mean is the better figure.
        "cpu_s": times.iter().map(|(_, cpu)| cpu).sum::<f64>() / steps as f64,
        "loss": loss,
    }))
}

/// Users with lengths like Beauty's: three labelled positions and an exponential tail. The n-th user has the same
/// length in every implementation.
fn batch(
    rng: &mut ChaCha8Rng,
    items: usize,
    users: Range<usize>,
    max_len: f64,
    mean_len: f64,
) -> Result<Batch, String> {
    let mut sequences = Vec::with_capacity(users.len());
    for user in users {
        let quantile = ((user as f64 + 0.5) * GOLDEN).fract();
        let tail = -(mean_len - 3.0).max(0.0) * (1.0 - quantile).ln();
        let len = (3.0 + tail).round().min(max_len) as usize + 2;
        sequences.push((0..len).map(|_| rng.random_range(1..=items as u32)).collect());
    }
    let mut batches = training_batches(&LeaveOneOut::new(sequences), max_len as usize, usize::MAX, 1, 0);
    batches.pop().ok_or_else(|| "users is 0: a step needs one user at least".to_owned())
}

/// Users evaluated a second at all dims: forward pass over a history of 9 items, ranks among all items.
fn evaluated_a_second(settings: &Settings) -> Result<f64, String> {
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    let (model, dims) = (model::<Cpu>(settings)?, settings.dims()?);
    let table = model.item_table(features(settings, &mut rng)?);
    let values = host_values(table.clone());
    let items = table.dims()[0] as u32 - 1;
    let histories: Vec<Vec<u32>> =
        (0..EVALUATED).map(|_| (0..9).map(|_| rng.random_range(1..=items)).collect()).collect();
    let start = Instant::now();
    // As `evaluate` does: forward passes one after the other, then the ranks of all users on all threads.
    let mut users: Vec<f32> = Vec::new();
    for histories in histories.chunks(64) {
        let (batch, last) = pack_histories(histories.iter().map(Vec::as_slice), 50);
        let whole = model.block_dims(model.blocks.len());
        let (x, _) = model.forward_cut_at(gather(table.clone(), &batch.tokens), &batch.keep, &whole, &last);
        users.extend(host_values::<f32, _, 2>(x));
    }
    let targets: Vec<u32> = histories.iter().map(|history| history[0]).collect();
    std::hint::black_box(ranks_at_dims(&users, &values, &targets, &dims));
    Ok(EVALUATED as f64 / start.elapsed().as_secs_f64())
}

struct Settings(BTreeMap<String, String>);

impl Settings {
    fn read() -> Result<Settings, String> {
        let defaults = "dims=8,16,32,64,128 items=12101 features=2048 blocks=1 users=32 max_len=50 mean_len=7.2 \
                        steps=10 dropout=0.6 embedding=0 norm=0 device=cpu";
        let mut settings = Settings(BTreeMap::new());
        for pair in defaults.split_whitespace().map(str::to_owned).chain(std::env::args().skip(1)) {
            let (name, value) = pair.split_once('=').ok_or_else(|| format!("{pair:?} is not name=value"))?;
            settings.0.insert(name.to_owned(), value.to_owned());
        }
        Ok(settings)
    }

    fn number(&self, name: &str) -> Result<f64, String> {
        let value = &self.0[name];
        value.parse().map_err(|_| format!("{name}={value}: a number is expected"))
    }

    fn dims(&self) -> Result<Vec<usize>, String> {
        let parse = |dim: &str| dim.parse().map_err(|_| format!("dims: {dim:?} is no dim"));
        self.0["dims"].split(',').map(parse).collect()
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// User and system time of this process, all threads, in ticks of 10 ms; 0 where there is no /proc.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}

/// Peak resident memory in MiB; 0 where there is no /proc.
fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap_or(0) / 1024
}
