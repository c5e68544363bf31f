//! Dead letters that do not fit, and a redrive that is cut short.

use super::world::{clock, consume, interaction, log_config, messages, open, poison};
use feature_store::MAX_AHEAD_MS;
use pipeline::stream::{
    Message, Outgoing, Place, Redriven, Sink, StreamConfig, StreamError, dead_letter_sink, dead_letter_source, decoder,
    event_sink, has_dead_letters, open_source, redrive,
};
use std::time::Duration;

/// A sink that fails with its `good`-th call, and keeps what it took.
struct Failing {
    good: usize,
    took: Vec<Outgoing>,
}

impl Sink for Failing {
    fn put(&mut self, messages: &[Outgoing]) -> Result<Vec<Place>, StreamError> {
        if self.good == 0 {
            return Err(StreamError::Config { field: "test", reason: "told to fail".into() });
        }
        self.good -= 1;
        self.took.extend_from_slice(messages);
        Ok(messages.iter().map(|_| Place { partition: 0, offset: None }).collect())
    }
}

fn letters(config: &StreamConfig, most: usize) -> Vec<Message> {
    let dir = tempfile::tempdir().unwrap();
    let store = feature_store::UserStateStore::open(&dir.path().join("look"), 1).unwrap();
    let mut source = dead_letter_source(config, &store, &clock()).unwrap();
    let mut found = Vec::new();
    source.poll(&mut found, most, Duration::ZERO).unwrap();
    found
}

fn header(letter: &Message, name: &str) -> Option<String> {
    let value = letter.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
    value.map(|value| String::from_utf8(value).unwrap())
}

#[test]
fn where_nothing_was_put_aside_there_are_no_letters_and_none_are_begun() {
    let dir = tempfile::tempdir().unwrap();
    let config = log_config(dir.path());
    let log = config.log.clone().unwrap();
    let error = has_dead_letters(&config).unwrap_err().to_string();
    assert!(error.contains("events: holds no event log"), "of a folder that may be mistyped: {error}");
    assert!(!log.dlq().exists() && !log.dir.exists());
    event_sink(&config, &clock()).unwrap().put(&messages(&[interaction("u", "a", 1)])).unwrap();
    assert!(!has_dead_letters(&config).unwrap() && !log.dlq().exists());
    dead_letter_sink(&config, &clock()).unwrap().put(&[poison(b"x")]).unwrap();
    assert!(has_dead_letters(&config).unwrap());
}

/// A log whose id is gone was begun: it is neither empty nor about to be begun.
#[test]
fn segments_without_an_id_are_refused_by_all_who_read_them() {
    let dir = tempfile::tempdir().unwrap();
    let config = log_config(dir.path());
    let (log, store) = (config.log.clone().unwrap(), open(&config));
    event_sink(&config, &clock()).unwrap().put(&messages(&[interaction("u", "a", 1)])).unwrap();
    std::fs::remove_file(log.dir.join("id")).unwrap();
    let refused = [
        event_sink(&config, &clock()).map(drop),
        open_source(&config, &store, &clock()).map(drop),
        has_dead_letters(&config).map(drop),
    ];
    let said = refused.map(|outcome| outcome.unwrap_err().to_string());
    assert!(said[0].contains("events: holds segments of a log and no file `id`"), "{}", said[0]);
    assert!(said.iter().all(|other| *other == said[0]), "{said:?}");
    dead_letter_sink(&config, &clock()).unwrap().put(&[poison(b"x")]).unwrap();
    std::fs::remove_file(log.dlq().join("id")).unwrap();
    for outcome in [has_dead_letters(&config).map(drop), dead_letter_source(&config, &store, &clock()).map(drop)] {
        let error = outcome.unwrap_err().to_string();
        assert!(error.contains("events.dlq: holds segments of a log"), "{error}");
    }
}

#[test]
fn a_redrive_that_was_asked_to_stop_leaves_the_rest_for_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let config = log_config(dir.path());
    let events: Vec<_> = (0..2500).map(|n| interaction("u", &format!("i{n}"), n + 1)).collect();
    dead_letter_sink(&config, &clock()).unwrap().put(&messages(&events)).unwrap();
    let store = open(&config);
    let mut sent = Vec::new();
    for expect in [1000, 1500] {
        let mut letters = dead_letter_source(&config, &store, &clock()).unwrap();
        let mut again = dead_letter_sink(&config, &clock()).unwrap();
        let mut back = Failing { good: 9, took: Vec::new() };
        // The first is asked after one part, the second never.
        let asked = std::cell::Cell::new(0);
        let stop = || expect == 1000 && asked.replace(asked.get() + 1) == 1;
        let done = redrive(&mut *letters, &mut back, &mut *again, &*decoder(config.format), &store, &stop).unwrap();
        assert_eq!(done, Redriven { sent: expect, refused: 0 });
        sent.extend(back.took);
    }
    assert_eq!(sent, messages(&events), "each once, in order");
}

