//! A tiny trained Bundle, made once for all tests, and a server on a free port.

use crate::client::Client;
use feature_store::{
    Attribute, AttributeValues, EncoderInfo, FeatureBlock, FeatureDtype, Interaction, Item, Snapshot, SnapshotContents,
    UserStateStore, write_snapshot,
};
use fmrlrec::{
    Bundle, Device, DropoutConfig, EarlyStopping, ModelConfig, ObjectiveConfig, OptimizerConfig, ProjectorStart,
    TrainConfig, train,
};
use service::{Clock, EventStream, ServiceConfig, ServiceError, SpanSink, Surroundings};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use tempfile::TempDir;

pub(crate) const ITEMS: usize = 30;
pub(crate) const DIMS: [usize; 3] = [4, 8, 16];
/// The clock of every test server.
pub(crate) const NOW_MS: i64 = 1_700_000_000_000;
/// Newest items that the test model reads.
pub(crate) const MAX_HISTORY: usize = 8;

/// The config of the tests: small limits, three tiers.
pub(crate) const CONFIG: &str = r#"
bind = "127.0.0.1:0"
bundle = "bundle"
tiers_file = "tiers.json"
tier_header = "x-tier"
[state]
path = "state"
max_history = 20
cache_mib = 1
[server]
workers = 2
blocking_threads = 2
max_in_flight = 64
compute_threads = 2
max_queue = 64
max_batch = 8
max_wait_us = 100
max_connections = 256
request_timeout_s = 20
drain_delay_s = 0
shutdown_timeout_s = 5
[limits]
body_bytes = 4096
max_k = 20
default_k = 5
history = 12
exclude = 6
batch = 5
key_bytes = 40
added_items = 40
[ui]
picture_url = ""

[access]
required = false
[[access.keys]]
name = "ada"
sha256 = "5532e44183f47ed1fc146851b96d585c24da5bd5fe31a885cebc357261ed8f7f"
scopes = ["recommend", "events"]
tier = "premium"
[[access.keys]]
name = "root"
sha256 = "fcf206e2f28549e7fdc889fa1b8fa469824edeac2f96a3930c22a1495b3c9266"
scopes = ["admin"]
tier = ""
[[access.keys]]
name = "keeper"
sha256 = "4766bafa1d3713be8134b5dbd38e0dd4b780554c80a91550e35fbf35f9d0ac7c"
scopes = ["items"]
tier = ""
[[tiers]]
name = "bulk"
dim = 4
min_dim = 4
default = false
max_k = 20
latency_target_ms = 5000
rate_per_s = 0
burst = 0
share_permille = 1000
header_values = ["batch"]
[[tiers]]
name = "standard"
dim = 8
min_dim = 4
default = true
max_k = 20
latency_target_ms = 5000
rate_per_s = 0
burst = 0
share_permille = 1000
header_values = ["standard"]
[[tiers]]
name = "premium"
dim = 16
min_dim = 4
default = false
max_k = 20
latency_target_ms = 5000
rate_per_s = 0
burst = 0
share_permille = 1000
header_values = ["gold"]
"#;

/// Key of the item with this id (from 1); one of them needs percent-encoding in a path.
pub(crate) fn key(item: usize) -> String {
    if item == 7 { "dir/é 7".to_string() } else { format!("i{item}") }
}

/// Folder of the trained Bundle.
pub(crate) fn bundle_dir() -> &'static Path {
    static BUNDLE: OnceLock<(TempDir, PathBuf)> = OnceLock::new();
    let (_, path) = BUNDLE.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let bundle = dir.path().join("bundle");
        train_into(&bundle, train_config());
        (dir, bundle)
    });
    path
}

/// Beside [`bundle_dir`], other weights under the name `other`.
pub(crate) fn other_bundle() -> &'static Path {
    static OTHER: OnceLock<PathBuf> = OnceLock::new();
    OTHER.get_or_init(|| {
        let other = bundle_dir().with_file_name("other");
        train_into(&other, TrainConfig { seed: 4, epochs: 1, ..train_config() });
        other
    })
}

