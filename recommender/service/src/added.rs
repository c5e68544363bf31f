//! Items that came after a Bundle was trained, as one immutable value: keys, titles, and vectors that the
//! Bundle projected from their features. The tail of the item table (`retrieval::Tailed`).
//!
//! A change makes the next value from this one and projects only what changed; who holds this one goes
//! on with it. An item keeps its place until one before it is removed, then the last one takes that
//! place; [`Added::mark`] tells whether a place still holds what it held.
//!
//! Limits: `limits.added_items` items, those that came first.

use crate::attributes;
use feature_store::{AddedItem, AttributeValue, ItemContent, StoreError, UserStateStore};
use fmrlrec::{Bundle, BundleError};
use retrieval::{Metadata, NestedTable, RetrievalError};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Tells any two values apart.
static NEXT_VERSION: AtomicU64 = AtomicU64::new(1);

/// Why the items of the store could not be taken in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AddedError {
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Their vectors cannot be laid out.
    #[error("vectors of added items: {0}")]
    Table(#[from] RetrievalError),
}

/// One added item.
#[derive(Debug)]
pub(crate) struct Newcomer {
    pub(crate) key: String,
    pub(crate) title: String,
    /// Number of its last change in the store.
    changed: u64,
    /// `[D]`.
    vector: Vec<f32>,
    attributes: BTreeMap<String, AttributeValue>,
}

/// Added items of one Bundle. Item `offset + 1 + i` is at place `i`.
pub(crate) struct Added {
    /// Never the same for two values.
    pub(crate) version: u64,
    /// Items of the Bundle itself.
    offset: u32,
    items: Vec<Arc<Newcomer>>,
    places: HashMap<String, usize>,
    tail: Option<NestedTable>,
    metadata: Metadata,
    /// Changes of items that the Bundle cannot place; they are not tried again.
    left_out: HashSet<u64>,
}

impl Added {
    /// None yet.
    pub(crate) fn none(bundle: &Bundle) -> Added {
        Added {
            version: NEXT_VERSION.fetch_add(1, Ordering::Relaxed),
            offset: bundle.items().len() as u32,
            items: Vec::new(),
            places: HashMap::new(),
            tail: None,
            metadata: Metadata::new(0),
            left_out: HashSet::new(),
        }
    }

    /// What the store holds now; none if that is what is here. Blocking.
    ///
    /// # Errors
    /// The store's failure, or no memory for the vectors.
    pub(crate) fn next(
        &self,
        bundle: &Bundle,
        store: &UserStateStore,
        most: usize,
    ) -> Result<Option<Added>, AddedError> {
        // What the Bundle was trained on has its own row.
        let mut listed = store.added_items()?;
        listed.retain(|item| bundle.vocabulary().id(&item.item_id).is_none());
        listed.truncate(most);
        if self.holds(&listed) {
            return Ok(None);
        }
        let mut next = Added { items: self.items.clone(), ..Added::none(bundle) };
        let wanted: HashMap<&str, u64> = listed.iter().map(|item| (item.item_id.as_str(), item.changed)).collect();
        let mut place = 0;
        while place < next.items.len() {
            // A changed item keeps its place and is replaced below.
            if wanted.contains_key(next.items[place].key.as_str()) {
                place += 1;
            } else {
                next.items.swap_remove(place);
            }
        }
        next.places = next.items.iter().enumerate().map(|(place, item)| (item.key.clone(), place)).collect();
        for item in &listed {
            if self.left_out.contains(&item.changed) {
                next.left_out.insert(item.changed);
                next.forget(&item.item_id);
            } else if next.mark_of(&item.item_id) != Some(item.changed) {
                next.place(bundle, store, item)?;
            }
        }
        next.lay_out(bundle)?;
        Ok(Some(next))
    }

    /// Whether these changes are the ones that are here.
    fn holds(&self, listed: &[AddedItem]) -> bool {
        listed.len() == self.items.len() + self.left_out.len()
            && listed
                .iter()
                .all(|item| self.left_out.contains(&item.changed) || self.mark_of(&item.item_id) == Some(item.changed))
    }

