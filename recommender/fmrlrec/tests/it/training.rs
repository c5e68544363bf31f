//! Training end to end on a small Snapshot: learning, the Bundle, resuming, bad input.

use feature_store::{
    EncoderInfo, FeatureBlock, FeatureDtype, Interaction, Item, Snapshot, SnapshotContents, write_snapshot,
};
use fmrlrec::{
    Bundle, Device, Divergence, DropoutConfig, EarlyStopping, EpochLine, ExitConfig, ModelConfig, ObjectiveConfig,
    OptimizerConfig, Part, ProjectorStart, Split, TrainConfig, TrainError, TrainObserver, evaluate, train,
};
use std::path::Path;

pub(crate) const ITEMS: usize = 24;

/// Users walk round a ring of items, so the next item is always known.
pub(crate) fn snapshot(dir: &Path, change: impl FnOnce(&mut SnapshotContents)) -> Snapshot {
    let mut contents = SnapshotContents {
        users: (0..40).map(|user| format!("u{user}")).collect(),
        items: (1..=ITEMS)
            .map(|item| Item { key: format!("i{item}"), title: format!("Item {item}"), text: String::new() })
            .collect(),
        interactions: (0..40u32)
            .flat_map(|user| {
                (0..12u32).map(move |step| Interaction {
                    user,
                    item: (user * 5 + step) % ITEMS as u32 + 1,
                    timestamp_ms: i64::from(step),
                })
            })
            .collect(),
        features: vec![one_hot("text"), one_hot("image")],
        attributes: Vec::new(),
        sources: Vec::new(),
        config: serde_json::Value::Null,
        notes: Default::default(),
    };
    change(&mut contents);
    write_snapshot(dir, contents).unwrap();
    Snapshot::open(dir).unwrap()
}

fn one_hot(name: &str) -> FeatureBlock {
    let mut values = vec![0.0; (ITEMS + 1) * ITEMS];
    (0..ITEMS).for_each(|item| values[(item + 1) * ITEMS + item] = 1.0);
    let mut mask = vec![1; ITEMS + 1];
    mask[0] = 0;
    let encoder = EncoderInfo { name: "one-hot".into(), weights_sha256: None };
    FeatureBlock { name: name.into(), dim: ITEMS, values, mask, dtype: FeatureDtype::F32, encoder }
}

pub(crate) fn config() -> TrainConfig {
    TrainConfig {
        features: vec!["text".into(), "image".into()],
        seed: 3,
        epochs: 12,
        max_len: 8,
        batch_positions: 100,
        dropout: DropoutConfig::Everywhere(0.1),
        model: ModelConfig {
            nesting_dims: vec![4, 8, 16],
            blocks: 1,
            r_min: 0.0,
            r_max: 0.9,
            item_embedding: false,
            projector_start: ProjectorStart::Normal,
            vector_norm: false,
        },
        objective: ObjectiveConfig {
            dim_weights: vec![1.0; 3],
            scaled_logits: false,
            distillation: 0.0,
            exits: Vec::new(),
        },
        optimizer: OptimizerConfig {
            learning_rate: 0.02,
            warmup_steps: 5,
            final_rate: 0.1,
            weight_decay: 0.01,
            clip_norm: 5.0,
        },
        early_stopping: EarlyStopping { metric: "ndcg@10".into(), patience: 12 },
        compatibility: None,
    }
}

pub(crate) fn bytes(bundle: &Path, file: &str) -> Vec<u8> {
    std::fs::read(bundle.join(file)).unwrap()
}

#[test]
fn it_learns_and_the_bundle_says_the_same_when_opened_again() {
    let dir = tempfile::tempdir().unwrap();
    let snapshot = snapshot(&dir.path().join("snapshot"), |_| ());
    let output = dir.path().join("bundle");
    let report = train(&snapshot, &config(), &output, false, Device::Cpu, &mut ()).unwrap();
    let ndcg = |at: usize| report.dims[at].metrics["ndcg@10"];
    assert!(ndcg(2) > 0.9, "the ring is learned at the largest dim: {}", ndcg(2));
    assert!(report.baselines.iter().all(|baseline| baseline.metrics["ndcg@10"] < ndcg(2)));
    let bundle = Bundle::open(&output).unwrap();
    let again = evaluate(&bundle, &snapshot, Split::Test, Part::Whole, &mut |_, _| ()).unwrap();
    assert_eq!(again, report);
    assert_eq!(bundle.report(), &report);
    // After items 3, 4, 5 comes 6, at the largest dim.
    let user = bundle.user_vector(&[3, 4, 5], 16).unwrap();
    let scores: Vec<f32> =
        bundle.item_table().chunks(16).map(|item| item.iter().zip(&user).map(|(a, b)| a * b).sum()).collect();
    let best = (1..scores.len()).max_by(|a, b| scores[*a].total_cmp(&scores[*b])).unwrap();
    assert_eq!(best, 6);
    assert_eq!(bundle.user_vector(&[], 4).unwrap().len(), 4, "a new user is served from the start token");
    assert!(bundle.user_vector(&[1], 5).unwrap_err().to_string().contains("trained dims: [4, 8, 16]"));
    assert!(bundle.user_vector(&[99], 4).is_err());
}

