//! A user's kept history as ids, and which of it the model reads.
//!
//! **The window.** Of a history of which `total` entries ever came, the model reads the newest `max_len`
//! known items of those before the last multiple of `max_len`, and every known item since: all of a short
//! history, and of a long one between `max_len` and `2 max_len - 1` items. So the window's start stays
//! where it is for `max_len` events, and each of them is one step on from the state before; then it moves,
//! and the state is folded anew. That is two items read an event, at a history of 10 and of 10,000.
//!
//! The window is a function of the kept history and of `total`, of nothing else: a state that was carried
//! on from event to event and one that was folded after a restart are equal.

use feature_store::PAD;
use std::collections::VecDeque;

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
    pub(crate) fn window_start(&self, max_len: usize) -> u64 {
        let first = self.total - self.ids.len() as u64;
        first + self.start_index(max_len) as u64
    }

    /// Known ids of the window, oldest first.
    pub(crate) fn window(&self, max_len: usize) -> Vec<u32> {
        self.ids.range(self.start_index(max_len)..).copied().filter(|id| *id != PAD).collect()
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
    fn start_index(&self, max_len: usize) -> usize {
        let since = usize::try_from(self.total % max_len as u64).expect("it is less than max_len");
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
    use super::Kept;
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
        let check = |len: usize, start: u64| {
            let kept = of(&keys[..len], len as u64);
            assert_eq!(kept.window_start(4), start, "of {len}");
            assert_eq!(kept.window(4).len() as u64, len as u64 - start, "of {len}");
        };
        for (len, start) in [(0, 0), (1, 0), (4, 0), (7, 0), (8, 4), (11, 4), (12, 8), (30, 24)] {
            check(len, start);
        }
    }

    #[test]
    fn unknown_items_are_passed_over_and_told_once() {
        let keys = ["1", "x", "2", "y", "x", "3"].map(str::to_owned);
        let kept = of(&keys, 6);
        // Two came since the last multiple of 4; of the four before, 1 and 2 are known.
        assert_eq!(kept.window(4), [1, 2, 3]);
        assert_eq!(kept.unknown(), ["x", "y"]);
        assert_eq!(kept.seen(), [1, 2, 3]);
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
            prop_assert_eq!(carried.window(max_len), anew.window(max_len));
            prop_assert_eq!(carried.window_start(max_len), anew.window_start(max_len));
            let known = anew.seen().len();
            prop_assert!(anew.window(max_len).len() >= known.min(max_len) && anew.window(max_len).len() < 2 * max_len);
        }
    }
}