/// Beside [`bundle_dir`], a Bundle that was trained on one item more, under the name `more`.
pub(crate) fn bundle_with_one_more() -> &'static Path {
    static MORE: OnceLock<PathBuf> = OnceLock::new();
    MORE.get_or_init(|| {
        let more = bundle_dir().with_file_name("more");
        let snapshot = snapshot(&more.with_extension("snapshot"), ITEMS + 1);
        train(&snapshot, &TrainConfig { seed: 5, epochs: 1, ..train_config() }, &more, false, Device::Cpu, &mut ())
            .unwrap();
        more
    })
}

/// Trains on the ring; the Snapshot lies beside the Bundle.
pub(crate) fn train_into(bundle: &Path, config: TrainConfig) {
    let snapshot = snapshot(&bundle.with_extension("snapshot"), ITEMS);
    train(&snapshot, &config, bundle, false, Device::Cpu, &mut ()).unwrap();
}

/// Users walk round a ring of items, so the next item is known and a trained model finds it.
fn snapshot(dir: &Path, items: usize) -> Snapshot {
    let walk = move |user: u32| {
        (0..12u32).map(move |step| Interaction {
            user,
            item: (user * 7 + step) % items as u32 + 1,
            timestamp_ms: i64::from(step),
        })
    };
    let item = |id: usize| Item { key: key(id), title: format!("Item {id}"), text: String::new() };
    let contents = SnapshotContents {
        users: (0..40).map(|user| format!("u{user}")).collect(),
        items: (1..=items).map(item).collect(),
        interactions: (0..40).flat_map(walk).collect(),
        features: vec![one_hot("text", items)],
        attributes: attributes(items),
        sources: Vec::new(),
        config: serde_json::Value::Null,
        notes: Default::default(),
    };
    write_snapshot(dir, contents).unwrap();
    Snapshot::open(dir).unwrap()
}

/// Item i is of genre `g` with i modulo 3, if i is even of genre `even` too, and of year 1990 + i; item 10
/// has neither.
fn attributes(items: usize) -> Vec<Attribute> {
    let genres = |item: usize| match item {
        10 => vec![],
        item if item % 2 == 0 => vec![format!("g{}", item % 3), "even".to_owned()],
        item => vec![format!("g{}", item % 3)],
    };
    let year = |item: usize| (item != 10).then_some(1990.0 + item as f64);
    vec![
        Attribute { name: "genre".into(), values: AttributeValues::Texts((1..=items).map(genres).collect()) },
        Attribute { name: "year".into(), values: AttributeValues::Numbers((1..=items).map(year).collect()) },
    ]
}

/// [`ITEMS`] wide: an item past that looks like an earlier one.
fn one_hot(name: &str, items: usize) -> FeatureBlock {
    let mut values = vec![0.0; (items + 1) * ITEMS];
    (0..items).for_each(|item| values[(item + 1) * ITEMS + item % ITEMS] = 1.0);
    let mut mask = vec![1; items + 1];
    mask[0] = 0;
    let encoder = EncoderInfo { name: "one-hot".into(), weights_sha256: None };
    FeatureBlock { name: name.into(), dim: ITEMS, values, mask, dtype: FeatureDtype::F32, encoder }
}

