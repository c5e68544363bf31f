//! Finding the files that `demo` needs: in the current folder's checkout, else in the checkout that
//! this program was compiled in.

use crate::failure::bad_input;
use std::path::{Path, PathBuf};

/// The sample's build config, from the top of the repository.
const BUILD_CONFIG: &str = "pipeline/sample/movielens-small/build.toml";
/// The demo's training config, from the top of the repository.
const TRAIN_CONFIG: &str = "recommender/fmrlrec/configs/demo.toml";

/// The configs of a demo.
pub(crate) struct DemoConfigs {
    /// Build config of the sample.
    pub(crate) build: PathBuf,
    /// Training config.
    pub(crate) train: PathBuf,
}

/// Finds the configs; `sample` (a folder with a build.toml) and `train` come first when given.
///
/// # Errors
/// A file is in none of the places, which the sentence lists.
pub(crate) fn find(sample: Option<&Path>, train: Option<&Path>) -> anyhow::Result<DemoConfigs> {
    let build = match sample {
        Some(dir) => existing(dir.join("build.toml"), "--sample")?,
        None => in_checkout(BUILD_CONFIG, "--sample DIR")?,
    };
    let train = match train {
        Some(file) => existing(file.to_path_buf(), "--config")?,
        None => in_checkout(TRAIN_CONFIG, "--config FILE")?,
    };
    Ok(DemoConfigs { build, train })
}

fn existing(path: PathBuf, flag: &str) -> anyhow::Result<PathBuf> {
    if path.is_file() { Ok(path) } else { Err(bad_input(format!("{flag}: {} is not there", path.display()))) }
}

fn in_checkout(file: &str, flag: &str) -> anyhow::Result<PathBuf> {
    let here = PathBuf::from(file);
    if here.is_file() {
        return Ok(here);
    }
    // This crate lies two folders below the top of the repository.
    let compiled = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(file);
    if compiled.is_file() {
        return Ok(compiled);
    }
    Err(bad_input(format!(
        "{file} is neither below the current folder nor at {}; run demo in a checkout of the repository or give {flag}",
        compiled.display()
    )))
}
