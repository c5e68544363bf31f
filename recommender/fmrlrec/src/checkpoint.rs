//! Parameters in safetensors files, and the checkpoint: everything a run needs to go on as if it
//! had never stopped. Written beside and renamed, so a crash leaves the last good one; sealed with a
//! checksum, so that a damaged one is not trained on.

use crate::EpochLine;
use crate::params::ParamValues;
use feature_store::{StoreError, sha256_bytes};
use safetensors::{Dtype, SafeTensorError, SafeTensors, View, tensor::TensorView};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// Parameters by name.
pub(crate) type Params = BTreeMap<String, ParamValues>;

/// First and second moments by parameter name.
pub(crate) type Moments = BTreeMap<String, [ParamValues; 2]>;

/// Where a run stands.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Progress {
    /// Names the configuration and the Snapshot; another run's checkpoint is refused.
    pub(crate) run: String,
    /// Epoch running, from 0.
    pub(crate) epoch: usize,
    /// Batches of it done.
    pub(crate) batch: usize,
    /// Optimizer steps done.
    pub(crate) step: u64,
    /// Sum of the running epoch's losses.
    pub(crate) loss_sum: f64,
    /// Finished epochs.
    pub(crate) curves: Vec<EpochLine>,
    /// Best finished epoch, from 1; 0 is none.
    pub(crate) best_epoch: usize,
}

/// A run at rest.
#[derive(Debug, PartialEq)]
pub(crate) struct Checkpoint {
    pub(crate) progress: Progress,
    pub(crate) params: Params,
    /// Weights of the best epoch so far; empty before the first.
    pub(crate) best: Params,
    pub(crate) moments: Moments,
}

/// Metadata key of the checksum, a space, and the progress as JSON: one entry, because safetensors writes
/// several in any order, and the same run gives the same bytes.
const SEAL: &str = "checkpoint";
/// What older programs wrote instead: the progress alone.
const UNSEALED: &str = "progress";

/// Writes a checkpoint; see [`Checkpoint`] for the parts.
///
/// # Errors
/// The system's failure.
pub(crate) fn save_checkpoint(
    path: &Path,
    progress: &Progress,
    params: &Params,
    best: &Params,
    moments: &Moments,
) -> Result<(), StoreError> {
    let mut tensors: BTreeMap<String, &ParamValues> = BTreeMap::new();
    tensors.extend(params.iter().map(|(name, values)| (format!("param/{name}"), values)));
    tensors.extend(best.iter().map(|(name, values)| (format!("best/{name}"), values)));
    for (name, [first, second]) in moments {
        tensors.insert(format!("first/{name}"), first);
        tensors.insert(format!("second/{name}"), second);
    }
    let progress = serde_json::to_string(progress).expect("numbers and texts are always JSON");
    let mut digest = Digest::of(&progress);
    for (name, tensor) in &tensors {
        digest.add(name, &tensor.shape, &le_bytes(&tensor.values));
    }
    let seal = format!("{} {progress}", digest.sha256());
    write(path, &tensors, Some(HashMap::from([(SEAL.to_owned(), seal)])))
}

impl Checkpoint {
    /// Takes a checkpoint's bytes and checks that they are whole and fit together.
    ///
    /// # Errors
    /// What is wrong with it, and the way out.
    pub(crate) fn read(data: &[u8]) -> Result<Checkpoint, String> {
        Checkpoint::parse(data).map_err(|reason| format!("{reason}; remove it to begin anew"))
    }

    fn parse(data: &[u8]) -> Result<Checkpoint, String> {
        let progress = unsealed(data)?;
        let progress = serde_json::from_str(&progress).map_err(|e| format!("its progress is unreadable: {e}"))?;
        let mut parts: BTreeMap<String, Params> = BTreeMap::new();
        for (name, tensor) in tensors(data)? {
            let (part, name) = name.split_once('/').ok_or_else(|| format!("holds {name}, which is of no part"))?;
            parts.entry(part.to_owned()).or_default().insert(name.to_owned(), tensor);
        }
        let mut part = |name: &str| parts.remove(name).unwrap_or_default();
        let (params, best, first, mut second) = (part("param"), part("best"), part("first"), part("second"));
        for (part, tensors) in [("best", &best), ("first", &first), ("second", &second)] {
            check_shapes(part, tensors, &params)?;
        }
        let mut moments = Moments::new();
        for (name, first) in first {
            let second = second.remove(&name).ok_or_else(|| format!("lacks the second moment of {name}"))?;
            moments.insert(name, [first, second]);
        }
        let checkpoint = Checkpoint { progress, params, best, moments };
        let expected = if checkpoint.progress.best_epoch == 0 { 0 } else { checkpoint.params.len() };
        if checkpoint.best.len() != expected {
            let found = checkpoint.best.len();
            return Err(format!("holds {found} parameters of its best epoch; {expected} are expected"));
        }
        Ok(checkpoint)
    }
}

