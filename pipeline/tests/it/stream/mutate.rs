//! Bytes that no producer should send: valid messages of every format, torn, spliced and bent by a seeded
//! generator. No decoder panics; what is taken keeps the store's limits, what is refused is one sentence.
//! `RECOMMENDER_FUZZ_INPUTS=1000000` makes it a million; pipeline/fuzz searches by coverage.

use feature_store::StreamEvent;
use pipeline::stream::{Format, MAX_EVENTS_PER_MESSAGE, decoder};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};

const INPUTS: usize = 100_000;
const LONGEST: usize = 4_096;
const FORMATS: [Format; 6] =
    [Format::Native, Format::Segment, Format::Snowplow, Format::Ga4, Format::Gorse, Format::Metarank];

/// Valid messages, so that mutations reach past the first brace.
const SEEDS: [&str; 14] = [
    r#"{"user_id":"u","item_id":"i","timestamp_ms":1700000000000,"event_id":"e"}"#,
    r#"{"type":"item_upsert","item_id":"i","timestamp_ms":5,"title":"T","text":"x"}"#,
    r#"{"type":"item_hide","item_id":"i","timestamp_ms":5}"#,
    r#"{"type":"item_expire","item_id":"i","timestamp_ms":5,"expires_at_ms":9}"#,
    r#"{"type":"user_delete","user_id":"u","timestamp_ms":5}"#,
    r#"{"specversion":"1.0","id":"e","source":"/s","type":"a.interaction","time":"2023-11-14T22:13:20.5+01:00","data":{"user_id":"u","item_id":"i"}}"#,
    r#"{"type":"track","userId":"u","anonymousId":"a","messageId":"m","timestamp":"2024-02-29T12:00:00Z","properties":{"product_id":"p","products":[{"product_id":"q"}]}}"#,
    r#"{"user_id":"u","domain_userid":"d","event_id":"e","collector_tstamp":"2024-01-01 00:00:00.000","contexts_com_snowplowanalytics_snowplow_ecommerce_product_1":[{"id":"i"},{"id":"j"}]}"#,
    r#"{"client_id":"c","user_id":"u","timestamp_micros":1700000000000000,"events":[{"name":"view_item","params":{"items":[{"item_id":"i"},{"item_id":"j"}]}}]}"#,
    r#"[{"FeedbackType":"read","UserId":"u","ItemId":"i","Timestamp":"2024-01-01T00:00:00Z"}]"#,
    r#"{"FeedbackType":"read","UserId":"u","ItemId":"i","Timestamp":"2024-01-01T00:00:00Z"}"#,
    r#"{"event":"interaction","id":"e","user":"u","item":"i","timestamp":"1700000000000","type":"click"}"#,
    r#"{"event":"interaction","id":"e","user":"u","item":"i","timestamp":1700000000000,"session":"s"}"#,
    "",
];

/// What parsers trip over.
const TOKENS: [&str; 24] = [
    "-9223372036854775808",
    "9223372036854775807",
    "1e999",
    "-0",
    "0.5",
    "null",
    "true",
    "\"\"",
    "[]",
    "{}",
    "{\"",
    "\\u0000",
    "\\ud800",
    "é",
    "\u{10ffff}",
    "9999-12-31T23:59:60Z",
    "0000-02-30T00:00:00-23:59",
    "+00:00",
    ":",
    ",",
    "[[[[[[[[",
    "]]]]",
    "\\",
    "18446744073709551616",
];

fn mutate(random: &mut StdRng) -> Vec<u8> {
    let mut bytes = SEEDS.choose(random).expect("there are seeds").as_bytes().to_vec();
    // Mostly one or two: more leave little of a message that a decoder would look into.
    let mutations = random.random_range(1..8).min(random.random_range(1..8)).min(random.random_range(1..8));
    for _ in 0..mutations {
        let at = random.random_range(0..=bytes.len());
        match random.random_range(0..7) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.random_range(0..8),
            1 if at < bytes.len() => bytes[at] = random.random(),
            2 => bytes.truncate(at),
            3 => {
                let to = random.random_range(at..=bytes.len());
                bytes.drain(at..to.min(at + 20));
            }
            4 => {
                let token = TOKENS.choose(random).expect("there are tokens");
                bytes.splice(at..at, token.bytes());
            }
            5 => {
                // The value after a colon becomes something else.
                let colons: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] == b':').collect();
                if let Some(colon) = colons.choose(random) {
                    let end = bytes[colon + 1..].iter().position(|byte| matches!(byte, b',' | b'}'));
                    let end = end.map_or(bytes.len(), |len| colon + 1 + len);
                    let token = TOKENS.choose(random).expect("there are tokens");
                    bytes.splice(colon + 1..end, token.bytes());
                }
            }
            _ => {
                let other = SEEDS.choose(random).expect("there are seeds").as_bytes();
                let from = random.random_range(0..=other.len());
                bytes.splice(at..at, other[from..].iter().copied());
            }
        }
        bytes.truncate(LONGEST);
    }
    bytes
}

/// What must hold of any bytes. The same checks as in pipeline/fuzz.
fn check(payload: &[u8]) -> usize {
    let mut taken = 0;
    for format in FORMATS {
        match decoder(format).decode(payload) {
            Ok(events) => {
                assert!(events.len() <= MAX_EVENTS_PER_MESSAGE);
                events.iter().for_each(|event: &StreamEvent| event.validate().expect("a decoder checks the limits"));
                taken += usize::from(!events.is_empty());
            }
            Err(reject) => {
                let reason = reject.to_string();
                assert!(!reason.is_empty() && reason.chars().count() <= 503, "{reason:?}");
                assert!(!reason.contains(char::is_control), "{reason:?}");
            }
        }
    }
    taken
}

#[test]
fn bent_messages_are_taken_within_the_limits_or_refused_in_a_sentence() {
    let asked = std::env::var("RECOMMENDER_FUZZ_INPUTS").ok().and_then(|inputs| inputs.parse().ok());
    let inputs = asked.unwrap_or(INPUTS);
    let mut random = StdRng::seed_from_u64(20);
    let (mut taken, mut in_hand) = (0, Vec::new());
    for input in 0..inputs {
        in_hand = mutate(&mut random);
        let outcome = std::panic::catch_unwind(|| check(&in_hand));
        let shown = String::from_utf8_lossy(&in_hand);
        taken += outcome.unwrap_or_else(|_| panic!("input {input} of seed 20 broke a decoder: {shown:?}"));
    }
    drop(in_hand);
    // The generator is worth something: it makes messages that are taken, and mostly ones that are not.
    assert!(taken > inputs / 100 && taken < inputs, "{taken} of {inputs} were taken");
}

#[test]
fn the_seeds_are_messages() {
    for seed in SEEDS.iter().filter(|seed| !seed.is_empty()) {
        let said = FORMATS.iter().filter_map(|format| decoder(*format).decode(seed.as_bytes()).ok());
        assert!(said.flatten().next().is_some(), "no decoder finds an event in {seed}");
    }
}