/// Keeps what each epoch's validation said.
#[derive(Default)]
struct Lines(Vec<EpochLine>);

impl TrainObserver for Lines {
    fn epoch(&mut self, line: &EpochLine) {
        self.0.push(line.clone());
    }
}

/// Features of unequal variance: item `i`'s own column has the value `i`.
fn spread(contents: &mut SnapshotContents) {
    for feature in &mut contents.features {
        feature.values.iter_mut().enumerate().for_each(|(at, value)| *value *= (at % ITEMS) as f32 + 1.0);
    }
}

/// Training saw whitened features; the Bundle is asked with the features as they are.
#[test]
fn the_bundle_of_a_whitened_run_gives_what_its_best_epoch_was_validated_at() {
    let dir = tempfile::tempdir().unwrap();
    let snapshot = snapshot(&dir.path().join("snapshot"), spread);
    let model = ModelConfig { projector_start: ProjectorStart::Whitened, ..config().model };
    let (config, output) = (TrainConfig { model, ..config() }, dir.path().join("bundle"));
    let mut lines = Lines::default();
    let report = train(&snapshot, &config, &output, false, Device::Cpu, &mut lines).unwrap();
    let best = &lines.0[report.epoch - 1];
    let bundle = Bundle::open(&output).unwrap();
    let again = evaluate(&bundle, &snapshot, Split::Validation, Part::Whole, &mut |_, _| ()).unwrap();
    for (now, then) in again.dims.iter().zip(&best.validation) {
        for (name, value) in &now.metrics {
            let expect = then.metrics[name];
            assert!((value - expect).abs() < 1e-3, "dim {}: {name} is {value}, not {expect}", now.dim);
        }
    }
    assert!(best.metric > 0.9, "it learned: {}", best.metric);
}

/// A run whose steps change nothing shows where the projector started.
#[test]
fn the_projector_starts_where_the_configuration_says() {
    let check = |start: ProjectorStart, falls: bool| {
        let dir = tempfile::tempdir().unwrap();
        let snapshot = snapshot(&dir.path().join("snapshot"), spread);
        let mut config = TrainConfig { epochs: 1, ..config() };
        config.model.projector_start = start;
        config.optimizer.learning_rate = 1e-30;
        let output = dir.path().join("bundle");
        train(&snapshot, &config, &output, false, Device::Cpu, &mut ()).unwrap();
        let bundle = Bundle::open(&output).unwrap();
        let items: Vec<&[f32]> = bundle.item_table().chunks(16).skip(1).collect();
        let variance = |column: usize| {
            let mean = items.iter().map(|item| item[column]).sum::<f32>() / ITEMS as f32;
            items.iter().map(|item| (item[column] - mean).powi(2)).sum::<f32>() / ITEMS as f32
        };
        let (first, last) = (variance(0), variance(15));
        match falls {
            true => assert!(first > 2.0 * last, "{start:?}: {first} to {last}"),
            false => assert!((first / 0.0004 - 1.0).abs() < 0.1 && (last / first - 1.0).abs() < 0.1, "{first}, {last}"),
        }
    };
    check(ProjectorStart::Principal, true);
    check(ProjectorStart::Whitened, false);
}

/// Stops before the step after this many.
pub(crate) struct StopAt(pub(crate) usize, pub(crate) std::cell::Cell<usize>);

impl TrainObserver for StopAt {
    fn epoch(&mut self, _: &EpochLine) {}
    fn should_stop(&self) -> bool {
        self.1.set(self.1.get() + 1);
        self.1.get() > self.0
    }
}