/// The progress of a checkpoint whose checksum is that of its contents.
fn unsealed(data: &[u8]) -> Result<String, String> {
    let (_, header) = SafeTensors::read_metadata(data).map_err(broken)?;
    let metadata = header.metadata().clone().unwrap_or_default();
    let Some((sha256, progress)) = metadata.get(SEAL).and_then(|seal| seal.split_once(' ')) else {
        return Err(match metadata.contains_key(UNSEALED) {
            true => "has no checksum: an older version of this program wrote it".into(),
            false => "holds no progress: it is no checkpoint of this program".into(),
        });
    };
    let file = SafeTensors::deserialize(data).map_err(broken)?;
    let views: BTreeMap<String, TensorView<'_>> = file.tensors().into_iter().collect();
    let mut digest = Digest::of(progress);
    views.iter().for_each(|(name, view)| digest.add(name, view.shape(), view.data()));
    if digest.sha256() != sha256 {
        return Err("was altered: its contents do not have the SHA-256 that it states".into());
    }
    Ok(progress.to_owned())
}

/// Tensors of a part have the shapes of the parameters of the same names.
fn check_shapes(part: &str, tensors: &Params, params: &Params) -> Result<(), String> {
    for (name, ParamValues { shape, .. }) in tensors {
        match params.get(name).map(|param| &param.shape) {
            Some(expected) if expected == shape => (),
            Some(expected) => return Err(format!("{part}/{name} has shape {shape:?}; {expected:?} is expected")),
            None => return Err(format!("{part}/{name} is of no parameter")),
        }
    }
    Ok(())
}

/// Adds up to the SHA-256 of a text with a line for the progress and one for each tensor, in the order of
/// names: name, shape and SHA-256 of the elements.
struct Digest(String);

impl Digest {
    fn of(progress: &str) -> Digest {
        Digest(progress.to_owned())
    }

    fn add(&mut self, name: &str, shape: &[usize], bytes: &[u8]) {
        self.0 += &format!("\n{name} {shape:?} {}", sha256_bytes(bytes));
    }

    fn sha256(&self) -> String {
        sha256_bytes(self.0.as_bytes())
    }
}

/// Writes f32 tensors beside `path` and renames.
///
/// # Errors
/// The system's failure.
pub(crate) fn write_params(path: &Path, params: &Params) -> Result<(), StoreError> {
    write(path, &params.iter().map(|(name, param)| (name.clone(), param)).collect(), None)
}

/// Reads what [`write_params`] wrote.
pub(crate) fn read_params(path: &Path) -> Result<Params, String> {
    tensors(&std::fs::read(path).map_err(|e| e.to_string())?)
}

/// A parameter as safetensors writes it: borrowed, so that saving copies none.
struct Borrowed<'a>(&'a ParamValues);

impl View for Borrowed<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        &self.0.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        le_bytes(&self.0.values)
    }

    fn data_len(&self) -> usize {
        size_of_val(&self.0.values[..])
    }
}

/// The elements as they lie in a file: little-endian.
fn le_bytes(values: &[f32]) -> Cow<'_, [u8]> {
    if cfg!(target_endian = "little") {
        Cow::Borrowed(bytemuck::cast_slice(values))
    } else {
        Cow::Owned(values.iter().flat_map(|value| value.to_le_bytes()).collect())
    }
}

fn write(
    path: &Path,
    tensors: &BTreeMap<String, &ParamValues>,
    metadata: Option<HashMap<String, String>>,
) -> Result<(), StoreError> {
    let views = tensors.iter().map(|(name, param)| (name.as_str(), Borrowed(param)));
    // One name, since one training at a time has an output: what a killed one left is written over.
    let part = path.with_extension("part");
    let written = match safetensors::serialize_to_file(views, metadata, &part) {
        Err(SafeTensorError::IoError(error)) => Err(error),
        Err(error) => Err(std::io::Error::other(error)),
        Ok(()) => std::fs::File::open(&part).and_then(|file| file.sync_all()),
    };
    let renamed = written.and_then(|()| std::fs::rename(&part, path)).and_then(|()| sync_folder(path));
    renamed.map_err(|source| {
        // Best effort: the error that is returned is the one that matters.
        let _ = std::fs::remove_file(&part);
        StoreError::Io { path: path.to_path_buf(), source }
    })
}

/// So that a rename outlives a power cut.
fn sync_folder(path: &Path) -> std::io::Result<()> {
    match path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(parent) => std::fs::File::open(parent)?.sync_all(),
        None => std::fs::File::open(".")?.sync_all(),
    }
}

fn tensors(data: &[u8]) -> Result<Params, String> {
    let mut params = Params::new();
    for (name, view) in SafeTensors::deserialize(data).map_err(broken)?.tensors() {
        if view.dtype() != Dtype::F32 {
            return Err(format!("tensor {name} is {:?}; F32 is expected", view.dtype()));
        }
        let values = view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        params.insert(name, ParamValues { shape: view.shape().to_vec(), values });
    }
    Ok(params)
}