pub(crate) fn train_config() -> TrainConfig {
    TrainConfig {
        features: vec!["text".into()],
        seed: 3,
        epochs: 12,
        max_len: MAX_HISTORY,
        batch_positions: 100,
        dropout: DropoutConfig::Everywhere(0.1),
        model: ModelConfig {
            nesting_dims: DIMS.to_vec(),
            blocks: 1,
            r_min: 0.0,
            r_max: 0.9,
            item_embedding: false,
            projector_start: ProjectorStart::Normal,
            vector_norm: false,
        },
        objective: ObjectiveConfig {
            dim_weights: vec![1.0; DIMS.len()],
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

/// A running service; it stops gracefully when dropped.
pub(crate) struct Server {
    pub(crate) client: Client,
    /// The store that it serves from, to write to as a stream would.
    pub(crate) store: Option<UserStateStore>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<JoinHandle<Result<(), ServiceError>>>,
    /// Kept for as long as the server runs.
    _state: Option<TempDir>,
}

impl Server {
    /// With fresh user state.
    pub(crate) fn start() -> Server {
        Server::with(|_| ())
    }

    /// With fresh user state and a changed config.
    pub(crate) fn with(change: impl FnOnce(&mut ServiceConfig)) -> Server {
        let state = tempfile::tempdir().unwrap();
        let mut server = Server::on(&state.path().join("state"), change);
        server._state = Some(state);
        server
    }

    /// With a stream that takes events.
    pub(crate) fn streaming(stream: Arc<dyn EventStream>) -> Server {
        let state = tempfile::tempdir().unwrap();
        let mut server =
            Server::launch(&state.path().join("state"), |_| (), in_quiet(|around| around.stream = Some(stream)));
        server._state = Some(state);
        server
    }

    /// With someone who collects traces.
    pub(crate) fn traced(spans: Arc<dyn SpanSink>) -> Server {
        let state = tempfile::tempdir().unwrap();
        let mut server =
            Server::launch(&state.path().join("state"), |_| (), in_quiet(|around| around.spans = Some(spans)));
        server._state = Some(state);
        server
    }

    /// With a clock of the test's and a changed config.
    pub(crate) fn timed(clock: Clock, change: impl FnOnce(&mut ServiceConfig)) -> Server {
        let state = tempfile::tempdir().unwrap();
        let mut server = Server::launch(&state.path().join("state"), change, in_quiet(|around| around.clock = clock));
        server._state = Some(state);
        // Its start asks the clock too: what the test arms comes after that.
        assert_eq!(server.client.get("/livez").status, 200);
        server
    }

    /// On a store file that outlives the server.
    pub(crate) fn on(state: &Path, change: impl FnOnce(&mut ServiceConfig)) -> Server {
        Server::launch(state, change, in_quiet(|_| ()))
    }

    fn launch(state: &Path, change: impl FnOnce(&mut ServiceConfig), surroundings: Surroundings) -> Server {
        let mut config: ServiceConfig = toml::from_str(CONFIG).unwrap();
        config.bundle = bundle_dir().to_path_buf();
        config.tiers_file = state.with_extension("tiers.json");
        change(&mut config);
        let store = UserStateStore::open(state, config.state.max_history).unwrap();
        let shared = store.clone();
        let bundle = Bundle::open(&config.bundle).unwrap();
        let listener = TcpListener::bind(&config.bind).unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let shutdown = async {
                let _ = stopped.await;
            };
            runtime.block_on(service::run_in(listener, config, bundle, store, surroundings, shutdown))
        });
        Server {
            client: Client::new(address),
            store: Some(shared),
            stop: Some(stop),
            thread: Some(thread),
            _state: None,
        }
    }

    /// Asks to stop and does not wait.
    pub(crate) fn ask_to_stop(&mut self) {
        drop(self.stop.take());
    }

    /// Stops and says how the server ended.
    pub(crate) fn stop(mut self) -> Result<(), ServiceError> {
        self.end()
    }

    fn end(&mut self) -> Result<(), ServiceError> {
        drop(self.store.take());
        drop(self.stop.take());
        self.thread.take().map_or(Ok(()), |thread| thread.join().unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let ended = self.end();
        if !std::thread::panicking() {
            ended.unwrap();
        }
    }
}

/// Why a server with this config does not start.
pub(crate) fn refused(config: ServiceConfig, state: &Path) -> String {
    let (store, bundle) = (UserStateStore::open(state, 20).unwrap(), Bundle::open(bundle_dir()).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let run = service::run_in(listener, config, bundle, store, in_quiet(|_| ()), std::future::pending());
    runtime.block_on(run).unwrap_err().to_string()
}

/// A clock that stands still, and nothing else but what is changed.
fn in_quiet(change: impl FnOnce(&mut Surroundings)) -> Surroundings {
    let mut around = Surroundings { clock: Arc::new(|| NOW_MS), stream: None, spans: None, ready: Box::new(|| ()) };
    change(&mut around);
    around
}

/// Says stop when dropped, so that a failed assertion does not leave threads that wait for it.
pub(crate) struct StopOnDrop<'a>(pub(crate) &'a std::sync::atomic::AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, std::sync::atomic::Ordering::Relaxed);
    }
}
