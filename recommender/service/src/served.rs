//! A Bundle ready to be served, and the slot that holds the one of now.

use crate::ServiceError;
use feature_store::Vocabulary;
use fmrlrec::Bundle;
use retrieval::NestedTable;
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

/// Tells two loads of one folder apart.
static NEXT_GENERATION: AtomicU64 = AtomicU64::new(1);
/// Weight of the newest batch in the mean cost: about the last 20 batches count.
const NEWEST: f32 = 0.05;

/// One Bundle, its item table laid out, and what a request costs at each of its dims.
pub(crate) struct ServedBundle {
    pub(crate) bundle: Bundle,
    pub(crate) table: NestedTable,
    /// Unlike the id, never the same for two loads.
    pub(crate) generation: u64,
    /// Folder it came from, if the service loaded it.
    pub(crate) folder: PathBuf,
    /// Mean time of one request in a batch, by dim, as bits of an f32 in microseconds; 0 is unknown.
    costs_us: Vec<AtomicU32>,
}

impl ServedBundle {
    /// Lays out the item table.
    ///
    /// # Errors
    /// The item table cannot be served.
    pub(crate) fn new(bundle: Bundle, folder: PathBuf) -> Result<ServedBundle, ServiceError> {
        let table = NestedTable::new(bundle.item_table(), bundle.dims())
            .map_err(|source| ServiceError::Table { bundle_id: bundle.id().to_string(), source })?;
        let generation = NEXT_GENERATION.fetch_add(1, Ordering::Relaxed);
        let costs_us = bundle.dims().iter().map(|_| AtomicU32::new(0)).collect();
        Ok(ServedBundle { bundle, table, generation, folder, costs_us })
    }

    /// Microseconds of one request at `dim`, if one was served.
    pub(crate) fn cost_us(&self, dim: usize) -> Option<f32> {
        let at = self.bundle.dims().binary_search(&dim).ok()?;
        Some(f32::from_bits(self.costs_us[at].load(Ordering::Relaxed))).filter(|&cost| cost > 0.0)
    }

    /// Takes in that a batch cost this much for each of its requests. Two threads at once may lose one
    /// of two updates, which a mean can bear.
    pub(crate) fn record_cost(&self, dim: usize, cost_us: f32) {
        let Ok(at) = self.bundle.dims().binary_search(&dim) else { return };
        let mean = self.cost_us(dim).map_or(cost_us, |mean| mean + NEWEST * (cost_us - mean));
        self.costs_us[at].store(mean.to_bits(), Ordering::Relaxed);
    }
}

/// The Bundle of now and the one before it, which a rollback brings back.
pub(crate) struct BundleSlot {
    current: RwLock<Arc<ServedBundle>>,
    previous: RwLock<Option<Arc<ServedBundle>>>,
}

/// The vocabulary of the Bundle of now, for as long as it is held.
pub(crate) struct CurrentVocabulary(Arc<ServedBundle>);

impl Deref for CurrentVocabulary {
    type Target = Vocabulary;

    fn deref(&self) -> &Vocabulary {
        self.0.bundle.vocabulary()
    }
}

impl BundleSlot {
    pub(crate) fn new(served: ServedBundle) -> BundleSlot {
        BundleSlot { current: RwLock::new(Arc::new(served)), previous: RwLock::new(None) }
    }

    /// The Bundle of now. A request asks once and keeps it, so that a swap never splits an answer.
    pub(crate) fn current(&self) -> Arc<ServedBundle> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The Bundle before it.
    pub(crate) fn previous(&self) -> Option<Arc<ServedBundle>> {
        self.previous.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The vocabulary of now.
    pub(crate) fn vocabulary(&self) -> CurrentVocabulary {
        CurrentVocabulary(self.current())
    }

    /// Serves `next` from now on and keeps what was served. Running requests end on what they hold.
    pub(crate) fn swap(&self, next: Arc<ServedBundle>) {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *current, next);
        *self.previous.write().unwrap_or_else(PoisonError::into_inner) = Some(before);
    }
}