fn broken(error: SafeTensorError) -> String {
    format!("is not a whole safetensors file ({error})")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(shape: [usize; 2]) -> Params {
        let values = (0..shape[0] * shape[1]).map(|at| at as f32 - 0.5).collect();
        Params::from([("w".to_owned(), ParamValues { shape: shape.to_vec(), values })])
    }

    fn moments(first: [usize; 2], second: [usize; 2]) -> Moments {
        let of = |shape| params(shape).remove("w").unwrap();
        Moments::from([("w".to_owned(), [of(first), of(second)])])
    }

    fn checkpoint() -> Checkpoint {
        Checkpoint {
            progress: Progress { run: "a run".into(), step: 7, best_epoch: 1, ..Progress::default() },
            params: params([2, 3]),
            best: params([2, 3]),
            moments: moments([2, 3], [2, 3]),
        }
    }

    fn save(checkpoint: &Checkpoint, path: &Path) {
        let Checkpoint { progress, params, best, moments } = checkpoint;
        save_checkpoint(path, progress, params, best, moments).unwrap();
    }

    #[test]
    fn a_checkpoint_comes_back_and_equal_ones_are_equal_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let (one, other) = (dir.path().join("one.safetensors"), dir.path().join("other.safetensors"));
        save(&checkpoint(), &one);
        save(&checkpoint(), &other);
        assert_eq!(Checkpoint::read(&std::fs::read(&one).unwrap()).unwrap(), checkpoint());
        assert_eq!(std::fs::read(&one).unwrap(), std::fs::read(&other).unwrap());
        let fresh = Checkpoint { progress: Progress::default(), best: Params::new(), ..checkpoint() };
        save(&fresh, &one);
        assert_eq!(Checkpoint::read(&std::fs::read(&one).unwrap()).unwrap(), fresh);
    }

    #[test]
    fn parts_that_do_not_fit_the_parameters_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run.checkpoint.safetensors");
        let check = |change: &dyn Fn(&mut Checkpoint), expect: &str| {
            let mut changed = checkpoint();
            change(&mut changed);
            save(&changed, &path);
            let reason = Checkpoint::read(&std::fs::read(&path).unwrap()).unwrap_err();
            assert!(reason.contains(expect) && reason.contains("remove it to begin anew"), "{reason}");
        };
        check(&|c| c.best = params([3, 2]), "best/w has shape [3, 2]; [2, 3] is expected");
        check(&|c| c.moments = moments([6, 1], [2, 3]), "first/w has shape [6, 1]");
        check(&|c| c.moments = moments([2, 3], [1, 6]), "second/w has shape [1, 6]");
        check(&|c| c.params = Params::new(), "best/w is of no parameter");
        check(&|c| c.best = Params::new(), "holds 0 parameters of its best epoch; 1 are expected");
    }

    #[test]
    fn a_damaged_checkpoint_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run.checkpoint.safetensors");
        save(&checkpoint(), &path);
        let whole = std::fs::read(&path).unwrap();
        let check = |damage: &dyn Fn(&mut Vec<u8>), expect: &str| {
            let mut bytes = whole.clone();
            damage(&mut bytes);
            std::fs::write(&path, bytes).unwrap();
            let reason = Checkpoint::read(&std::fs::read(&path).unwrap()).unwrap_err();
            assert!(reason.contains(expect) && reason.contains("remove it to begin anew"), "{reason}");
        };
        check(&|bytes| *bytes.last_mut().unwrap() ^= 1, "was altered");
        check(&|bytes| replace(bytes, b"a run", b"b run"), "was altered");
        check(&|bytes| replace(bytes, b"[2,3]", b"[3,2]"), "was altered");
        check(&|bytes| bytes.truncate(bytes.len() - 1), "is not a whole safetensors file");
        check(&|bytes| replace(bytes, b"\"checkpoint\"", b"\"something!\""), "it is no checkpoint of this program");
    }

    /// Replaces the first place where `old` stands.
    fn replace(bytes: &mut [u8], old: &[u8], new: &[u8]) {
        let at = bytes.windows(old.len()).position(|window| window == old).unwrap();
        bytes[at..][..old.len()].copy_from_slice(new);
    }

    #[test]
    fn a_checkpoint_of_before_there_were_checksums_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run.checkpoint.safetensors");
        let checkpoint = checkpoint();
        let tensors = checkpoint.params.iter().map(|(name, param)| (format!("param/{name}"), param)).collect();
        let progress = serde_json::to_string(&checkpoint.progress).unwrap();
        write(&path, &tensors, Some(HashMap::from([(UNSEALED.to_owned(), progress)]))).unwrap();
        let reason = Checkpoint::read(&std::fs::read(&path).unwrap()).unwrap_err();
        assert!(reason.contains("has no checksum") && reason.contains("remove it to begin anew"), "{reason}");
    }
}