/// The configuration's temperatures reach the loss, and those of an exit are its dims' own.
#[test]
fn every_part_of_the_loss_has_the_temperatures_of_its_dims() {
    let mut config = config();
    config.model.blocks = 2;
    config.objective.exits = vec![ExitConfig { depth: 1, dim: config.model.nesting_dims[0], weight: 0.5 }];
    let check = |config: &TrainConfig, scale: &dyn Fn(usize) -> f64| {
        let exit = config.exits().remove(0).objective;
        for part in [config.objective(), exit] {
            let expect: Vec<f64> = part.dims.iter().map(|dim| scale(*dim)).collect();
            assert_eq!(part.logit_scales, expect);
        }
    };
    check(&config, &|_| 1.0);
    config.objective.scaled_logits = true;
    check(&config, &|dim| (64.0 / dim as f64).sqrt());
}

#[test]
fn dropout_is_a_number_or_one_for_the_columns_of_each_dim() {
    let check = |text: &str, expect: Result<[f64; 6], &str>| {
        let mut config = config();
        config.model.nesting_dims = vec![2, 3, 6];
        let read = serde_json::from_str(text).map_err(|error| error.to_string());
        let columns = read.and_then(|dropout| {
            config.dropout = dropout;
            config.validate().map_err(|error| error.to_string())?;
            Ok(config.dropout_of_columns())
        });
        match (columns, expect) {
            (Ok(columns), Ok(expect)) => assert_eq!(columns, expect),
            (Err(error), Err(expect)) => assert!(error.contains(expect), "{error}"),
            (columns, _) => panic!("{text}: {columns:?}"),
        }
    };
    check("0.3", Ok([0.3; 6]));
    check("0", Ok([0.0; 6]));
    check("[0, 0.1, 0.3]", Ok([0.0, 0.0, 0.1, 0.3, 0.3, 0.3]));
    check("1.0", Err("dropout = 1.0: must be in 0..1"));
    for text in ["[]", "[0.1]", "[0.1, 0.1, 0.1, 0.1]", "[0.0, 0.1, 1.0]", "[0.0, -0.1, 0.5]"] {
        check(text, Err("must be one number in 0..1, or one for each nesting dim"));
    }
    for text in ["\"0.3\"", "[0.1, \"x\", 0.1]", "true", "null"] {
        check(text, Err("`dropout` must be a number, or a list of one number for each nesting dim"));
    }
}

/// One rate for all columns is that rate for each slice, and a slice's own rate reaches training.
#[test]
fn dropout_is_that_of_each_slice() {
    let dir = tempfile::tempdir().unwrap();
    let snapshot = snapshot(&dir.path().join("snapshot"), |_| ());
    let trained = |name: &str, dropout: DropoutConfig| {
        let (config, output) = (TrainConfig { epochs: 1, dropout, ..config() }, dir.path().join(name));
        train(&snapshot, &config, &output, false, Device::Cpu, &mut ()).unwrap();
        std::fs::read(output.join("weights.safetensors")).unwrap()
    };
    let everywhere = trained("everywhere", DropoutConfig::Everywhere(0.1));
    assert!(trained("same", DropoutConfig::BySlice(vec![0.1; 3])) == everywhere);
    assert!(trained("own", DropoutConfig::BySlice(vec![0.1, 0.1, 0.2])) != everywhere);
}

#[test]
fn same_seed_same_bytes_and_resuming_gives_them_too() {
    let dir = tempfile::tempdir().unwrap();
    let snapshot = snapshot(&dir.path().join("snapshot"), |_| ());
    let mut config = config();
    config.epochs = 3;
    config.model.projector_start = ProjectorStart::Whitened;
    config.model.vector_norm = true;
    config.objective.scaled_logits = true;
    let (first, second) = (dir.path().join("first"), dir.path().join("second"));
    train(&snapshot, &config, &first, false, Device::Cpu, &mut ()).unwrap();
    let mut stops = 0;
    let mut resume = false;
    loop {
        // Stops after every third step: in the middle of epochs too.
        match train(&snapshot, &config, &second, resume, Device::Cpu, &mut StopAt(3, Default::default())) {
            Ok(_) => break,
            Err(TrainError::Interrupted { checkpoint, .. }) => assert!(checkpoint.is_file()),
            Err(other) => panic!("{other}"),
        }
        assert!(!second.exists(), "no half-written Bundle");
        (stops, resume) = (stops + 1, true);
    }
    assert!(stops > 2);
    for file in ["bundle.json", "weights.safetensors", "report.json", "curves.csv"] {
        assert!(bytes(&first, file) == bytes(&second, file), "{file} differs");
    }
}

