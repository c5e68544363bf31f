//! Any bytes into every decoder of the stream: no panic, and what is taken keeps the store's limits.
//!
//! ```sh
//! cargo install cargo-fuzz
//! cd pipeline && cargo +nightly fuzz run decoders -- -max_len=4096 -runs=1000000
//! ```
//! The suite runs seeded mutations of valid messages against the same checks
//! (pipeline/tests/it/stream/mutate.rs); this target searches by coverage.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pipeline::stream::{Format, MAX_EVENTS_PER_MESSAGE, decoder};

const FORMATS: [Format; 6] =
    [Format::Native, Format::Segment, Format::Snowplow, Format::Ga4, Format::Gorse, Format::Metarank];

fuzz_target!(|payload: &[u8]| {
    for format in FORMATS {
        match decoder(format).decode(payload) {
            Ok(events) => {
                assert!(events.len() <= MAX_EVENTS_PER_MESSAGE);
                events.iter().for_each(|event| event.validate().expect("a decoder checks the limits"));
            }
            Err(reject) => assert!(!reject.to_string().contains('\n')),
        }
    }
});