/// What fails does so in the midst of the letters: those before it are not sent again.
#[test]
fn a_redrive_that_failed_goes_on_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let config = log_config(dir.path());
    let events: Vec<_> = (0..2500).map(|n| interaction("u", &format!("i{n}"), n + 1)).collect();
    dead_letter_sink(&config, &clock()).unwrap().put(&messages(&events)).unwrap();
    let store = open(&config);
    let mut sent = Vec::new();
    let mut drive = |good: usize| {
        let mut letters = dead_letter_source(&config, &store, &clock()).unwrap();
        let mut back = Failing { good, took: Vec::new() };
        let mut again = dead_letter_sink(&config, &clock()).unwrap();
        let done = redrive(&mut *letters, &mut back, &mut *again, &*decoder(config.format), &store, &|| false);
        sent.extend(back.took);
        done.map_err(|error| error.to_string())
    };
    let error = drive(2).unwrap_err();
    assert!(error.contains("told to fail"), "{error}");
    assert_eq!(drive(9), Ok(Redriven { sent: 500, refused: 0 }));
    assert_eq!(drive(9), Ok(Redriven::default()));
    assert_eq!(sent, messages(&events), "each once, in order");
}

/// Letters that are refused again lie behind the others, and are for the next call.
#[test]
fn a_redrive_does_not_read_what_it_has_just_put_aside() {
    let dir = tempfile::tempdir().unwrap();
    let config = log_config(dir.path());
    let bad: Vec<Outgoing> = (0..2500).map(|n| poison(format!("no event {n}").as_bytes())).collect();
    dead_letter_sink(&config, &clock()).unwrap().put(&bad).unwrap();
    let store = open(&config);
    for _ in 0..2 {
        let mut letters = dead_letter_source(&config, &store, &clock()).unwrap();
        let (mut back, mut again) =
            (event_sink(&config, &clock()).unwrap(), dead_letter_sink(&config, &clock()).unwrap());
        let done =
            redrive(&mut *letters, &mut *back, &mut *again, &*decoder(config.format), &store, &|| false).unwrap();
        assert_eq!(done, Redriven { sent: 0, refused: 2500 });
    }
}

/// The consumer would put it aside once more, so it is not sent.
#[test]
fn a_redrive_judges_as_the_consumer_does() {
    let dir = tempfile::tempdir().unwrap();
    let config = log_config(dir.path());
    let now_ms = clock()();
    let events = [interaction("u", "far", now_ms + MAX_AHEAD_MS + 1), interaction("u", "near", now_ms)];
    dead_letter_sink(&config, &clock()).unwrap().put(&messages(&events)).unwrap();
    let store = open(&config);
    let mut source = dead_letter_source(&config, &store, &clock()).unwrap();
    let (mut back, mut again) = (Failing { good: 9, took: Vec::new() }, dead_letter_sink(&config, &clock()).unwrap());
    let done = redrive(&mut *source, &mut back, &mut *again, &*decoder(config.format), &store, &|| false).unwrap();
    assert_eq!(done, Redriven { sent: 1, refused: 1 });
    assert_eq!(back.took, messages(&events[1..]));
}

/// A message as long as a log takes it is longer with the headers of a letter: it is cut and says so, and the
/// consumer goes on. A cut letter is never sent back.
#[test]
fn a_letter_that_is_too_long_is_cut() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = log_config(dir.path());
    config.log.as_mut().unwrap().segment_bytes = 1 << 26;
    let whole = (4 << 20) - 64;
    event_sink(&config, &clock()).unwrap().put(&[poison(&vec![b'x'; whole])]).unwrap();
    event_sink(&config, &clock()).unwrap().put(&messages(&[interaction("u", "a", 1)])).unwrap();
    let store = open(&config);
    let stats = consume(&config, &store).unwrap();
    assert_eq!((stats.applied, stats.invalid), (1, 1));
    let found = letters(&config, 10);
    assert_eq!((found.len(), found[0].payload.len()), (1, whole / 2));
    assert_eq!(header(&found[0], "payload_cut"), Some(format!("the first {} of {whole} bytes are here", whole / 2)));
    assert!(header(&found[0], "reason").is_some_and(|reason| reason.contains("at most")), "{:?}", found[0].headers);
    assert_eq!(header(&found[0], "trace").as_deref(), Some("t1"));
}

#[test]
fn a_letter_with_a_part_missing_is_refused_though_it_decodes() {
    let dir = tempfile::tempdir().unwrap();
    let config = log_config(dir.path());
    let mut letter = messages(&[interaction("u", "a", 1)]).remove(0);
    letter.headers.push(("payload_cut".into(), b"the first 9 of 99 bytes are here".to_vec()));
    dead_letter_sink(&config, &clock()).unwrap().put(&[letter]).unwrap();
    let store = open(&config);
    let mut source = dead_letter_source(&config, &store, &clock()).unwrap();
    let (mut back, mut again) = (Failing { good: 9, took: Vec::new() }, dead_letter_sink(&config, &clock()).unwrap());
    let done = redrive(&mut *source, &mut back, &mut *again, &*decoder(config.format), &store, &|| false).unwrap();
    assert_eq!((done, back.took.len()), (Redriven { sent: 0, refused: 1 }, 0));
    let reason = header(&letters(&config, 10)[1], "reason").unwrap();
    assert!(reason.contains("missing"), "{reason}");
}
