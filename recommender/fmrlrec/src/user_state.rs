//! What a history came to, kept so that the next item costs one step (law 2): the user vector and each
//! block's hidden state, at one dim. A state belongs to the Bundle that made it; the history is the truth,
//! and a state that is lost is folded from it again.

use crate::bundle::columns;
use crate::model::lru::Complex;
use crate::model::{FmrlRec, HiddenState};
use crate::ops::host_values;
use crate::{Bundle, BundleError, Cpu, Cut};
use burn::tensor::{Tensor, TensorData};
use feature_store::PAD;

/// A user after some items.
#[derive(Debug, Clone, PartialEq)]
pub struct UserState {
    /// `[dim]`.
    vector: Vec<f32>,
    /// Of each block that it went through `[2, columns]`: real parts, then imaginary parts.
    hidden: Vec<f32>,
    /// What it went through.
    cut: Cut,
}

impl UserState {
    /// The user vector `[dim]`. Its prefix is the vector at a smaller dim (law 1).
    pub fn vector(&self) -> &[f32] {
        &self.vector
    }

    /// The dim it was made at.
    pub fn dim(&self) -> usize {
        self.vector.len()
    }

    /// What of the model it went through.
    pub fn cut(&self) -> &Cut {
        &self.cut
    }

    /// Bytes that it holds.
    pub fn bytes(&self) -> usize {
        (self.vector.len() + self.hidden.len()) * size_of::<f32>()
    }
}

impl Bundle {
    /// The state after all of a history, oldest item first; after none, the learned start token's. Unlike
    /// [`Bundle::user_vector`] it cuts nothing off: which items to read is for the caller to say.
    ///
    /// # Errors
    /// A dim that was not trained or an id past the item table.
    pub fn fold(&self, history: &[u32], dim: usize) -> Result<UserState, BundleError> {
        self.fold_of(&self.rows(history)?, dim, &self.shape().whole())
    }

    /// As [`Bundle::fold`], after item vectors of at least `dim` numbers each (those of items that came
    /// after training too) and through a cut of the model.
    ///
    /// # Errors
    /// A dim that was not trained, or a cut of another model.
    pub fn fold_of(&self, history: &[&[f32]], dim: usize, cut: &Cut) -> Result<UserState, BundleError> {
        let model = self.model_for(dim, cut)?;
        let start_token = self.rows(&[PAD])?;
        let read = if history.is_empty() { &start_token[..] } else { history };
        // The state starts with the first token and is kept from then on.
        let mut keep = vec![1.0; read.len()];
        keep[0] = 0.0;
        let last = [read.len() as u32 - 1];
        let (y, states) = model.forward_cut_at(columns(read, dim), &keep, cut.block_dims(), &last);
        let mut hidden = pack(states.into_iter());
        if history.is_empty() {
            // The state never passes from the start token to the first item.
            hidden.fill(0.0);
        }
        Ok(UserState { vector: host_values(y), hidden, cut: cut.clone() })
    }

    fn model_for(&self, dim: usize, cut: &Cut) -> Result<&FmrlRec<Cpu>, BundleError> {
        if !self.shape().has(cut) {
            return Err(BundleError::BlockDims { given: cut.block_dims().to_vec(), blocks: self.blocks() });
        }
        self.model_at(dim)
    }

    /// The state after one item more: one step of the model, whatever came before. `state` is of this
    /// Bundle.
    ///
    /// # Errors
    /// An id past the item table, or a state of a dim that this Bundle was not trained at.
    pub fn advance(&self, state: &UserState, item: u32) -> Result<UserState, BundleError> {
        self.advance_by(state, self.rows(&[item])?[0])
    }

    /// As [`Bundle::advance`], by an item vector of at least the state's dim.
    ///
    /// # Errors
    /// A state of a dim that this Bundle was not trained at, or through a cut of another model.
    pub fn advance_by(&self, state: &UserState, item: &[f32]) -> Result<UserState, BundleError> {
        let dim = state.dim();
        let model = self.model_for(dim, &state.cut)?;
        let (y, next) = model.step_cut(columns(&[item], dim), unpack(state), state.cut.block_dims());
        Ok(UserState { vector: host_values(y), hidden: pack(next.0.into_iter()), cut: state.cut.clone() })
    }
}

/// Hidden states of one user, `[1, columns]` a block, as a state keeps them.
fn pack(states: impl Iterator<Item = Complex<Cpu>>) -> Vec<f32> {
    states.flat_map(|Complex { re, im }| [re, im]).flat_map(host_values::<f32, _, 2>).collect()
}

/// The other way round.
fn unpack(state: &UserState) -> HiddenState<Cpu> {
    let mut rest = &state.hidden[..];
    let mut part = |columns: usize| {
        let (part, behind) = rest.split_at(columns);
        rest = behind;
        Tensor::<Cpu, 2>::from_data(TensorData::new(part.to_vec(), [1, columns]), &Default::default())
    };
    let columns =
        state.cut.block_dims().iter().map(|columns| (*columns).min(state.dim())).filter(|columns| *columns > 0);
    HiddenState(columns.map(|columns| Complex { re: part(columns), im: part(columns) }).collect())
}
