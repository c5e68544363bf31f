//! A small data set in a folder of its own, generated: tables, features a user already has, and one
//! config a verb. Building and training it takes a moment.

use crate::program::{succeed, text};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

const USERS: usize = 40;
const ITEMS: usize = 30;
/// Width of the generated features.
const FEATURE_DIM: usize = 12;

/// The folder; removed when dropped.
pub(crate) struct Data {
    dir: tempfile::TempDir,
}

impl Data {
    /// Writes the tables, the features and the configs.
    pub(crate) fn new() -> Data {
        let data = Data { dir: tempfile::tempdir().expect("a temporary folder can be made") };
        data.write("ratings.csv", &ratings());
        data.write("items.csv", &items());
        fs::write(data.path("text.npy"), features()).expect("the folder is writable");
        data.write("build.toml", BUILD);
        data.write("train.toml", &train(1));
        data.write("serve.toml", SERVE);
        data
    }

    pub(crate) fn root(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn build_config(&self) -> PathBuf {
        self.path("build.toml")
    }

    pub(crate) fn train_config(&self) -> PathBuf {
        self.path("train.toml")
    }

    pub(crate) fn train_config_with_epochs(&self, epochs: usize) -> PathBuf {
        self.write("long.toml", &train(epochs));
        self.path("long.toml")
    }

    /// The training config changed: what to replace, and what to append.
    pub(crate) fn train_config_with(&self, name: &str, replace: &[(&str, &str)], append: &str) -> PathBuf {
        let text = replace.iter().fold(train(1), |text, (from, to)| {
            assert!(text.contains(from), "the training config has no {from:?}");
            text.replace(from, to)
        });
        self.write(name, &(text + append));
        self.path(name)
    }

    pub(crate) fn serve_config(&self) -> PathBuf {
        self.path("serve.toml")
    }

    /// The user state that the serve config names.
    pub(crate) fn state(&self) -> PathBuf {
        self.path("state/users")
    }

    /// A Snapshot of the data.
    pub(crate) fn built(&self, name: &str) -> PathBuf {
        let output = self.path(name);
        self.build_into(&output);
        output
    }

    pub(crate) fn build_into(&self, output: &Path) {
        let said = succeed(["build", "--config", text(&self.build_config()), "--output", text(output)]);
        assert!(said.contains(&format!("{USERS} users, {ITEMS} items")), "{said}");
    }

    /// A Bundle of a Snapshot, after one epoch.
    pub(crate) fn trained(&self, snapshot: &Path, name: &str) -> PathBuf {
        let output = self.path(name);
        let said = succeed([
            "train",
            "--config",
            text(&self.train_config()),
            "--snapshot",
            text(snapshot),
            "--output",
            text(&output),
        ]);
        assert!(said.contains("dim 8") && said.contains("popularity"), "{said}");
        output
    }

    fn write(&self, name: &str, body: &str) {
        fs::write(self.path(name), body).expect("the folder is writable");
    }
}

/// Each user walks the items in a stride of its own, so that every item has its five interactions.
fn ratings() -> String {
    let mut csv = String::from("userId,movieId,rating,timestamp\n");
    for user in 0..USERS {
        for step in 0..10 {
            let item = (user * 7 + step * (1 + user % 3)) % ITEMS + 1;
            writeln!(csv, "u{user},i{item},{},{}", 1 + step % 5, 1_600_000_000 + user * 100 + step).expect("memory");
        }
    }
    csv
}

fn items() -> String {
    let mut csv = String::from("item,title,text\n");
    for item in 1..=ITEMS {
        writeln!(csv, "i{item},title of i{item},\"text, of {item}\"").expect("memory");
    }
    csv
}

/// An npy file, version 1.0, little-endian f32, one row an item in the order of items.csv.
fn features() -> Vec<u8> {
    let mut header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({ITEMS}, {FEATURE_DIM}), }}");
    // Magic, version and length take 10 bytes; the data starts at a multiple of 64.
    let padding = 63 - (10 + header.len()) % 64;
    header.push_str(&" ".repeat(padding));
    header.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend(u16::try_from(header.len()).expect("a short header").to_le_bytes());
    bytes.extend(header.as_bytes());
    for item in 0..ITEMS {
        for column in 0..FEATURE_DIM {
            // Any values will do that differ between items.
            let value = ((item * 31 + column * 17) % 23) as f32 / 23.0 - 0.5;
            bytes.extend(value.to_le_bytes());
        }
    }
    bytes
}

fn train(epochs: usize) -> String {
    format!(
        r#"features = ["text"]
seed = 7
epochs = {epochs}
max_len = 8
batch_positions = 64
dropout = 0.1

[model]
nesting_dims = [4, 8]
blocks = 1
r_min = 0.8
r_max = 0.99
item_embedding = false
projector_start = "normal"
vector_norm = false

[objective]
dim_weights = [1.0, 1.0]
scaled_logits = true
distillation = 0.0

[optimizer]
learning_rate = 0.001
warmup_steps = 2
final_rate = 0.1
weight_decay = 0.01
clip_norm = 5.0

[early_stopping]
metric = "ndcg@10"
patience = {epochs}
"#
    )
}

const BUILD: &str = r#"[[tables]]
name = "ratings"
path = "ratings.csv"
format = "csv"

[[tables]]
name = "films"
path = "items.csv"
format = "csv"

[interactions]
table = "ratings"
user = "userId"
item = "movieId"
timestamp = "timestamp"
timestamp_unit = "s"

[k_core]
min_user = 5
min_item = 5

[items]
sql = "SELECT item, title, text FROM films"
text_template = "{title}. {text}"

[[features]]
name = "text"
dtype = "f32"
file = "text.npy"
keys = "items.csv"
"#;

const SERVE: &str = r#"bind = "127.0.0.1:0"
bundle = "bundle"
tiers_file = "state/tiers.json"
tier_header = "x-tier"

[state]
path = "state/users"
max_history = 50
cache_mib = 1

[server]
workers = 1
blocking_threads = 2
max_in_flight = 16
compute_threads = 1
max_queue = 64
max_batch = 8
max_wait_us = 0
max_connections = 64
request_timeout_s = 10
drain_delay_s = 0
shutdown_timeout_s = 5

[limits]
body_bytes = 65536
max_k = 20
default_k = 10
history = 100
exclude = 100
batch = 10
key_bytes = 64
added_items = 100

[ui]
picture_url = ""

[access]
required = false
keys = []

[[tiers]]
name = "small"
dim = 4
min_dim = 4
default = false
max_k = 20
latency_target_ms = 5000
rate_per_s = 0
burst = 0
share_permille = 1000
header_values = []

[[tiers]]
name = "large"
dim = 8
min_dim = 4
default = true
max_k = 20
latency_target_ms = 5000
rate_per_s = 0
burst = 0
share_permille = 1000
header_values = []
"#;
