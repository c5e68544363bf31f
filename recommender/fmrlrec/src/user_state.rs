//! What a history came to, kept so that the next item costs one step (law 2): the user vector and each
//! block's hidden state, at one dim. A state belongs to the Bundle that made it; the history is the truth,
//! and a state that is lost is folded from it again.

use crate::bundle::columns;
use crate::model::lru::Complex;
use crate::model::{FmrlRec, HiddenState};
use crate::ops::host_values;
use crate::{Bundle, BundleError, Cpu};
use burn::tensor::{Tensor, TensorData};
use feature_store::PAD;

/// A user after some items.
#[derive(Debug, Clone, PartialEq)]
pub struct UserState {
    /// `[dim]`.
    vector: Vec<f32>,
    /// `[blocks, 2, dim]`: real parts, then imaginary parts.
    hidden: Vec<f32>,
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

    /// Blocks that it went through.
    pub fn depth(&self) -> usize {
        self.hidden.len() / (2 * self.dim()).max(1)
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
        self.fold_of(&self.rows(history)?, dim, self.blocks())
    }

    /// As [`Bundle::fold`], after item vectors of at least `dim` numbers each (those of items that came
    /// after training too) and through the first `depth` blocks (at most all).
    ///
    /// # Errors
    /// A dim that was not trained.
    pub fn fold_of(&self, history: &[&[f32]], dim: usize, depth: usize) -> Result<UserState, BundleError> {
        let model = self.model_at(dim)?;
        let start_token = self.rows(&[PAD])?;
        let read = if history.is_empty() { &start_token[..] } else { history };
        // The state starts with the first token and is kept from then on.
        let mut keep = vec![1.0; read.len()];
        keep[0] = 0.0;
        let last = read.len() - 1;
        let mut y = columns(read, dim);
        let mut hidden = Vec::with_capacity(model.blocks.len() * 2 * dim);
        for block in model.blocks.iter().take(depth) {
            let (out, states) = block.forward_with_states(y, &keep);
            hidden.extend(host_values::<f32, _, 2>(states.re.narrow(0, last, 1)));
            hidden.extend(host_values::<f32, _, 2>(states.im.narrow(0, last, 1)));
            y = out;
        }
        let y = model.user_vectors(y);
        if history.is_empty() {
            // The state never passes from the start token to the first item.
            hidden.fill(0.0);
        }
        Ok(UserState { vector: host_values(y.narrow(0, last, 1)), hidden })
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
    /// A state of a dim that this Bundle was not trained at.
    pub fn advance_by(&self, state: &UserState, item: &[f32]) -> Result<UserState, BundleError> {
        let dim = state.dim();
        let model = self.model_at(dim)?;
        let (y, next) = model.step(columns(&[item], dim), unpack(model, state));
        let mut hidden = Vec::with_capacity(state.hidden.len());
        for Complex { re, im } in next.0 {
            hidden.extend(host_values::<f32, _, 2>(re));
            hidden.extend(host_values::<f32, _, 2>(im));
        }
        Ok(UserState { vector: host_values(y), hidden })
    }
}

/// The state as the model takes it, of one user.
fn unpack(model: &FmrlRec<Cpu>, state: &UserState) -> HiddenState<Cpu> {
    let dim = state.dim();
    let mut parts = state
        .hidden
        .chunks_exact(dim)
        .map(|part| Tensor::<Cpu, 2>::from_data(TensorData::new(part.to_vec(), [1, dim]), &Default::default()));
    let mut part = || parts.next().expect("a state has two parts a block");
    HiddenState(model.blocks.iter().take(state.depth()).map(|_| Complex { re: part(), im: part() }).collect())
}
