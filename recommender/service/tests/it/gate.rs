//! A clock that holds up whoever asks it the time, so that a request is under way for as long as a test wants. A
//! compute thread asks once a batch, a search of the catalogue once with its turn in hand.

use crate::fixture::NOW_MS;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

/// A gate that a failed test leaves shut opens by itself.
const LONGEST: Duration = Duration::from_secs(20);

#[derive(Default)]
struct State {
    /// Questions that are yet to be held up.
    to_hold: usize,
    /// Questions that were held up so far.
    held: usize,
    /// Of these, how many may go on.
    passes: usize,
}

/// Open until it is shut.
#[derive(Clone, Default)]
pub(crate) struct Gate(Arc<(Mutex<State>, Condvar)>);

impl Gate {
    pub(crate) fn clock(&self) -> service::Clock {
        let gate = self.clone();
        Arc::new(move || {
            gate.pass();
            NOW_MS
        })
    }

    /// Holds up the next so many questions.
    pub(crate) fn shut_for(&self, questions: usize) {
        self.state().to_hold = questions;
    }

    /// Returns once so many were held up since the start.
    pub(crate) fn wait_for(&self, questions: usize) {
        let waited = self.0.1.wait_timeout_while(self.state(), LONGEST, |state| state.held < questions).unwrap();
        assert!(waited.0.held >= questions, "the clock was not asked");
    }

    /// Lets the one that has waited longest go on.
    pub(crate) fn let_one_pass(&self) {
        self.state().passes += 1;
        self.0.1.notify_all();
    }

    /// Lets all go on and holds up nobody any more.
    pub(crate) fn open(&self) {
        let mut state = self.state();
        state.to_hold = 0;
        state.passes = state.held;
        self.0.1.notify_all();
    }

    fn pass(&self) {
        let mut state = self.state();
        if state.to_hold == 0 {
            return;
        }
        state.to_hold -= 1;
        state.held += 1;
        let place = state.held;
        self.0.1.notify_all();
        drop(self.0.1.wait_timeout_while(state, LONGEST, |state| state.passes < place).unwrap());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.0.lock().unwrap()
    }
}
