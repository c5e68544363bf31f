//! Where the partitions of a source go on. Of a partition whose messages were applied the store keeps the
//! position. Where a source starts later than with its oldest message, that place is kept too, under a name of
//! its own, since a place before all messages is no position: so neither an empty partition nor a crash
//! before the first write moves the start.

use super::StreamError;
use feature_store::{SourceRecord, UserStateStore};
use std::collections::BTreeMap;

/// What the store says of a source.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Begun {
    /// Partition -> offset of the last message applied.
    applied: BTreeMap<u32, u64>,
    /// Partition -> offset of the message that it was to start with.
    starts: BTreeMap<u32, u64>,
}

impl Begun {
    /// Asks the store.
    pub(super) fn read(store: &UserStateStore, source: &str) -> Result<Begun, StreamError> {
        let starts = store.positions(&name_of_starts(source))?;
        let starts = starts.into_iter().map(|(partition, mark)| (partition, u64::MAX - mark)).collect();
        Ok(Begun { applied: store.positions(source)?, starts })
    }

    /// Whether any partition has begun. A partition of which nothing is known came later then, and all of its
    /// messages are new.
    pub(super) fn any(&self) -> bool {
        !self.applied.is_empty() || !self.starts.is_empty()
    }

    /// Offset of the last message applied of a partition.
    pub(super) fn applied(&self, partition: u32) -> Option<u64> {
        self.applied.get(&partition).copied()
    }

    /// Offset of the message with which a partition goes on; none: with the first there is.
    pub(super) fn next(&self, partition: u32) -> Option<u64> {
        let after = self.applied(partition).map(|position| position.saturating_add(1));
        after.or_else(|| self.starts.get(&partition).copied())
    }
}

/// Stores where partitions start (partition -> offset of the first message to apply); gives what the store says
/// after that. Of two who start a source at once the earlier place holds, so that nothing is passed over.
pub(super) fn begin(store: &UserStateStore, source: &str, starts: &BTreeMap<u32, u64>) -> Result<Begun, StreamError> {
    // The store keeps the largest offset it is given: the earliest start must be that one.
    let marks = starts.iter().map(|(partition, next)| SourceRecord {
        partition: *partition,
        offset: u64::MAX - next,
        events: Vec::new(),
    });
    store.apply(&name_of_starts(source), &marks.collect::<Vec<_>>())?;
    Begun::read(store, source)
}

/// Name under which the store keeps the starts of a source, as it keeps positions.
fn name_of_starts(source: &str) -> String {
    format!("{source}#begun")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_goes_on_after_its_position_or_at_its_start() {
        let check = |applied: &[(u32, u64)], starts: &[(u32, u64)], expect: (bool, Option<u64>)| {
            let begun = Begun { applied: applied.iter().copied().collect(), starts: starts.iter().copied().collect() };
            assert_eq!((begun.any(), begun.next(0)), expect, "{begun:?}");
        };
        check(&[], &[], (false, None));
        check(&[(0, 6)], &[], (true, Some(7)));
        check(&[], &[(0, 0)], (true, Some(0)));
        check(&[], &[(0, 5)], (true, Some(5)));
        check(&[(0, 6)], &[(0, 5)], (true, Some(7)));
        // Another partition began: this one came later, and starts with its first message.
        check(&[(1, 6)], &[], (true, None));
        check(&[], &[(1, 0)], (true, None));
    }
}
