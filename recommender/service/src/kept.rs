//! A user's kept history as ids, and which of it the model reads.
//!
//! **The window.** A model was trained on up to `max_len` items. Of a history of which `total` entries ever
//! came it reads the newest `max_len` known items of those before the last multiple of `period`, and every
//! known item since: all of a short history, and of a long one between `max_len` and `max_len + period - 1`
//! items. So the window's start stays where it is for `period` events, and each of them is one step on from
//! the state before; then it moves, and the state is folded anew. An event costs `1 + max_len / period` items
//! read, at a history of 10 and of 10,000. The period is what the store keeps beyond `max_len`, at most
//! `max_len`; where it keeps no more than that, the window is the newest `max_len` and moves at every event.
//!
//! The window is a function of the kept history and of `total`, of nothing else: a state that was carried
//! on from event to event and one that was folded after a restart are equal.

use feature_store::PAD;
use std::collections::VecDeque;

/// How much of a history the model reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    max_len: usize,
    period: usize,
}

impl Window {
    /// For a model trained on up to `max_len` items and a store that keeps `max_history` entries.
    pub(crate) fn new(max_len: usize, max_history: usize) -> Window {
        Window { max_len, period: max_history.saturating_sub(max_len).clamp(1, max_len.max(1)) }
    }
}

/// The newest entries of a history, oldest first, in the order of the store.
#[derive(Debug, Clone, Default)]
pub(crate) struct Kept {
    /// Item ids; [`PAD`] where the Bundle does not know the key.
    ids: VecDeque<u32>,
    /// The keys that the Bundle does not know, in order.
    unknown: VecDeque<Box<str>>,
    /// The known ids, ascending, as often as they occur.
    seen: Vec<u32>,
    /// Entries that ever came.
    total: u64,
}

impl Kept {
    /// A whole kept history, of which `total` entries ever came.
    /// `id` gives the id of a key that is known.
    pub(crate) fn of<'a>(id: impl Fn(&str) -> Option<u32>, keys: impl Iterator<Item = &'a str>, total: u64) -> Kept {
        let mut kept = Kept::default();
        for key in keys {
            match id(key) {
                Some(id) => {
                    kept.ids.push_back(id);
                    kept.seen.push(id);
                }
                None => kept.put_unknown(key),
            }
        }
        kept.seen.sort_unstable();
        kept.total = total.max(kept.ids.len() as u64);
        kept
    }

    /// Takes in the newest entry; past `most` the oldest goes. Gives its id if it is known.
    pub(crate) fn push(&mut self, id: impl Fn(&str) -> Option<u32>, key: &str, most: usize) -> Option<u32> {
        let id = id(key);
        match id {
            Some(id) => {
                self.ids.push_back(id);
                self.seen.insert(self.seen.partition_point(|other| *other < id), id);
            }
            None => self.put_unknown(key),
        }
        self.total += 1;
        while self.ids.len() > most {
            self.drop_oldest();
        }
        id
    }

    /// Whether the newest entries are those of `keys`, as far as both reach back.
    pub(crate) fn ends_with<'a>(
        &self,
        id: impl Fn(&str) -> Option<u32>,
        keys: impl DoubleEndedIterator<Item = &'a str>,
    ) -> bool {
        self.ids.iter().rev().zip(keys.rev()).all(|(&kept, key)| id(key).unwrap_or(PAD) == kept)
    }

    /// Known ids of the kept history, ascending.
    pub(crate) fn seen(&self) -> &[u32] {
        &self.seen
    }

    /// Keys that the Bundle does not know, each once, in the history's order.
    pub(crate) fn unknown(&self) -> Vec<String> {
        let mut met = std::collections::HashSet::new();
        self.unknown.iter().filter(|key| met.insert(&**key)).map(|key| key.to_string()).collect()
    }

    /// The keys that are not known, in order.
    pub(crate) fn unknown_keys(&self) -> impl Iterator<Item = &str> {
        self.unknown.iter().map(|key| &**key)
    }

    /// Place of the window's first entry among all that ever came.
    pub(crate) fn window_start(&self, window: Window) -> u64 {
        let first = self.total - self.ids.len() as u64;
        first + self.start_index(window) as u64
    }

    /// Known ids of the window, oldest first.
    pub(crate) fn window(&self, window: Window) -> Vec<u32> {
        self.ids.range(self.start_index(window)..).copied().filter(|id| *id != PAD).collect()
    }

    /// Bytes that it holds, about.
    pub(crate) fn bytes(&self) -> usize {
        let keys: usize = self.unknown.iter().map(|key| key.len() + size_of::<Box<str>>()).sum();
        (self.ids.len() + self.seen.len()) * size_of::<u32>() + keys
    }

    fn put_unknown(&mut self, key: &str) {
        self.ids.push_back(PAD);
        self.unknown.push_back(key.into());
    }

    fn drop_oldest(&mut self) {
        match self.ids.pop_front() {
            Some(PAD) => drop(self.unknown.pop_front()),
            Some(id) => {
                let at = self.seen.binary_search(&id).expect("every known id is among those seen");
                self.seen.remove(at);
            }
            None => (),
        }
    }

    /// Where the window starts in `ids`.
    fn start_index(&self, Window { max_len, period }: Window) -> usize {
        let since = usize::try_from(self.total % period as u64).expect("it is less than the period");
        let mut start = self.ids.len().saturating_sub(since);
        let mut known = 0;
        while start > 0 && known < max_len {
            start -= 1;
            known += usize::from(self.ids[start] != PAD);
        }
        start
    }
}

