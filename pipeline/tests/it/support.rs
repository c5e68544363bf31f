//! Small sources to build from, and the way to the shared data.

use feature_store::{FeatureDtype, Manifest, Snapshot, write_matrix};
use pipeline::{BuildConfig, BuildError};
use std::path::{Path, PathBuf};

/// A folder with sources, a config and an output.
pub(crate) struct Project {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) config: String,
}

/// A config over ratings.csv, items.csv and given features.
pub(crate) const CONFIG: &str = r#"
[[tables]]
name = "ratings"
path = "ratings.csv"
format = "csv"

[[tables]]
name = "items"
path = "items.csv"
format = "csv"

[interactions]
table = "ratings"
user = "user"
item = "item"
timestamp = "time"
timestamp_unit = "s"

[k_core]
min_user = 1
min_item = 1

[items]
sql = "SELECT item, title, genres FROM items"
text_template = "{title}. {genres}"

[[features]]
name = "given"
dtype = "f32"
file = "given.safetensors"
keys = "items.csv"
"#;

/// Three users, three items, one tie of times.
pub(crate) const RATINGS: &str = "user,item,time\n10,b,5\n9,a,7\n9,c,7\n9,b,1\nx,a,3\n";
/// Their catalogue.
pub(crate) const ITEMS: &str = "item,title,genres\na,First,Drama\nb,Second,\nc,\"Third, the\",Crime\n";

impl Project {
    /// Sources that build.
    pub(crate) fn new() -> Project {
        let project = Project { dir: tempfile::tempdir().unwrap(), config: CONFIG.to_owned() };
        project.write("ratings.csv", RATINGS);
        project.write("items.csv", ITEMS);
        project.given(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 2);
        project
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, contents: impl AsRef<[u8]>) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, contents).unwrap();
    }

    /// Writes given.safetensors, a row an item of items.csv.
    pub(crate) fn given(&self, values: &[f32], dim: usize) {
        let mask = vec![1; values.len() / dim];
        write_matrix(&self.path("given.safetensors"), values, &mask, dim, FeatureDtype::F32).unwrap();
    }

    /// The config with `from` replaced, which must be there.
    pub(crate) fn with(mut self, from: &str, to: &str) -> Project {
        assert!(self.config.contains(from), "{from:?} is not in the config");
        self.config = self.config.replace(from, to);
        self
    }

    /// The config with everything from `[[features]]` on replaced.
    pub(crate) fn with_features(mut self, features: &str) -> Project {
        let at = self.config.find("[[features]]").unwrap();
        self.config.truncate(at);
        self.config.insert_str(0, "cache_dir = \"cache\"\n");
        self.config.push_str(features);
        self
    }

    /// The config over the interactions alone: an item is called by its key, and there are no features.
    pub(crate) fn of_ids(mut self) -> Project {
        self = self
            .with("SELECT item, title, genres FROM items", "SELECT DISTINCT item, item AS title FROM ratings")
            .with("{title}. {genres}", "");
        self.config.truncate(self.config.find("[[features]]").unwrap());
        self.config.insert_str(0, "features = []\n");
        self
    }

    pub(crate) fn build(&self) -> Result<Manifest, BuildError> {
        self.build_to("snapshot")
    }

    pub(crate) fn build_to(&self, output: &str) -> Result<Manifest, BuildError> {
        let config: BuildConfig = toml::from_str(&self.config).unwrap();
        pipeline::build(&config, self.dir.path(), &self.path(output), &mut |_| {})
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        self.build().unwrap();
        Snapshot::open(&self.path("snapshot")).unwrap()
    }
}

/// A build that gives one sentence with all of `parts`, and leaves nothing behind.
pub(crate) fn refused(project: &Project, parts: &[&str]) {
    let error = project.build().unwrap_err().to_string();
    for part in parts {
        assert!(error.contains(part), "{error:?} lacks {part:?}");
    }
    assert!(!error.contains('\n'), "{error:?} is more than one line");
    let left: Vec<_> = std::fs::read_dir(project.dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .filter(|name| name.contains("snapshot"))
        .collect();
    assert!(left.is_empty(), "{left:?} was left behind");
}

/// A folder of this crate.
pub(crate) fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// The shared folder beside the checkout, or none with a word on stderr.
pub(crate) fn shared(what: &str) -> Option<PathBuf> {
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared");
    if shared.join("README.md").is_file() {
        return Some(shared);
    }
    say_skipped(&format!("../shared is absent ({what})"));
    None
}

/// Says why a test does nothing, past the harness, which swallows what passing tests print.
pub(crate) fn say_skipped(why: &str) {
    let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("skipped: {why}\n").as_bytes());
}

/// All files below a folder with their bytes, sorted by name.
pub(crate) fn tree(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    let mut folders = vec![dir.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(dir).unwrap().display().to_string();
                files.push((name, std::fs::read(&path).unwrap()));
            }
        }
    }
    files.sort();
    files
}

/// Cosine of two vectors.
pub(crate) fn cosine(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let dot = |x: &[f32], y: &[f32]| x.iter().zip(y).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}
