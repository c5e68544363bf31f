//! A Bundle ready to be served, and the slot that holds the one of now.

use crate::ServiceError;
use crate::added::{Added, AddedError};
use crate::attributes;
use crate::hidden::HiddenItems;
use crate::plans::Plans;
use crate::view::View;
use feature_store::UserStateStore;
use fmrlrec::{Bundle, BundleShape, Cut};
use retrieval::{Metadata, NestedTable};
use sha2::{Digest as _, Sha256};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// Tells two loads of one folder apart.
static NEXT_GENERATION: AtomicU64 = AtomicU64::new(1);
/// Threads that make the indexes of search plans: the others go on serving.
const INDEX_THREADS: usize = 1;
/// Weight of the newest batch in the mean cost: about the last 20 batches count.
const NEWEST: f32 = 0.05;

/// Added and hidden items, made from one reading of the store.
type StoredItems = (Arc<Added>, Arc<HiddenItems>);

/// One Bundle, its item table laid out, and what a request costs at each of its dims.
pub(crate) struct ServedBundle {
    pub(crate) bundle: Bundle,
    /// What it was trained at.
    pub(crate) shape: BundleShape,
    /// All of its model.
    pub(crate) whole: Cut,
    table: Arc<NestedTable>,
    plans: Plans,
    metadata: Metadata,
    /// What the store has beside the Bundle.
    items: RwLock<StoredItems>,
    /// The store's generation of items that `items` was made from. Held while the next is made.
    refreshed: Mutex<Option<u64>>,
    /// Unlike the id, never the same for two loads.
    pub(crate) generation: u64,
    /// Folder it came from, if the service loaded it.
    pub(crate) folder: PathBuf,
    /// When it was loaded, in milliseconds since the Unix epoch.
    pub(crate) loaded_ms: i64,
    /// Mean time of one request in a batch, by dim, as bits of an f32 in microseconds; 0 is unknown.
    costs_us: Vec<AtomicU32>,
}

impl ServedBundle {
    /// Lays out the item table.
    ///
    /// # Errors
    /// The item table cannot be served.
    pub(crate) fn new(mut bundle: Bundle, folder: PathBuf, loaded_ms: i64) -> Result<ServedBundle, ServiceError> {
        let rows = bundle.take_item_table();
        let refused = |source| ServiceError::Table { bundle_id: bundle.id().to_string(), source };
        let table = Arc::new(NestedTable::new(&rows, bundle.dims()).map_err(refused)?);
        drop(rows);
        let metadata = attributes::of_bundle(bundle.attributes(), bundle.items().len()).map_err(refused)?;
        let generation = NEXT_GENERATION.fetch_add(1, Ordering::Relaxed);
        let costs_us = bundle.dims().iter().map(|_| AtomicU32::new(0)).collect();
        let plans = Plans::new(bundle.search_plans(), &table, INDEX_THREADS)
            .map_err(|reason| ServiceError::Plans { bundle_id: bundle.id().to_string(), reason })?;
        let items = RwLock::new((Arc::new(Added::none(&bundle)), Arc::new(HiddenItems::none())));
        Ok(ServedBundle {
            shape: bundle.shape(),
            whole: bundle.shape().whole(),
            bundle,
            table,
            plans,
            metadata,
            items,
            refreshed: Mutex::new(None),
            generation,
            folder,
            loaded_ms,
            costs_us,
        })
    }

    /// The Bundle's own item table.
    pub(crate) fn own_table(&self) -> &NestedTable {
        &self.table
    }

    /// How `recommender tune` would search the table.
    pub(crate) fn plans(&self) -> &Plans {
        &self.plans
    }

    /// What predicates on the Bundle's own items are asked of.
    pub(crate) fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// What a request that begins now sees.
    pub(crate) fn view(self: &Arc<Self>) -> View {
        let (added, hidden) = self.stored_items();
        View::new(Arc::clone(self), added, hidden)
    }