#[cfg(test)]
mod tests {
    use super::{Kept, Window};
    use proptest::prelude::*;

    /// Items 1 to 9 are known.
    fn id(key: &str) -> Option<u32> {
        key.parse().ok().filter(|id| (1..=9).contains(id))
    }

    fn of(keys: &[String], total: u64) -> Kept {
        Kept::of(id, keys.iter().map(String::as_str), total)
    }

    #[test]
    fn the_window_is_all_of_a_short_history_and_moves_every_max_len_events() {
        let keys: Vec<String> = (0..30).map(|n| (n % 9 + 1).to_string()).collect();
        let check = |max_history: usize, len: usize, start: u64| {
            let (kept, window) = (of(&keys[..len], len as u64), Window::new(4, max_history));
            assert_eq!(kept.window_start(window), start, "of {len}, keeping {max_history}");
            assert_eq!(kept.window(window).len() as u64, len as u64 - start, "of {len}");
        };
        for (len, start) in [(0, 0), (1, 0), (4, 0), (7, 0), (8, 4), (11, 4), (12, 8), (30, 24)] {
            check(100, len, start);
            check(8, len, start);
        }
        // Less is kept: the window moves more often, and at every event where nothing is kept beyond it.
        for (len, start) in [(5, 0), (6, 2), (7, 2), (8, 4), (9, 4)] {
            check(6, len, start);
        }
        for (len, start) in [(4, 0), (5, 1), (6, 2), (30, 26)] {
            check(4, len, start);
            check(2, len, start);
        }
    }

    #[test]
    fn unknown_items_are_passed_over_and_told_once() {
        let keys = ["1", "x", "2", "y", "x", "3"].map(str::to_owned);
        let kept = of(&keys, 6);
        // Two came since the last multiple of 4; of the four before, 1 and 2 are known.
        assert_eq!(kept.window(Window::new(4, 100)), [1, 2, 3]);
        assert_eq!(kept.unknown(), ["x", "y"]);
        assert_eq!(kept.seen(), [1, 2, 3]);
    }

    #[test]
    fn an_entry_follows_only_on_its_own_history() {
        let kept = Kept::of(id, ["1", "odd", "3"].into_iter(), 3);
        let check = |keys: &[&str], expect: bool| {
            assert_eq!(kept.ends_with(id, keys.iter().copied()), expect, "{keys:?}");
        };
        check(&[], true);
        check(&["3"], true);
        check(&["odd", "3"], true);
        check(&["9", "1", "odd", "3"], true);
        check(&["2"], false);
        check(&["2", "3"], false);
        check(&["3", "odd"], false);
    }

    proptest! {
        #[test]
        fn carried_on_or_read_anew_it_is_the_same(
            keys in prop::collection::vec(1_u32..13, 0..60),
            cut in 0.0_f64..1.0,
            most in 1_usize..30,
            max_len in 1_usize..9,
        ) {
            let keys: Vec<String> = keys.iter().map(u32::to_string).collect();
            let newest = |len: usize| of(&keys[len.saturating_sub(most)..len], len as u64);
            let from = (keys.len() as f64 * cut) as usize;
            let mut carried = newest(from);
            for key in &keys[from..] {
                carried.push(id, key, most);
            }
            let anew = newest(keys.len());
            prop_assert_eq!(&carried.ids, &anew.ids);
            prop_assert_eq!(carried.seen(), anew.seen());
            prop_assert_eq!(carried.unknown(), anew.unknown());
            let window = Window::new(max_len, most);
            prop_assert_eq!(carried.window(window), anew.window(window));
            prop_assert_eq!(carried.window_start(window), anew.window_start(window));
            let (known, read) = (anew.seen().len(), anew.window(window).len());
            prop_assert!(read >= known.min(max_len) && read < 2 * max_len, "{} of {}", read, known);
        }
    }
}
