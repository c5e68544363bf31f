//! Who is served next: a queue of lanes, one a tier, that shares the threads by weight.
//!
//! Stride scheduling: taking from a lane moves its pass forward by the number taken over its weight,
//! and the lane with the smallest pass is next. A lane that was empty joins at the pass of now, so
//! that idling earns no credit, or at its own if that is later, so that emptying itself earns none
//! either. Within a lane the order is that of arrival. No clock, no threads.

use std::collections::VecDeque;

/// A lane of this weight may hold the queue's capacity, another one in proportion.
pub(crate) const WHOLE: u32 = 1_000;
/// Pass of one item at weight 1; divides evenly by enough weights.
const STRIDE: u64 = 1 << 20;

/// Items waiting, by lane. A lane comes with its first item and goes once it is empty and the others have
/// caught up with it.
pub(crate) struct FairQueue<T> {
    lanes: Vec<Lane<T>>,
    capacity: usize,
    len: usize,
    /// Pass of the lane served last.
    now: u64,
}

struct Lane<T> {
    key: u64,
    weight: u32,
    pass: u64,
    waiting: VecDeque<T>,
}

impl<T> FairQueue<T> {
    /// A queue whose lanes hold at most `capacity` items, at least 1, by weight. A lane has its places to
    /// itself: no other lane can fill them.
    pub(crate) fn new(capacity: usize) -> FairQueue<T> {
        FairQueue { lanes: Vec::new(), capacity: capacity.max(1), len: 0, now: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Most items of a lane of this weight, 1 to [`WHOLE`].
    pub(crate) fn most(&self, weight: u32) -> usize {
        (self.capacity * weight.min(WHOLE) as usize / WHOLE as usize).max(1)
    }

    /// Items waiting in a lane.
    pub(crate) fn depth(&self, key: u64) -> usize {
        self.lane(key).map_or(0, |lane| lane.waiting.len())
    }

    /// The item that has waited longest in a lane.
    pub(crate) fn front(&self, key: u64) -> Option<&T> {
        self.lane(key).and_then(|lane| lane.waiting.front())
    }

    /// The first item of every lane.
    pub(crate) fn fronts(&self) -> impl Iterator<Item = &T> {
        self.lanes.iter().filter_map(|lane| lane.waiting.front())
    }

    /// Share of the threads that a lane of this weight has, or would have, among those that wait.
    pub(crate) fn share(&self, key: u64, weight: u32) -> f32 {
        let others = self.lanes.iter().filter(|lane| lane.key != key && !lane.waiting.is_empty());
        let others: u32 = others.map(|lane| lane.weight).sum();
        weight as f32 / (others + weight).max(1) as f32
    }

    /// Puts an item at the end of its lane.
    ///
    /// # Errors
    /// The lane is full; the item comes back.
    pub(crate) fn push(&mut self, key: u64, weight: u32, item: T) -> Result<(), T> {
        if self.depth(key) >= self.most(weight) {
            return Err(item);
        }
        let now = self.now;
        match self.lanes.iter_mut().find(|lane| lane.key == key) {
            Some(lane) => {
                if lane.waiting.is_empty() {
                    lane.pass = lane.pass.max(now);
                }
                lane.waiting.push_back(item);
            }
            None => self.lanes.push(Lane { key, weight: weight.max(1), pass: now, waiting: VecDeque::from([item]) }),
        }
        self.len += 1;
        Ok(())
    }

    /// Moves up to `most` items of the lane that is next into `into`; false if nothing waits.
    pub(crate) fn take(&mut self, most: usize, into: &mut Vec<T>) -> bool {
        // Equal passes go to the lane that came first.
        let waiting = self.lanes.iter_mut().filter(|lane| !lane.waiting.is_empty());
        let Some(lane) = waiting.min_by_key(|lane| lane.pass) else { return false };
        let count = lane.waiting.len().min(most.max(1));
        into.extend(lane.waiting.drain(..count));
        self.now = lane.pass;
        lane.pass += count as u64 * STRIDE / u64::from(lane.weight);
        self.len -= count;
        // Up to now an empty lane would come back as a new one.
        let now = self.now;
        self.lanes.retain(|lane| !lane.waiting.is_empty() || lane.pass > now);
        true
    }

    fn lane(&self, key: u64) -> Option<&Lane<T>> {
        self.lanes.iter().find(|lane| lane.key == key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn threads_are_shared_by_weight() {
        let check = |weights: &[u32], takes: usize, most: usize, expect: &[usize]| {
            let mut queue = FairQueue::new(100_000);
            for (lane, &weight) in weights.iter().enumerate() {
                (0..2_000).for_each(|_| queue.push(lane as u64, weight, lane).unwrap());
            }
            let mut taken = Vec::new();
            (0..takes).for_each(|_| assert!(queue.take(most, &mut taken)));
            let counts: Vec<usize> =
                (0..weights.len()).map(|lane| taken.iter().filter(|&&at| at == lane).count()).collect();
            assert_eq!(counts, expect, "{weights:?}");
        };
        check(&[500, 500], 100, 1, &[50, 50]);
        check(&[750, 250], 100, 1, &[75, 25]);
        check(&[1000, 100], 110, 8, &[800, 80]);
        check(&[1000], 10, 4, &[40]);
    }

    #[test]
    fn a_full_lane_refuses_and_leaves_room_for_others() {
        let mut queue = FairQueue::new(10);
        (0..5).for_each(|item| queue.push(1, 500, item).unwrap());
        assert_eq!(queue.push(1, 500, 5), Err(5));
        (0..10).for_each(|item| queue.push(2, 1000, item).unwrap());
        assert_eq!(queue.push(2, 1000, 10), Err(10));
        queue.push(3, 100, 0).expect("what others fill is theirs");
        assert_eq!((queue.depth(1), queue.depth(2), queue.depth(3), queue.len()), (5, 10, 1, 16));
    }

    #[test]
    fn idling_earns_no_credit() {
        let mut queue = FairQueue::new(10_000);
        let mut taken = Vec::new();
        for _ in 0..1_000 {
            queue.push(1, 500, 1).unwrap();
            queue.take(1, &mut taken);
        }
        (0..100).for_each(|_| queue.push(1, 500, 1).unwrap());
        (0..100).for_each(|_| queue.push(2, 500, 2).unwrap());
        taken.clear();
        (0..20).for_each(|_| assert!(queue.take(1, &mut taken)));
        assert_eq!(taken.iter().filter(|&&lane| lane == 2).count(), 10);
    }

    /// A lane that always waits keeps its share beside one that comes and goes, however often it comes.
    #[test]
    fn a_lane_that_empties_itself_takes_no_more_than_its_share() {
        let check = |offered_permille: usize, expect: f64| {
            let mut queue = FairQueue::new(1_000_000);
            (0..20_000).for_each(|_| queue.push(1, 900, 1).unwrap());
            let (mut taken, mut owed) = (Vec::new(), 0);
            for _ in 0..10_000 {
                owed += offered_permille;
                while owed >= 1_000 {
                    owed -= 1_000;
                    queue.push(2, 300, 2).unwrap();
                }
                assert!(queue.take(1, &mut taken));
            }
            let share = taken.iter().filter(|&&lane| lane == 1).count() as f64 / taken.len() as f64;
            assert!((share - expect).abs() < 0.01, "{share} instead of {expect} at {offered_permille}");
        };
        check(100, 0.9);
        check(250, 0.75);
        check(500, 0.75);
        check(990, 0.75);
    }

    proptest! {
        /// Nothing is lost or made up, lanes keep their order, and limits hold.
        #[test]
        fn items_come_out_once_and_in_order(
            steps in proptest::collection::vec((0u64..4, 1u32..=1000, 0usize..5), 0..300), capacity in 1usize..50,
        ) {
            let weights: Vec<u32> = (0..4).map(|lane| steps.iter().find(|s| s.0 == lane).map_or(1, |s| s.1)).collect();
            let mut queue = FairQueue::new(capacity);
            let (mut put, mut got) = (Vec::new(), Vec::new());
            for (number, (lane, _, take)) in steps.into_iter().enumerate() {
                let weight = weights[lane as usize];
                if queue.push(lane, weight, (lane, number)).is_ok() {
                    put.push((lane, number));
                }
                prop_assert!(queue.depth(lane) <= queue.most(weight));
                if take > 2 {
                    queue.take(take - 2, &mut got);
                }
            }
            while queue.take(3, &mut got) {}
            prop_assert_eq!(queue.len(), 0);
            for lane in 0..4u64 {
                let of = |items: &[(u64, usize)]| items.iter().filter(|item| item.0 == lane).copied().collect::<Vec<_>>();
                prop_assert_eq!(of(&put), of(&got));
            }
        }
    }
}
