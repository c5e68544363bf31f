//! What one request sees: a Bundle, the items added to it and those that are hidden, taken once and kept, so
//! that neither a swap nor a new item splits an answer.

use crate::added::Added;
use crate::hidden::HiddenItems;
use crate::problem::Problem;
use crate::served::ServedBundle;
use fmrlrec::{Cut, UserState};
use retrieval::{Bitset, Predicate, Tailed};
use std::borrow::Cow;
use std::ops::Deref;
use std::sync::Arc;

/// A Bundle with its added and its hidden items. Ids of added ones go on behind the Bundle's.
#[derive(Clone)]
pub(crate) struct View {
    served: Arc<ServedBundle>,
    added: Arc<Added>,
    hidden: Arc<HiddenItems>,
}

/// An item, whichever it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ItemRef<'a> {
    pub(crate) key: &'a str,
    pub(crate) title: &'a str,
    /// Whether it came after training.
    pub(crate) added: bool,
}

/// Items that a predicate lets through.
pub(crate) struct Allowed {
    pub(crate) own: Arc<Bitset>,
    pub(crate) added: Arc<Bitset>,
}

impl Allowed {
    /// Whether an id of the view is among them.
    pub(crate) fn contains(&self, id: u32) -> bool {
        match id.checked_sub(self.own.items() as u32 + 1) {
            None => self.own.contains(id),
            Some(place) => self.added.contains(place + 1),
        }
    }
}

impl Deref for View {
    type Target = ServedBundle;

    fn deref(&self) -> &ServedBundle {
        &self.served
    }
}

impl View {
    pub(crate) fn new(served: Arc<ServedBundle>, added: Arc<Added>, hidden: Arc<HiddenItems>) -> View {
        View { served, added, hidden }
    }

    pub(crate) fn added(&self) -> &Added {
        &self.added
    }

    /// Ids that must not be recommended at a time, ascending.
    pub(crate) fn hidden_at(&self, now_ms: i64) -> Arc<[u32]> {
        self.hidden.at(now_ms)
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
        Ok(Tailed::new(self.served.own_table(), self.added.tail())?)
    }

    /// The items that satisfy a predicate: the Bundle's own by id, the added ones by place from 1. Asked
    /// again, it costs a look-up.
    ///
    /// # Errors
    /// 400: a column does not exist or is of the other type, or the predicate is too large.
    pub(crate) fn items_where(&self, predicate: &Predicate) -> Result<Allowed, Problem> {
        let own = self.metadata().items_where(predicate)?;
        // Without added items the columns are not there either.
        let added = match self.added.len() {
            0 => Arc::new(Bitset::empty(0)),
            _ => self.added.metadata().items_where(predicate)?,
        };
        Ok(Allowed { own, added })
    }

    /// The state after a history of ids that [`View::id`] gave, oldest first, through a cut of the model.
    ///
    /// # Errors
    /// The Bundle's failure.
    pub(crate) fn fold(&self, history: &[u32], dim: usize, cut: &Cut) -> Result<UserState, Problem> {
        let rows: Vec<Cow<'_, [f32]>> = history.iter().map(|&id| self.row(id, dim)).collect::<Result<_, _>>()?;
        let rows: Vec<&[f32]> = rows.iter().map(|row| &**row).collect();
        Ok(self.bundle.fold_of(&rows, dim, cut)?)
    }

    /// The state after one item more.
    ///
    /// # Errors
    /// The Bundle's failure.
    pub(crate) fn advance(&self, state: &UserState, id: u32) -> Result<UserState, Problem> {
        Ok(self.bundle.advance_by(state, &self.row(id, state.dim())?)?)
    }

    /// An item's vector, at least at `dim`.
    fn row(&self, id: u32, dim: usize) -> Result<Cow<'_, [f32]>, Problem> {
        match self.added.item(id) {
            None => Ok(Cow::Owned(self.own_table().vector(id, dim)?)),
            Some(item) => Ok(Cow::Borrowed(item.vector())),
        }
    }
}
