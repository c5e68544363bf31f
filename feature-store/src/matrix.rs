//! Feature matrices on disk: safetensors files with `features` `[rows, dim]` (f16 or f32,
//! row-major, little-endian) and `mask` `[rows]` (u8: 1 where the row has content). They load by
//! memory map: opening one reads its header and copies the mask, nothing else.

use crate::StoreError;
use memmap2::Mmap;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use std::path::Path;

/// Element type on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FeatureDtype {
    /// Half precision: unit-norm embeddings lose less than 1e-3 a component.
    F16,
    /// Single precision.
    F32,
}

/// A memory-mapped matrix, row `i` for item `i`.
pub struct FeatureMatrix {
    map: Mmap,
    dtype: FeatureDtype,
    rows: usize,
    dim: usize,
    features: std::ops::Range<usize>,
    mask: Vec<u8>,
}

impl FeatureMatrix {
    /// Maps a file and checks its header.
    ///
    /// # Errors
    /// The file is missing, truncated, or holds other tensors than the two named above.
    pub fn open(path: &Path) -> Result<FeatureMatrix, StoreError> {
        FeatureMatrix::map(path, false)
    }

    /// As [`FeatureMatrix::open`], of somebody's own file: without a `mask` every row has content.
    ///
    /// # Errors
    /// As of [`FeatureMatrix::open`].
    pub fn open_given(path: &Path) -> Result<FeatureMatrix, StoreError> {
        FeatureMatrix::map(path, true)
    }

    fn map(path: &Path, may_lack_mask: bool) -> Result<FeatureMatrix, StoreError> {
        let map = map_file(path)?;
        let tensors = SafeTensors::deserialize(&map)
            .map_err(|e| StoreError::corrupt(path, format!("is not a whole safetensors file ({e}); build it again")))?;
        let features = named(&tensors, "features", path)?;
        let dtype = match features.dtype() {
            Dtype::F16 => FeatureDtype::F16,
            Dtype::F32 => FeatureDtype::F32,
            other => return Err(StoreError::corrupt(path, format!("`features` is {other:?}; F16 or F32 is expected"))),
        };
        let &[rows, dim] = features.shape() else {
            return Err(StoreError::corrupt(
                path,
                format!("`features` has shape {:?}; [rows, dim] is expected", features.shape()),
            ));
        };
        let mask = if may_lack_mask && !tensors.names().contains(&"mask") {
            vec![1; rows]
        } else {
            let mask = named(&tensors, "mask", path)?;
            if mask.dtype() != Dtype::U8 || mask.shape() != [rows] {
                return Err(StoreError::corrupt(
                    path,
                    format!("`mask` is {:?} {:?}; U8 [{rows}] is expected", mask.dtype(), mask.shape()),
                ));
            }
            mask.data().to_vec()
        };
        let features = range_in(&map, features.data());
        Ok(FeatureMatrix { map, dtype, rows, dim, features, mask })
    }

    /// Rows, PAD included.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Width of a row.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Element type on disk.
    pub fn dtype(&self) -> FeatureDtype {
        self.dtype
    }

    /// 1 where the row has content; length `rows`.
    pub fn mask(&self) -> &[u8] {
        &self.mask
    }

    /// The raw row-major elements, borrowed from the map.
    pub fn bytes(&self) -> &[u8] {
        &self.map[self.features.clone()]
    }

    /// All rows as f32, row-major `[rows, dim]`: one copy, for a consumer that computes in f32.
    pub fn to_f32(&self) -> Vec<f32> {
        match self.dtype {
            FeatureDtype::F16 => {
                self.bytes().chunks_exact(2).map(|b| half::f16::from_le_bytes([b[0], b[1]]).to_f32()).collect()
            }
            FeatureDtype::F32 => {
                self.bytes().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
            }
        }
    }
}

/// Writes a matrix: `values` is row-major `[mask.len(), dim]`.
///
/// # Errors
/// Lengths that do not match, or a value that is not finite or too large for `dtype`: the message names row
/// and column.
pub fn write_matrix(
    path: &Path,
    values: &[f32],
    mask: &[u8],
    dim: usize,
    dtype: FeatureDtype,
) -> Result<(), StoreError> {
    if dim == 0 || values.len() != mask.len() * dim {
        return Err(StoreError::invalid(
            "features",
            format!("{} values do not make {} rows of {dim} for {}", values.len(), mask.len(), path.display()),
        ));
    }
    // As they come back from disk: f16 ends at 65,504, and what is larger would be infinite there.
    let stored = |value: f32| match dtype {
        FeatureDtype::F16 => half::f16::from_f32(value).to_f32(),
        FeatureDtype::F32 => value,
    };
    if let Some(at) = values.iter().position(|value| !stored(*value).is_finite()) {
        let rule = match values[at].is_finite() {
            true => "the dtype f16 holds at most 65504; use the dtype f32 or scale the features",
            false => "features must be finite",
        };
        let (row, column, value, file) = (at / dim, at % dim, values[at], path.display());
        return Err(StoreError::invalid("features", format!("row {row} column {column} of {file} is {value}; {rule}")));
    }
    let (kind, bytes): (Dtype, Vec<u8>) = match dtype {
        FeatureDtype::F16 => (Dtype::F16, values.iter().flat_map(|v| half::f16::from_f32(*v).to_le_bytes()).collect()),
        FeatureDtype::F32 => (Dtype::F32, values.iter().flat_map(|v| v.to_le_bytes()).collect()),
    };
    let shape = vec![mask.len(), dim];
    let view = |dtype, shape, data| TensorView::new(dtype, shape, data).map_err(|e| StoreError::corrupt(path, e));
    let tensors = [("features", view(kind, shape, &bytes)?), ("mask", view(Dtype::U8, vec![mask.len()], mask)?)];
    let data = safetensors::serialize(tensors, None).map_err(|e| StoreError::corrupt(path, e))?;
    std::fs::write(path, data).map_err(StoreError::io(path))
}

/// Maps a whole file for reading.
#[allow(unsafe_code)]
fn map_file(path: &Path) -> Result<Mmap, StoreError> {
    let file = std::fs::File::open(path).map_err(StoreError::io(path))?;
    // SAFETY: artefacts are never changed in place: a writer makes a new folder and renames it, and
    // the old file lives on while it is mapped. Who truncates one by hand while it is served gets
    // SIGBUS, as with every memory-mapped format.
    unsafe { Mmap::map(&file) }.map_err(StoreError::io(path))
}

fn named<'a>(tensors: &SafeTensors<'a>, name: &str, path: &Path) -> Result<TensorView<'a>, StoreError> {
    tensors
        .tensor(name)
        .map_err(|_| StoreError::corrupt(path, format!("has no tensor `{name}`; it holds {:?}", tensors.names())))
}

/// Where `part` lies within `whole`.
fn range_in(whole: &[u8], part: &[u8]) -> std::ops::Range<usize> {
    let start = part.as_ptr() as usize - whole.as_ptr() as usize;
    start..start + part.len()
}

impl std::fmt::Debug for FeatureMatrix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FeatureMatrix[{} x {} {:?}]", self.rows, self.dim, self.dtype)
    }
}
