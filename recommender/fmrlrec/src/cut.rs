//! How much of each block a user vector goes through: all of it, its leading columns, or nothing (MatFormer's
//! Mix'n'Match; blocks left out at the end are an early exit).

use crate::{BundleError, BundleShape};
use std::sync::Arc;

/// A cheaper model inside the trained one, for user vectors; item vectors stay what they are.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Cut(Arc<[usize]>);

impl Cut {
    /// The first `depth` blocks, whole: of a model with no more blocks than that, all of it.
    pub fn exit(depth: usize) -> Cut {
        Cut(vec![usize::MAX; depth].into())
    }

    /// Leading columns of each block, 0 for a block left out, of a model of `shape`.
    ///
    /// # Errors
    /// Those of [`BundleShape::check_block_dims`].
    pub fn new(block_dims: &[usize], shape: &BundleShape) -> Result<Cut, BundleError> {
        shape.check_block_dims(block_dims)?;
        // One cut has one form, so that what was computed for it is found again.
        let whole = |dim: &usize| if shape.dims.last() == Some(dim) { usize::MAX } else { *dim };
        let used = block_dims.iter().rposition(|dim| *dim > 0).map_or(0, |last| last + 1);
        Ok(Cut(block_dims[..used].iter().map(whole).collect()))
    }

    /// Columns a block; blocks past its end are left out.
    pub(crate) fn block_dims(&self) -> &[usize] {
        &self.0
    }
}

impl BundleShape {
    /// All of the model.
    pub fn whole(&self) -> Cut {
        Cut::exit(self.blocks)
    }

    /// Checks one dim a block for a cut of the model: a trained dim each, or 0 for a block left out.
    ///
    /// # Errors
    /// A number of dims that is not that of the blocks, a dim that was not trained, or no block at all.
    pub fn check_block_dims(&self, block_dims: &[usize]) -> Result<(), BundleError> {
        if block_dims.len() != self.blocks || block_dims.iter().all(|dim| *dim == 0) {
            return Err(BundleError::BlockDims { given: block_dims.to_vec(), blocks: self.blocks });
        }
        match block_dims.iter().find(|dim| **dim != 0 && !self.dims.contains(dim)) {
            Some(&dim) => Err(BundleError::UntrainedDim { dim, trained: self.dims.clone() }),
            None => Ok(()),
        }
    }

    /// Whether a cut, perhaps of another model, is one of this model too.
    pub fn has(&self, cut: &Cut) -> bool {
        cut.0.len() <= self.blocks && cut.0.iter().all(|dim| [0, usize::MAX].contains(dim) || self.dims.contains(dim))
    }
}
