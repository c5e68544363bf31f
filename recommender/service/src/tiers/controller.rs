//! When a tier steps down and when it climbs back: a pure function of what was observed.
//!
//! Level 0 is the tier's own dim; each level is the next smaller trained dim. Overload steps down at
//! once, but not again while the queue that it left is draining: one level too many costs quality
//! for as long as the load lasts. Climbing back needs a run of calm ticks, and is not tried while the load seen now would not
//! fit at the larger dim. A climb that was a mistake doubles the calm asked for next time, so that a
//! load between two levels does not make the tier swing. Equal observations give equal levels: no
//! clock and no randomness.

/// Calm ticks before a climb, at first.
const BASE_PATIENCE: u32 = 25;
/// Calm ticks before a climb, at most.
const MAX_PATIENCE: u32 = 1_600;
/// A step down within this many ticks of a climb means that the climb was a mistake.
const RELAPSE: u32 = 100;
/// Ticks after a step down in which a wait that shrinks is left to shrink.
const SETTLE: u32 = 10;
/// Oldest wait, as a share of the latency target, that is overload.
const LONG_WAIT: f32 = 0.5;
/// Oldest wait, as a share of the latency target, below which a tick can be calm.
const SHORT_WAIT: f32 = 0.25;
/// Late answers from which a share of them is more than noise.
const FEWEST_LATE: u32 = 3;
/// One answer in this many late is overload.
const LATE_IN: u32 = 20;
/// Answers looked back on: of a tier that few ask, the late ones of one tick are too few to tell.
const LOOK_BACK: u32 = 200;
/// A step down within this many answers of a climb means that the climb was a mistake, too.
const RELAPSE_ANSWERS: u32 = 20;
/// One answer in this many late is still calm.
const CALM_IN: u32 = 100;
/// Busy share of the compute threads that a climb may lead to.
const MOST_BUSY: f32 = 0.7;

/// What one tick saw of a tier.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Observation {
    /// Answers since the last tick.
    pub(crate) answered: u32,
    /// Those of them that took longer than the latency target.
    pub(crate) late: u32,
    /// Time that the oldest queued request has waited, in latency targets.
    pub(crate) waited: f32,
    /// Busy share of the compute threads if the load of this tick were served one level higher;
    /// absent when it was never measured.
    pub(crate) busy_if_climbed: Option<f32>,
}

/// Whether so many late answers are more than noise.
fn too_many_late(answered: u32, late: u32) -> bool {
    late >= FEWEST_LATE && late.saturating_mul(LATE_IN) > answered
}

impl Observation {
    fn calm(&self) -> bool {
        self.waited < SHORT_WAIT && self.late.saturating_mul(CALM_IN) <= self.answered
    }
}

/// A tier's level and the memory that makes it steady.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Controller {
    level: usize,
    calm: u32,
    patience: u32,
    since_climb: u32,
    since_step: u32,
    last_waited: f32,
    answered_since_climb: u32,
    /// Answers of late at this level, and the late ones among them; both fade.
    answered: u32,
    late: u32,
}

impl Default for Controller {
    fn default() -> Controller {
        Controller {
            level: 0,
            calm: 0,
            patience: BASE_PATIENCE,
            since_climb: RELAPSE,
            since_step: SETTLE,
            last_waited: 0.0,
            answered_since_climb: RELAPSE_ANSWERS,
            answered: 0,
            late: 0,
        }
    }
}

impl Controller {
    /// Levels below the tier's own dim.
    pub(crate) fn level(&self) -> usize {
        self.level
    }

    /// Takes in one tick; `steps` is the number of smaller dims there are. Gives the new level, at
    /// most one away from the old one unless `steps` shrank.
    pub(crate) fn tick(&mut self, seen: &Observation, steps: usize) -> usize {
        self.level = self.level.min(steps);
        self.since_climb = self.since_climb.saturating_add(1);
        self.since_step = self.since_step.saturating_add(1);
        let draining = self.since_step < SETTLE && seen.waited < self.last_waited;
        self.last_waited = seen.waited;
        if self.overloaded(seen) {
            self.calm = 0;
            if !draining {
                self.step_down(1, steps);
            }
        } else if seen.calm() {
            self.calm = self.calm.saturating_add(1);
            self.climb_if_due(seen);
        } else {
            // Between the two: neither a reason to step down nor one to forget all calm.
            self.calm /= 2;
        }
        self.level
    }

    /// Takes the answers of a tick into those of late, and looks at both.
    fn overloaded(&mut self, seen: &Observation) -> bool {
        self.answered_since_climb = self.answered_since_climb.saturating_add(seen.answered);
        self.answered = self.answered.saturating_add(seen.answered);
        self.late = self.late.saturating_add(seen.late);
        let late =
            too_many_late(seen.answered, seen.late) || (seen.late > 0 && too_many_late(self.answered, self.late));
        if self.since_step < SETTLE {
            // Those waited at the level before.
            (self.answered, self.late) = (0, 0);
        } else if self.answered > LOOK_BACK {
            (self.answered, self.late) = (self.answered / 2, self.late / 2);
        }
        seen.waited > LONG_WAIT || late
    }

