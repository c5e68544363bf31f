//! The number of threads changes no byte: what is added up in parallel is added up in an order that shapes decide.

use crate::training::{bytes, config, snapshot};
use burn::tensor::{Tensor, TensorData};
use fmrlrec::model::FmrlRec;
use fmrlrec::ops::{Objective, UpdateBackend};
use fmrlrec::{
    AdamW, AdamWConfig, Cpu, CpuTraining, Device, Exit, ExitConfig, Learner, LeaveOneOut, ModelConfig, ProjectorStart,
    named_params, train, training_batches,
};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// So many that the loss has ten parts, the norm of the item table twenty blocks of rows, and the update of learned
/// vectors ten chunks.
const ITEMS: usize = 5_000;
/// 40 users, ten labels each: more than one block of a norm's rows, and more than one chunk of a dropout mask.
const USERS: usize = 40;
const LABELS_A_USER: usize = 10;
const FEATURES: usize = 24;
const DIMS: [usize; 3] = [8, 16, 64];

fn in_pool<T: Send>(threads: usize, work: impl FnOnce() -> T + Send) -> T {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(work)
}

/// Losses of two steps, and every parameter after them, as bits.
fn two_steps(item_embedding: bool, vector_norm: bool) -> (Vec<u64>, Vec<(String, Vec<u32>)>) {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let device = Default::default();
    let values: Vec<f32> =
        (0..(ITEMS + 1) * FEATURES).map(|at| if at < FEATURES { 0.0 } else { rng.random_range(-1.0..1.0) }).collect();
    let features = Tensor::<CpuTraining, 2>::from_data(TensorData::new(values, [ITEMS + 1, FEATURES]), &device);
    let mut sequence = || (0..LABELS_A_USER + 2).map(|_| rng.random_range(1..=ITEMS as u32)).collect();
    let held = LeaveOneOut::new((0..USERS).map(|_| sequence()).collect());
    let batches = training_batches(&held, 50, usize::MAX, 1, 0);
    let [batch] = &batches[..] else { panic!("all positions are one batch") };
    assert_eq!(batch.labels.len(), USERS * LABELS_A_USER);
    let config = ModelConfig {
        nesting_dims: DIMS.to_vec(),
        blocks: 2,
        r_min: 0.5,
        r_max: 0.95,
        item_embedding,
        projector_start: ProjectorStart::Normal,
        vector_norm,
    };
    let mut learner = Learner::<CpuTraining> {
        model: FmrlRec::new(&config, FEATURES, ITEMS, 1, &device),
        optimizer: AdamW::new(AdamWConfig::new(0.01, 1e-3)),
        dropout: vec![0.2; DIMS[2]],
        seed: 1,
        exits: vec![Exit { depth: 1, objective: Objective::mean(&DIMS[..2]) }],
        old_table: None,
    };
    let mut step = || learner.step(batch, &features, &Objective::mean(&DIMS), 0.01).unwrap().to_bits();
    let losses = vec![step(), step()];
    let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect();
    let params = named_params(&learner.model).into_iter().map(|(name, param)| (name, bits(param.values))).collect();
    (losses, params)
}

#[test]
fn two_steps_on_many_items_are_the_same_bytes() {
    let check = |what: &str, item_embedding, vector_norm| {
        let run = |threads| in_pool(threads, || two_steps(item_embedding, vector_norm));
        let ((losses, params), (more_losses, more_params)) = (run(1), run(3));
        assert_eq!(losses, more_losses, "{what}: losses");
        assert_eq!(params.len(), more_params.len());
        for ((name, values), (_, others)) in params.iter().zip(&more_params) {
            assert!(values == others, "{what}: {name} differs");
        }
    };
    // Learned vectors and norms form every table column, without them the widest slice is factored.
    check("columns", true, true);
    check("factored", false, false);
}

/// A step rounds to f32 what the gradients' norm scales, which hides the last bits of the norm.
#[test]
fn the_norm_of_many_gradients_is_the_same_bits() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let values: Vec<f32> = (0..ITEMS * DIMS[2]).map(|_| rng.random_range(-1.0..1.0)).collect();
    let tensor = Tensor::<Cpu, 2>::from_data(TensorData::new(values, [ITEMS, DIMS[2]]), &Default::default());
    let squares = |threads| in_pool(threads, || Cpu::sum_of_squares(&[tensor.clone().into_primitive().tensor()]));
    assert_eq!(squares(1).to_bits(), squares(3).to_bits());
}

/// The rest of a run too: where the projector starts, validation, the Bundle.
#[test]
fn a_whole_run_is_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let snapshot = snapshot(&dir.path().join("snapshot"), |_| ());
    let mut config = config();
    config.epochs = 1;
    config.model.blocks = 2;
    config.model.projector_start = ProjectorStart::Whitened;
    config.objective.exits = vec![ExitConfig { depth: 1, dim: 8, weight: 0.5 }];
    let trained = |threads: usize| {
        let output = dir.path().join(threads.to_string());
        in_pool(threads, || train(&snapshot, &config, &output, false, Device::Cpu, &mut ()).unwrap());
        ["bundle.json", "weights.safetensors", "report.json"].map(|file| bytes(&output, file))
    };
    assert!(trained(1) == trained(3));
}
