//! Rows of the fault table: each fault test adds one to the file that `RECOMMENDER_FAULT_TABLE` names, and
//! deploy/fault-run.sh prints them. A test that fails adds none.

use std::fmt::Display;
use std::io::Write as _;

/// A fault that was survived: how often it was done, how many events were on their way, and what was looked
/// for and not found.
pub(crate) fn row(fault: &str, times: impl Display, events: usize, after: &str) {
    let line = format!("| {fault} | {times} | {events} | {after} |\n");
    if let Some(path) = std::env::var_os("RECOMMENDER_FAULT_TABLE") {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
        // One write, so that rows of tests that run at once do not mix.
        file.and_then(|mut file| file.write_all(line.as_bytes())).expect("the table can be written");
    }
}

/// What every fault is compared with.
pub(crate) const AS_REPLAYED: &str = "state = fresh replay; 0 lost, 0 applied twice";