    /// The queue is about to refuse: all the way down at once.
    pub(crate) fn drop_to_smallest(&mut self, steps: usize) -> usize {
        self.calm = 0;
        self.step_down(steps.saturating_sub(self.level), steps);
        self.level
    }

    fn step_down(&mut self, by: usize, steps: usize) {
        let to = (self.level + by).min(steps);
        if to == self.level {
            return;
        }
        self.moved_to(to);
        self.since_step = 0;
        if self.since_climb < RELAPSE || self.answered_since_climb < RELAPSE_ANSWERS {
            self.patience = (self.patience * 2).min(MAX_PATIENCE);
        }
        // One mistake counts once, however many levels it costs.
        (self.since_climb, self.answered_since_climb) = (RELAPSE, RELAPSE_ANSWERS);
    }

    /// At another level, what was answered at this one says nothing.
    fn moved_to(&mut self, level: usize) {
        self.level = level;
        (self.answered, self.late) = (0, 0);
    }

    fn climb_if_due(&mut self, seen: &Observation) {
        let fits = seen.busy_if_climbed.is_none_or(|busy| busy < MOST_BUSY);
        if self.level > 0 && self.calm >= self.patience && fits {
            self.moved_to(self.level - 1);
            self.calm = 0;
            (self.since_climb, self.answered_since_climb) = (0, 0);
        } else if self.level == 0 && self.calm >= self.patience.saturating_mul(4) {
            self.patience = BASE_PATIENCE;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CALM: Observation = Observation { answered: 100, late: 0, waited: 0.0, busy_if_climbed: Some(0.1) };
    const OVERLOAD: Observation = Observation { answered: 100, late: 50, waited: 1.0, busy_if_climbed: None };

    fn levels(seen: impl IntoIterator<Item = Observation>, steps: usize) -> Vec<usize> {
        let mut controller = Controller::default();
        seen.into_iter().map(|seen| controller.tick(&seen, steps)).collect()
    }

    #[test]
    fn what_counts_as_overload() {
        let check = |answered, late, waited, level: usize| {
            let seen = Observation { answered, late, waited, busy_if_climbed: None };
            assert_eq!(levels([seen], 4), [level], "{seen:?}");
        };
        check(0, 0, 0.0, 0);
        check(100, 0, 0.5, 0);
        check(100, 0, 0.51, 1);
        check(100, 5, 0.0, 0);
        check(100, 6, 0.0, 1);
        // Two slow answers on a quiet tier are noise.
        check(2, 2, 0.0, 0);
        check(3, 3, 0.0, 1);
    }

    #[test]
    fn late_answers_that_come_one_by_one_add_up() {
        let one = |late| Observation { answered: 1, late, waited: 0.0, busy_if_climbed: None };
        let none = Observation { answered: 0, ..one(0) };
        let check = |seen: Vec<Observation>, level: usize| {
            assert_eq!(*levels(seen.clone(), 4).last().unwrap(), level, "{seen:?}")
        };
        check(vec![one(1), none, none, one(1), none, one(1)], 1);
        check([vec![one(1); 2], vec![one(0); 50], vec![one(1)]].concat(), 1);
        check([vec![one(1); 2], vec![one(0); 60], vec![one(1)]].concat(), 0);
        // Long ago is not of late.
        check([vec![one(1); 2], vec![one(0); 2_000], vec![one(1); 2]].concat(), 0);
        check([vec![one(1); 3], vec![none; 20], vec![one(1); 2]].concat(), 1);
    }

    #[test]
    fn a_climb_that_few_answers_show_to_be_a_mistake_counts_as_one() {
        let late = Observation { answered: 1, late: 1, waited: 0.0, busy_if_climbed: Some(0.0) };
        let quiet = Observation { answered: 0, late: 0, ..late };
        let mut controller = Controller::default();
        // A second from one answer to the next, all of them late at level 0.
        let mut ticks_to_climb = || {
            while controller.level() == 0 {
                (0..49).for_each(|_| {
                    controller.tick(&quiet, 1);
                });
                controller.tick(&late, 1);
            }
            (1..).find(|_| controller.tick(&quiet, 1) == 0).unwrap()
        };
        assert_eq!([ticks_to_climb(), ticks_to_climb(), ticks_to_climb()], [25, 50, 100]);
    }

    #[test]
    fn it_steps_down_a_level_a_tick_and_stops_at_the_smallest() {
        assert_eq!(levels([OVERLOAD; 6], 4), [1, 2, 3, 4, 4, 4]);
        assert_eq!(levels([OVERLOAD; 3], 0), [0, 0, 0]);
    }

    #[test]
    fn a_queue_that_drains_is_left_to_drain_for_a_while() {
        let draining = (1..=20).map(|tick| Observation { waited: 3.0 - 0.1 * tick as f32, ..OVERLOAD });
        let mut seen = vec![Observation { waited: 3.0, ..OVERLOAD }];
        seen.extend(draining);
        let levels = levels(seen, 4);
        assert_eq!(levels[..10], [1; 10]);
        assert_eq!((levels[10], levels[19], levels[20]), (2, 2, 3), "it drains too slowly");
    }

    #[test]
    fn it_climbs_after_patience_and_one_level_at_a_time() {
        let mut seen = vec![OVERLOAD; 2];
        seen.extend([CALM; 60]);
        let levels = levels(seen, 4);
        assert_eq!(levels[1], 2);
        assert_eq!((levels[25], levels[26], levels[50], levels[51]), (2, 1, 1, 0));
    }

    #[test]
    fn it_does_not_climb_where_the_load_would_not_fit() {
        let tight = Observation { busy_if_climbed: Some(0.9), ..CALM };
        let mut controller = Controller::default();
        controller.tick(&OVERLOAD, 4);
        assert!((0..10_000).all(|_| controller.tick(&tight, 4) == 1));
        assert_eq!(controller.tick(&CALM, 4), 0, "the load fell: the calm so far counts");
    }

    #[test]
    fn a_climb_that_was_a_mistake_makes_the_next_one_wait_longer() {
        let mut controller = Controller::default();
        let mut ticks_to_climb = || {
            controller.tick(&OVERLOAD, 1);
            assert_eq!(controller.level(), 1);
            (1..).find(|_| controller.tick(&CALM, 1) == 0).unwrap()
        };
        let waits: Vec<u32> = (0..9).map(|_| ticks_to_climb()).collect();
        assert_eq!(waits, [25, 50, 100, 200, 400, 800, 1600, 1600, 1600]);
        (0..4 * MAX_PATIENCE).for_each(|_| assert_eq!(controller.tick(&CALM, 1), 0));
        controller.tick(&OVERLOAD, 1);
        assert_eq!((1..).find(|_| controller.tick(&CALM, 1) == 0), Some(25), "a long calm is forgiven");
    }

    #[test]
    fn a_queue_about_to_refuse_drops_to_the_smallest() {
        let mut controller = Controller::default();
        assert_eq!(controller.drop_to_smallest(4), 4);
        assert_eq!(controller.drop_to_smallest(4), 4);
        assert_eq!(controller.tick(&CALM, 2), 2, "fewer dims after a swap");
    }

    fn observation() -> impl Strategy<Value = Observation> {
        (0u32..500, 0u32..500, 0.0f32..2.0, proptest::option::of(0.0f32..2.0)).prop_map(
            |(answered, late, waited, busy_if_climbed)| Observation {
                answered,
                late: late.min(answered),
                waited,
                busy_if_climbed,
            },
        )
    }

    proptest! {
        #[test]
        fn levels_stay_in_range_and_move_by_one(seen in proptest::collection::vec(observation(), 0..400), steps in 0usize..8) {
            let mut before = 0usize;
            for (seen, level) in seen.iter().zip(levels(seen.clone(), steps)) {
                prop_assert!(level <= steps);
                prop_assert!(level.abs_diff(before) <= 1);
                prop_assert!(level >= before || seen.calm(), "climbed on {seen:?}");
                prop_assert!(level <= before || seen.waited > LONG_WAIT || seen.late > 0, "stepped down on {seen:?}");
                before = level;
            }
        }

        #[test]
        fn equal_observations_give_equal_levels(seen in proptest::collection::vec(observation(), 0..200)) {
            prop_assert_eq!(levels(seen.clone(), 4), levels(seen, 4));
        }

        #[test]
        fn lasting_overload_ends_at_the_smallest_and_lasting_calm_at_the_top(
            seen in proptest::collection::vec(observation(), 0..200), steps in 0usize..8,
        ) {
            let mut controller = Controller::default();
            seen.iter().for_each(|seen| { controller.tick(seen, steps); });
            // One tick more: the first may still see a longer wait shrink.
            (0..=steps).for_each(|_| { controller.tick(&OVERLOAD, steps); });
            prop_assert_eq!(controller.level(), steps);
            (0..steps as u32 * MAX_PATIENCE).for_each(|_| { controller.tick(&CALM, steps); });
            prop_assert_eq!(controller.level(), 0);
        }

        /// Between two climbs lie at least `BASE_PATIENCE` ticks: no swinging, whatever comes.
        #[test]
        fn climbs_are_rare(seen in proptest::collection::vec(observation(), 0..600)) {
            let levels = levels(seen, 4);
            let climbs: Vec<usize> = (1..levels.len()).filter(|&at| levels[at] < levels[at - 1]).collect();
            prop_assert!(climbs.windows(2).all(|pair| pair[1] - pair[0] >= BASE_PATIENCE as usize));
        }
    }
}
