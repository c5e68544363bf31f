//! What one request sees: a Bundle and the items added to it, taken once and kept, so that neither a
//! swap nor a new item splits an answer.

use crate::added::Added;
use crate::problem::Problem;
use crate::served::ServedBundle;
use fmrlrec::UserState;
use retrieval::Tailed;
use std::ops::Deref;
use std::sync::Arc;

/// A Bundle with its added items. Ids go on behind the Bundle's.
#[derive(Clone)]
pub(crate) struct View {
    served: Arc<ServedBundle>,
    added: Arc<Added>,
}

/// An item, whichever it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ItemRef<'a> {
    pub(crate) key: &'a str,
    pub(crate) title: &'a str,
    /// Whether it came after training.
    pub(crate) added: bool,
}

impl Deref for View {
    type Target = ServedBundle;

    fn deref(&self) -> &ServedBundle {
        &self.served
    }
}

impl View {
    pub(crate) fn new(served: Arc<ServedBundle>, added: Arc<Added>) -> View {
        View { served, added }
    }

    pub(crate) fn added(&self) -> &Added {
        &self.added
    }

    /// Trained dims, ascending.
    pub(crate) fn dims(&self) -> &[usize] {
        self.bundle.dims()
    }

    /// Number of items.
    pub(crate) fn items(&self) -> usize {
        self.bundle.items().len() + self.added.len()
    }

    /// Id of a key: the Bundle's, else that of an added item.
    pub(crate) fn id(&self, key: &str) -> Option<u32> {
        self.bundle.vocabulary().id(key).or_else(|| self.added.id(key))
    }

    /// The item with an id; none for PAD and past the last one.
    pub(crate) fn item(&self, id: u32) -> Option<ItemRef<'_>> {
        let own = self.bundle.items().get((id as usize).checked_sub(1)?);
        let own = own.map(|item| ItemRef { key: &item.key, title: &item.title, added: false });
        own.or_else(|| self.added.item(id).map(|item| ItemRef { key: &item.key, title: &item.title, added: true }))
    }

    /// The Bundle's item table with the added items behind it.
    ///
    /// # Errors
    /// Never in practice: both have the Bundle's dims.
    pub(crate) fn table(&self) -> Result<Tailed<'_>, Problem> {
        Ok(Tailed::new(self.served.table(), self.added.tail())?)
    }

    /// The state after a history of ids that [`View::id`] gave, oldest first, through `depth` blocks.
    ///
    /// # Errors
    /// The Bundle's failure.
    pub(crate) fn fold(&self, history: &[u32], dim: usize, depth: usize) -> Result<UserState, Problem> {
        let rows: Vec<&[f32]> = history.iter().map(|&id| self.row(id)).collect();
        Ok(self.bundle.fold_of(&rows, dim, depth)?)
    }

    /// The state after one item more.
    ///
    /// # Errors
    /// The Bundle's failure.
    pub(crate) fn advance(&self, state: &UserState, id: u32) -> Result<UserState, Problem> {
        Ok(self.bundle.advance_by(state, self.row(id))?)
    }

    /// An item's vector at the largest dim.
    fn row(&self, id: u32) -> &[f32] {
        let rows = self.bundle.item_table();
        let width = rows.len() / (self.bundle.items().len() + 1);
        self.added.item(id).map_or_else(|| &rows[id as usize * width..][..width], |item| item.vector())
    }
}