    fn mark_of(&self, key: &str) -> Option<u64> {
        self.places.get(key).map(|&place| self.items[place].changed)
    }

    /// Projects an item and puts it where it was, or last. One that the Bundle cannot place is left out.
    fn place(&mut self, bundle: &Bundle, store: &UserStateStore, item: &AddedItem) -> Result<(), AddedError> {
        // Gone since the list was read: the next list lacks it.
        let Some(content) = store.item_content(&item.item_id)? else { return Ok(()) };
        let vector = match project(bundle, &content) {
            Ok(vector) => vector,
            Err(error) => {
                tracing::warn!(item_id = item.item_id, bundle_id = bundle.id(), %error, "an item is left out");
                self.left_out.insert(item.changed);
                self.forget(&item.item_id);
                return Ok(());
            }
        };
        let state = store.item(&item.item_id)?;
        let title = state.as_ref().and_then(|state| state.title()).unwrap_or(&item.item_id).to_owned();
        let newcomer = Arc::new(Newcomer {
            key: item.item_id.clone(),
            title,
            changed: item.changed,
            vector,
            attributes: content.attributes().clone(),
        });
        match self.places.get(&item.item_id) {
            Some(&place) => self.items[place] = newcomer,
            None => {
                self.places.insert(item.item_id.clone(), self.items.len());
                self.items.push(newcomer);
            }
        }
        Ok(())
    }

    /// Takes an item away; the last one takes its place.
    fn forget(&mut self, key: &str) {
        let Some(place) = self.places.remove(key) else { return };
        self.items.swap_remove(place);
        if let Some(moved) = self.items.get(place) {
            self.places.insert(moved.key.clone(), place);
        }
    }

    fn lay_out(&mut self, bundle: &Bundle) -> Result<(), AddedError> {
        self.metadata = attributes::of_added(bundle.attributes(), self.items.iter().map(|item| &item.attributes))?;
        if self.items.is_empty() {
            return Ok(());
        }
        let width = bundle.dims().last().copied().unwrap_or_default();
        let mut rows = vec![0.0; width];
        rows.reserve_exact(self.items.len() * width);
        self.items.iter().for_each(|item| rows.extend_from_slice(&item.vector));
        self.tail = Some(NestedTable::new(&rows, bundle.dims())?);
        Ok(())
    }

    /// Number of items.
    pub(crate) fn len(&self) -> usize {
        self.items.len()
    }

    /// Number of stored items that the Bundle cannot place.
    pub(crate) fn left_out(&self) -> usize {
        self.left_out.len()
    }

    /// Their vectors, to search behind the Bundle's.
    pub(crate) fn tail(&self) -> Option<&NestedTable> {
        self.tail.as_ref()
    }

    /// What predicates on them are asked of.
    pub(crate) fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Id of a key.
    pub(crate) fn id(&self, key: &str) -> Option<u32> {
        self.places.get(key).map(|&place| self.offset + 1 + place as u32)
    }

    /// The item with an id; none if it is the Bundle's own or past the last.
    pub(crate) fn item(&self, id: u32) -> Option<&Newcomer> {
        self.items.get(id.checked_sub(self.offset + 1)? as usize).map(Arc::as_ref)
    }

    /// Number of the change that an id stands for: equal marks, equal vectors.
    pub(crate) fn mark(&self, id: u32) -> Option<u64> {
        self.item(id).map(|item| item.changed)
    }
}

impl Newcomer {
    /// Its vector at the Bundle's largest dim.
    pub(crate) fn vector(&self) -> &[f32] {
        &self.vector
    }
}

/// The vector of stored features under a Bundle that may know other features: those that it does not
/// know are passed over, those that the item lacks are zeros.
fn project(bundle: &Bundle, content: &ItemContent) -> Result<Vec<f32>, BundleError> {
    let known = bundle.features()?;
    let of_bundle = content.features().iter().filter(|(name, _)| known.iter().any(|known| known.name == **name));
    let features: BTreeMap<String, Vec<f32>> = of_bundle.map(|(name, vector)| (name.clone(), vector.clone())).collect();
    bundle.item_vector(&features)
}
