//! Columns of item metadata, and predicates on them as sets of items.
//!
//! A predicate is evaluated once over the columns and kept: the scan sees only bits.

use crate::{Bitset, Predicate, RetrievalError};
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Most sets that are kept; the one made first goes first.
pub const MAX_CACHED_SETS: usize = 256;

/// What is known of each item.
#[derive(Debug, Default)]
pub struct Metadata {
    items: usize,
    columns: BTreeMap<String, Column>,
    cache: Mutex<Cache>,
}

#[derive(Debug)]
enum Column {
    /// Value -> items that have it.
    Text(HashMap<String, Vec<u32>>),
    /// (number, item), ascending by number.
    Number(Vec<(f64, u32)>),
}

#[derive(Debug, Default)]
struct Cache {
    sets: HashMap<Key, Arc<Bitset>>,
    order: VecDeque<Key>,
}

/// Stands for a predicate, in as many bytes however long its values are.
type Key = [u8; 32];

fn key_of(predicate: &Predicate) -> Key {
    // Debug text of a predicate tells any two apart: it quotes strings and prints numbers in full.
    Sha256::digest(format!("{predicate:?}")).into()
}

impl Metadata {
    /// Of `items` items, with no column yet.
    pub fn new(items: usize) -> Metadata {
        Metadata { items, ..Metadata::default() }
    }

    /// Adds a column of texts, or replaces it: `values` yields (item, value), any number of values an item.
    ///
    /// # Errors
    /// An item is not in `1..=items`.
    pub fn text<V: Into<String>>(
        &mut self,
        name: &str,
        values: impl IntoIterator<Item = (u32, V)>,
    ) -> Result<(), RetrievalError> {
        let mut column: HashMap<String, Vec<u32>> = HashMap::new();
        for (id, value) in values {
            self.check_item(id)?;
            column.entry(value.into()).or_default().push(id);
        }
        self.put(name, Column::Text(column));
        Ok(())
    }

    /// Adds a column of numbers, or replaces it: `values` yields (item, number), any number of numbers an item.
    ///
    /// # Errors
    /// An item is not in `1..=items`, or a number is NaN.
    pub fn number(&mut self, name: &str, values: impl IntoIterator<Item = (u32, f64)>) -> Result<(), RetrievalError> {
        let mut column = Vec::new();
        for (id, value) in values {
            self.check_item(id)?;
            if value.is_nan() {
                return Err(RetrievalError::Bound { column: name.to_owned() });
            }
            column.push((value, id));
        }
        column.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        self.put(name, Column::Number(column));
        Ok(())
    }

    /// Refuses what [`Metadata::items_where`] refuses, without looking for items.
    ///
    /// # Errors
    /// As [`Metadata::items_where`].
    pub fn check(&self, predicate: &Predicate) -> Result<(), RetrievalError> {
        predicate.check()?;
        self.check_columns(predicate)
    }

    /// The items that satisfy a predicate; asked again, the same set without work.
    ///
    /// # Errors
    /// A column does not exist or is of the other type, or the predicate is too large.
    pub fn items_where(&self, predicate: &Predicate) -> Result<Arc<Bitset>, RetrievalError> {
        predicate.check()?;
        let key = key_of(predicate);
        if let Some(set) = self.cache().sets.get(&key) {
            return Ok(Arc::clone(set));
        }
        let set = Arc::new(self.evaluate(predicate)?);
        let mut cache = self.cache();
        if cache.sets.insert(key, Arc::clone(&set)).is_none() {
            cache.order.push_back(key);
        }
        if cache.order.len() > MAX_CACHED_SETS
            && let Some(oldest) = cache.order.pop_front()
        {
            cache.sets.remove(&oldest);
        }
        Ok(set)
    }

    fn evaluate(&self, predicate: &Predicate) -> Result<Bitset, RetrievalError> {
        match predicate {
            Predicate::Equals { column, value } => self.with_values(column, std::slice::from_ref(value)),
            Predicate::OneOf { column, values } => self.with_values(column, values),
            Predicate::Range { column, from, to } => self.in_range(column, *from, *to),
            Predicate::All(inner) => {
                inner.iter().try_fold(Bitset::full(self.items), |set, next| set.and(&self.evaluate(next)?))
            }
            Predicate::Any(inner) => {
                inner.iter().try_fold(Bitset::empty(self.items), |set, next| set.or(&self.evaluate(next)?))
            }
            Predicate::Not(inner) => Ok(self.evaluate(inner)?.complement()),
        }
    }

    fn check_columns(&self, predicate: &Predicate) -> Result<(), RetrievalError> {
        match predicate {
            Predicate::Equals { column, .. } | Predicate::OneOf { column, .. } => match self.columns.get(column) {
                Some(Column::Text(_)) => Ok(()),
                _ => Err(self.no_column(column, "text")),
            },
            Predicate::Range { column, .. } => match self.columns.get(column) {
                Some(Column::Number(_)) => Ok(()),
                _ => Err(self.no_column(column, "number")),
            },
            Predicate::All(inner) | Predicate::Any(inner) => inner.iter().try_for_each(|one| self.check_columns(one)),
            Predicate::Not(inner) => self.check_columns(inner),
        }
    }

    fn with_values(&self, name: &str, values: &[String]) -> Result<Bitset, RetrievalError> {
        let Some(Column::Text(column)) = self.columns.get(name) else {
            return Err(self.no_column(name, "text"));
        };
        Bitset::from_ids(self.items, values.iter().filter_map(|value| column.get(value)).flatten().copied())
    }

    fn in_range(&self, name: &str, from: Option<f64>, to: Option<f64>) -> Result<Bitset, RetrievalError> {
        let Some(Column::Number(column)) = self.columns.get(name) else {
            return Err(self.no_column(name, "number"));
        };
        let start = from.map_or(0, |from| column.partition_point(|&(value, _)| value < from));
        let end = to.map_or(column.len(), |to| column.partition_point(|&(value, _)| value <= to));
        let range = column.get(start..end).unwrap_or_default();
        Bitset::from_ids(self.items, range.iter().map(|&(_, id)| id))
    }

    fn no_column(&self, name: &str, kind: &'static str) -> RetrievalError {
        let of_kind = |column: &Column| matches!(column, Column::Text(_)) == (kind == "text");
        let known = self.columns.iter().filter(|(_, column)| of_kind(column)).map(|(name, _)| name.clone()).collect();
        RetrievalError::Column { name: name.to_owned(), kind, known }
    }

    fn check_item(&self, id: u32) -> Result<(), RetrievalError> {
        if id == 0 || id as usize > self.items {
            return Err(RetrievalError::Item { id, items: self.items });
        }
        Ok(())
    }

    fn put(&mut self, name: &str, column: Column) {
        self.columns.insert(name.to_owned(), column);
        *self.cache() = Cache::default();
    }

    /// A panic of another thread leaves at worst a set that is not listed: still usable.
    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