    fn stored_items(&self) -> StoredItems {
        self.items.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes in the items that the store holds by now, and those that it hides. Blocking; whoever comes while another is at it
    /// waits, and then mostly finds it done, so that many changes at once cost one.
    ///
    /// # Errors
    /// The store's failure, or no memory for the vectors.
    pub(crate) fn refresh_items(&self, store: &UserStateStore, most: usize) -> Result<(), AddedError> {
        let mut refreshed = self.refreshed.lock().unwrap_or_else(PoisonError::into_inner);
        // Read before the list is: a change in between is looked for again, never missed.
        let generation = store.items_generation()?;
        if *refreshed == Some(generation) {
            return Ok(());
        }
        let (before, _) = self.stored_items();
        let added = before.next(&self.bundle, store, most)?.map_or(before, Arc::new);
        let id = |key: &str| self.bundle.vocabulary().id(key).or_else(|| added.id(key));
        let hidden = Arc::new(HiddenItems::read(store, id)?);
        *self.items.write().unwrap_or_else(PoisonError::into_inner) = (added, hidden);
        *refreshed = Some(generation);
        Ok(())
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

/// The Bundle of now, the one before it, which a rollback brings back, and one on trial.
pub(crate) struct BundleSlot {
    current: RwLock<Arc<ServedBundle>>,
    previous: RwLock<Option<Arc<ServedBundle>>>,
    trial: RwLock<Option<Trial>>,
    /// Requests without a user that a Bundle in the shadow could have been asked of.
    anonymous: AtomicU64,
}

/// A Bundle that a share of the users gets.
#[derive(Clone)]
pub(crate) struct Trial {
    pub(crate) served: Arc<ServedBundle>,
    /// Users in a thousand.
    pub(crate) permille: u32,
    /// Whether it ranks unseen what the Bundle of now answers.
    pub(crate) shadow: bool,
}

impl BundleSlot {
    pub(crate) fn new(served: ServedBundle) -> BundleSlot {
        BundleSlot {
            current: RwLock::new(Arc::new(served)),
            previous: RwLock::new(None),
            trial: RwLock::new(None),
            anonymous: AtomicU64::new(0),
        }
    }

    /// The Bundle of now. A request asks once and keeps it, so that a swap never splits an answer.
    pub(crate) fn current(&self) -> Arc<ServedBundle> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The Bundle before it.
    pub(crate) fn previous(&self) -> Option<Arc<ServedBundle>> {
        self.previous.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The Bundle on trial, if there is one.
    pub(crate) fn trial(&self) -> Option<Trial> {
        self.trial.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Gives a share of the users another Bundle, or nobody.
    pub(crate) fn set_trial(&self, trial: Option<Trial>) {
        *self.trial.write().unwrap_or_else(PoisonError::into_inner) = trial;
    }

    /// The Bundle of a user: the same one at every request and after every restart, as long as the
    /// trial's Bundle and share stay. Requests without a user get the Bundle of now.
    pub(crate) fn of_user(&self, user: Option<&str>) -> View {
        if let (Some(user), Some(trial)) = (user, self.trial())
            && !trial.shadow
            && place_of(user, trial.served.bundle.id()) < trial.permille
        {
            return trial.served.view();
        }
        self.view()
    }

    /// The Bundle in the shadow that a request is asked of too: of users the same ones every time, of
    /// requests without a user as large a share.
    pub(crate) fn in_shadow(&self, user: Option<&str>) -> Option<View> {
        let trial = self.trial().filter(|trial| trial.shadow)?;
        let place = match user {
            Some(user) => place_of(user, trial.served.bundle.id()),
            None => (self.anonymous.fetch_add(1, Ordering::Relaxed) % 1_000) as u32,
        };
        (place < trial.permille).then(|| trial.served.view())
    }

    /// The Bundle of now with its added items of now.
    pub(crate) fn view(&self) -> View {
        self.current().view()
    }

    /// Every Bundle that is in memory: the one of now, the one before it, one on trial.
    pub(crate) fn all(&self) -> Vec<Arc<ServedBundle>> {
        let mut all = vec![self.current()];
        all.extend(self.previous());
        all.extend(self.trial().map(|trial| trial.served));
        all
    }

    /// Lets go of the Bundle before this one.
    pub(crate) fn forget_previous(&self) {
        *self.previous.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Serves `next` from now on and keeps what was served. Running requests end on what they hold.
    pub(crate) fn swap(&self, next: Arc<ServedBundle>) {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *current, next);
        *self.previous.write().unwrap_or_else(PoisonError::into_inner) = Some(before);
    }
}

/// A user's place in a trial, 0 to 999. The Bundle's id is part of it, so that the next trial does not
/// meet the same users again.
fn place_of(user: &str, bundle_id: &str) -> u32 {
    let digest = Sha256::new().chain_update(bundle_id).chain_update([0]).chain_update(user).finalize();
    u32::from_le_bytes([digest[0], digest[1], digest[2], digest[3]]) % 1_000
}

#[cfg(test)]
mod tests {
    use super::place_of;

    #[test]
    fn a_share_of_the_users_is_on_trial_and_another_one_next_time() {
        let users: Vec<String> = (0..20_000).map(|user| format!("u{user}")).collect();
        let on_trial = |id: &str| users.iter().filter(|user| place_of(user, id) < 100).collect::<Vec<_>>();
        let (first, second) = (on_trial("a"), on_trial("b"));
        assert!((1_800..2_200).contains(&first.len()) && (1_800..2_200).contains(&second.len()));
        let both = first.iter().filter(|user| second.contains(user)).count();
        assert!(both < 300, "{both} of 2,000 are in both trials; about 200 are by chance");
    }
}