/// Features whose products overflow: the loss of the first step is no finite number.
#[test]
fn a_run_that_diverges_ends_and_leaves_its_last_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let snapshot = snapshot(&dir.path().join("snapshot"), |contents| {
        contents.features.iter_mut().flat_map(|feature| &mut feature.values).for_each(|value| *value *= 1e30);
    });
    let output = dir.path().join("bundle");
    let train = |resume, observer: &mut dyn TrainObserver| {
        train(&snapshot, &config(), &output, resume, Device::Cpu, observer).unwrap_err()
    };
    let TrainError::Interrupted { checkpoint, .. } = train(false, &mut StopAt(0, Default::default())) else {
        panic!("it stops before the first step")
    };
    let before = std::fs::read(&checkpoint).unwrap();
    let error = train(true, &mut ());
    assert!(matches!(error, TrainError::Diverged { epoch: 1, what: Divergence::Loss(_) }), "{error:?}");
    assert!(error.to_string().contains("in epoch 1: lower optimizer.learning_rate"), "{error}");
    assert_eq!(std::fs::read(&checkpoint).unwrap(), before);
    for (name, tensor) in safetensors::SafeTensors::deserialize(&before).unwrap().tensors() {
        let finite = |bytes: &[u8]| f32::from_le_bytes(bytes.try_into().unwrap()).is_finite();
        assert!(tensor.data().chunks_exact(4).all(finite), "{name}");
    }
    assert!(!output.exists());
}

#[test]
fn a_checkpoint_that_was_altered_is_not_trained_on() {
    let dir = tempfile::tempdir().unwrap();
    let snapshot = snapshot(&dir.path().join("snapshot"), |_| ());
    let output = dir.path().join("bundle");
    let train = |resume, observer: &mut dyn TrainObserver| {
        train(&snapshot, &config(), &output, resume, Device::Cpu, observer).unwrap_err()
    };
    let TrainError::Interrupted { checkpoint, .. } = train(false, &mut StopAt(3, Default::default())) else {
        panic!("it stops after three steps")
    };
    let mut bytes = std::fs::read(&checkpoint).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&checkpoint, bytes).unwrap();
    let message = train(true, &mut ()).to_string();
    for part in ["bundle.checkpoint.safetensors", "was altered", "remove it to begin anew"] {
        assert!(message.contains(part), "{message}");
    }
}

/// A learned vector for each item has no bound by the features' columns.
#[test]
fn with_item_embeddings_there_may_be_more_dims_than_feature_columns() {
    let dir = tempfile::tempdir().unwrap();
    let snapshot = snapshot(&dir.path().join("snapshot"), |_| ());
    let mut config = TrainConfig { epochs: 1, ..config() };
    config.model.nesting_dims = vec![4, 8, 49];
    config.model.item_embedding = true;
    train(&snapshot, &config, &dir.path().join("bundle"), false, Device::Cpu, &mut ()).unwrap();
}

#[test]
fn python_reads_the_weights() {
    let Ok(python) = std::env::var("RECOMMENDER_PYTHON") else {
        crate::fixtures::say_skipped("RECOMMENDER_PYTHON names no Python with safetensors and numpy");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let snapshot = snapshot(&dir.path().join("snapshot"), |_| ());
    let mut config = config();
    config.epochs = 1;
    let output = dir.path().join("bundle");
    train(&snapshot, &config, &output, false, Device::Cpu, &mut ()).unwrap();
    let script = "import sys; from safetensors.numpy import load_file; w = load_file(sys.argv[1]); \
                  t = load_file(sys.argv[2]); assert w['projector.weight'].shape == (16, 48); \
                  assert t['features'].shape == (25, 16); \
                  assert abs(t['features'][0] - w['projector.bias']).max() < 1e-6; print(len(w))";
    let run = std::process::Command::new(python)
        .args(["-c", script])
        .args([output.join("weights.safetensors"), output.join("item_table.safetensors")])
        .output()
        .unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
}

#[cfg(not(any(feature = "cuda", feature = "wgpu")))]
#[test]
fn a_program_without_a_device_says_how_to_get_one() {
    let dir = tempfile::tempdir().unwrap();
    let snapshot = snapshot(dir.path(), |_| ());
    for (device, feature) in [(Device::Cuda, "--features cuda"), (Device::Wgpu, "--features wgpu")] {
        let output = dir.path().join("none");
        let message = train(&snapshot, &config(), &output, false, device, &mut ()).unwrap_err().to_string();
        assert!(message.contains(feature) && message.contains("--device cpu"), "{message}");
    }
}
