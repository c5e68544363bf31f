//! Parameters in safetensors files, and the checkpoint: everything a run needs to go on as if it
//! had never stopped. Written beside and renamed, so a crash leaves the last good one.

use crate::EpochLine;
use crate::params::ParamValues;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// Parameters by name.
pub(crate) type Params = BTreeMap<String, ParamValues>;

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
pub(crate) struct Checkpoint {
    pub(crate) progress: Progress,
    pub(crate) params: Params,
    /// Weights of the best epoch so far; empty before the first.
    pub(crate) best: Params,
    pub(crate) moments: BTreeMap<String, [ParamValues; 2]>,
}

impl Checkpoint {
    pub(crate) fn save(&self, path: &Path) -> Result<(), String> {
        let mut all = Params::new();
        let mut put =
            |prefix: &str, name: &str, values: &ParamValues| all.insert(format!("{prefix}/{name}"), values.clone());
        self.params.iter().for_each(|(name, values)| drop(put("param", name, values)));
        self.best.iter().for_each(|(name, values)| drop(put("best", name, values)));
        for (name, [first, second]) in &self.moments {
            put("first", name, first);
            put("second", name, second);
        }
        let progress = serde_json::to_string(&self.progress).map_err(|e| e.to_string())?;
        write_params(path, all, Some(progress))
    }

    pub(crate) fn load(path: &Path) -> Result<Checkpoint, String> {
        let (all, progress) = read_params(path)?;
        let progress = progress.ok_or("holds no progress: it is no checkpoint of this program")?;
        let progress = serde_json::from_str(&progress).map_err(|e| format!("its progress is unreadable: {e}"))?;
        let part = |prefix: &str| -> Params {
            let of_part = |(name, values): (&String, &ParamValues)| {
                let name = name.strip_prefix(prefix)?.strip_prefix('/')?;
                Some((name.to_owned(), values.clone()))
            };
            all.iter().filter_map(of_part).collect()
        };
        let mut second = part("second");
        let mut moments = BTreeMap::new();
        for (name, first) in part("first") {
            let second = second.remove(&name).ok_or_else(|| format!("lacks the second moment of {name}"))?;
            moments.insert(name, [first, second]);
        }
        Ok(Checkpoint { progress, params: part("param"), best: part("best"), moments })
    }
}

const PROGRESS: &str = "progress";

/// Writes f32 tensors beside `path` and renames.
pub(crate) fn write_params(path: &Path, params: Params, progress: Option<String>) -> Result<(), String> {
    let bytes: BTreeMap<&str, Vec<u8>> = params
        .iter()
        .map(|(name, param)| (name.as_str(), param.values.iter().flat_map(|v| v.to_le_bytes()).collect()))
        .collect();
    let mut views = Vec::with_capacity(params.len());
    for (name, param) in &params {
        let view =
            TensorView::new(Dtype::F32, param.shape.clone(), &bytes[name.as_str()]).map_err(|e| e.to_string())?;
        views.push((name.clone(), view));
    }
    let metadata = progress.map(|text| HashMap::from([(PROGRESS.to_owned(), text)]));
    let data = safetensors::serialize(views, metadata).map_err(|e| e.to_string())?;
    let part = path.with_extension("part");
    let written = std::fs::File::create(&part).and_then(|mut file| {
        std::io::Write::write_all(&mut file, &data)?;
        file.sync_all()
    });
    written.and_then(|()| std::fs::rename(&part, path)).map_err(|e| e.to_string())
}

/// Reads what [`write_params`] wrote.
pub(crate) fn read_params(path: &Path) -> Result<(Params, Option<String>), String> {
    let data = std::fs::read(path).map_err(|e| e.to_string())?;
    let broken = |e: safetensors::SafeTensorError| format!("is not a whole safetensors file ({e})");
    let (_, header) = SafeTensors::read_metadata(&data).map_err(broken)?;
    let progress = header.metadata().as_ref().and_then(|map| map.get(PROGRESS).cloned());
    let mut params = Params::new();
    for (name, view) in SafeTensors::deserialize(&data).map_err(broken)?.tensors() {
        if view.dtype() != Dtype::F32 {
            return Err(format!("tensor {name} is {:?}; F32 is expected", view.dtype()));
        }
        let values = view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        params.insert(name, ParamValues { shape: view.shape().to_vec(), values });
    }
    Ok((params, progress))
}
