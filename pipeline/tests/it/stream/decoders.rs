//! What each format's messages come to, and what is said about those that are refused.

use feature_store::{AttributeValue, Event, ItemContent, StreamEvent};
use pipeline::stream::{Format, decoder, outgoing};
use proptest::prelude::*;
use std::collections::BTreeMap;

const ALL: [Format; 6] =
    [Format::Native, Format::Segment, Format::Snowplow, Format::Ga4, Format::Gorse, Format::Metarank];

fn event(user: &str, item: &str, timestamp_ms: i64, id: Option<&str>) -> StreamEvent {
    let event_id = id.map(str::to_owned);
    StreamEvent::Interaction(Event { user_id: user.into(), item_id: item.into(), timestamp_ms, event_id })
}

fn gives(format: Format, payload: &str, expect: &[StreamEvent]) {
    assert_eq!(decoder(format).decode(payload.as_bytes()).as_deref(), Ok(expect), "{payload}");
}

fn refuses(format: Format, payload: &str, parts: &[&str]) {
    let reason = decoder(format).decode(payload.as_bytes()).unwrap_err().to_string();
    for part in parts {
        assert!(reason.contains(part), "{reason:?} lacks {part:?}");
    }
    assert!(!reason.contains('\n'), "{reason:?} is more than a line");
}

#[test]
fn native_events_of_every_kind() {
    let gives = |payload: &str, expect: StreamEvent| gives(Format::Native, payload, &[expect]);
    gives(r#"{"user_id":"u","item_id":"i","timestamp_ms":5}"#, event("u", "i", 5, None));
    gives(
        r#"{"type":"interaction","user_id":"u","item_id":"i","timestamp_ms":5,"event_id":"e"}"#,
        event("u", "i", 5, Some("e")),
    );
    gives(
        r#"{"type":"item_upsert","item_id":"i","timestamp_ms":5,"title":"T","text":"x"}"#,
        StreamEvent::ItemUpsert {
            item_id: "i".into(),
            timestamp_ms: 5,
            title: "T".into(),
            text: Some("x".into()),
            content: None,
        },
    );
    let upsert = |rest: &str| format!(r#"{{"type":"item_upsert","item_id":"i","timestamp_ms":5,"title":"T",{rest}}}"#);
    let StreamEvent::ItemUpsert { content: Some(content), .. } = &decoder(Format::Native)
        .decode(upsert(r#""features":{"text":[1,-0.5]},"attributes":{"year":1977,"genre":["a"]}"#).as_bytes())
        .unwrap()[0]
    else {
        panic!("an upsert with vectors is one")
    };
    assert_eq!(content.features()["text"], [1.0, -0.5]);
    assert_eq!(content.attributes()["genre"].texts(), ["a"]);
    for (rest, reason) in [
        (r#""features":{}"#, "features: is empty"),
        (r#""attributes":{"year":1977}"#, "features: is empty"),
        (r#""features":{"text":[1e39]}"#, "text[0] is inf"),
        (r#""features":{"":[1]}"#, "a name is empty"),
        (r#""features":{"text":[1]},"attributes":{"year":true}"#, "line 1"),
    ] {
        refuses(Format::Native, &upsert(rest), &[reason]);
    }
    refuses(Format::Native, r#"{"user_id":"u","item_id":"i","timestamp_ms":5,"features":{}}"#, &["features"]);
    gives(
        r#"{"type":"item_hide","item_id":"i","timestamp_ms":5,"event_id":"e"}"#,
        StreamEvent::ItemHide { item_id: "i".into(), timestamp_ms: 5 },
    );
    gives(
        r#"{"type":"item_expire","item_id":"i","timestamp_ms":5,"expires_at_ms":9}"#,
        StreamEvent::ItemExpire { item_id: "i".into(), timestamp_ms: 5, expires_at_ms: 9 },
    );
    gives(
        r#"{"type":"user_delete","user_id":"u","timestamp_ms":5}"#,
        StreamEvent::UserDelete { user_id: "u".into(), timestamp_ms: 5 },
    );
}

#[test]
fn a_reason_is_one_line_of_bounded_length_whatever_it_quotes() {
    refuses(Format::Native, r#"{"user\n\u001b[31mid":"u"}"#, &["unknown field `user  [31mid`"]);
    let long = format!(r#"{{"{}":"u"}}"#, "x".repeat(100_000));
    let reason = decoder(Format::Native).decode(long.as_bytes()).unwrap_err().to_string();
    assert!(reason.ends_with("...") && reason.chars().count() == 503, "{} characters", reason.len());
}

#[test]
fn native_refusals_name_the_field_and_the_way_out() {
    let refuses = |payload: &str, parts: &[&str]| refuses(Format::Native, payload, parts);
    refuses("", &["column"]);
    refuses("[]", &["column"]);
    refuses("{", &["column 1"]);
    refuses(r#"{"item_id":"i","timestamp_ms":5}"#, &["missing field `user_id`", "interaction"]);
    refuses(r#"{"user_id":"u","item_id":"i"}"#, &["missing field `timestamp_ms`"]);
    refuses(r#"{"user_id":"u","item_id":7,"timestamp_ms":5}"#, &["integer `7`", "string"]);
    refuses(r#"{"user_id":"u","item_id":"i","timestamp_ms":5,"stars":1}"#, &["unknown field `stars`"]);
    refuses(r#"{"user_id":"u","item_id":"i","timestamp_ms":-5}"#, &["timestamp_ms", "-5", "milliseconds"]);
    refuses(r#"{"user_id":"","item_id":"i","timestamp_ms":5}"#, &["user_id", "empty"]);
    refuses(r#"{"type":"click","user_id":"u"}"#, &["click", "interaction"]);
    refuses(r#"{"type":"item_upsert","item_id":"i","timestamp_ms":5}"#, &["missing field `title`", "item_upsert"]);
    refuses(r#"{"type":"item_hide","item_id":"i","timestamp_ms":5,"user_id":"u"}"#, &["user_id", "item_hide"]);
    refuses(r#"{"type":"user_delete","user_id":"u","item_id":"i","timestamp_ms":5}"#, &["item_id", "user_delete"]);
    refuses(&format!(r#"{{"user_id":"{}"}}"#, "u".repeat(2 << 20)), &["2097166 bytes", "1048576"]);
}

#[test]
fn cloud_events_carry_them_too() {
    let envelope =
        |body: &str| format!(r#"{{"specversion":"1.0","id":"7","source":"/shop","traceparent":"x",{body}}}"#);
    gives(
        Format::Native,
        &envelope(
            r#""type":"com.example.interaction","time":"1970-01-01T00:00:05Z","data":{"user_id":"u","item_id":"i"}"#,
        ),
        &[event("u", "i", 5000, Some("/shop#7"))],
    );
    gives(
        Format::Native,
        &envelope(
            r#""type":"x","data":{"type":"interaction","user_id":"u","item_id":"i","timestamp_ms":5,"event_id":"e"}"#,
        ),
        &[event("u", "i", 5, Some("e"))],
    );
    let refuses = |body: &str, parts: &[&str]| refuses(Format::Native, &envelope(body), parts);
    refuses(r#""type":"com.example.order","data":{"user_id":"u"}"#, &["com.example.order", "must end in"]);
    refuses(r#""type":"interaction","time":"now","data":{"user_id":"u","item_id":"i"}"#, &["time", "now", "RFC 3339"]);
    refuses(r#""type":"interaction","data":{"user_id":"u","item_id":"i"}"#, &["timestamp_ms"]);
    refuses(r#""type":"interaction""#, &["data"]);
    super::decoders::refuses(
        Format::Native,
        r#"{"specversion":"0.3","id":"7","source":"s","type":"interaction","data":{}}"#,
        &["0.3", "1.0"],
    );
}

#[test]
fn segment_tracks() {
    let track = |rest: &str| {
        format!(
            r#"{{"type":"track","event":"Product Viewed","messageId":"m","timestamp":"1970-01-01T00:00:05Z",{rest}}}"#
        )
    };
    gives(
        Format::Segment,
        &track(r#""userId":"u","anonymousId":"a","properties":{"product_id":507}"#),
        &[event("u", "507", 5000, Some("m"))],
    );
    gives(
        Format::Segment,
        &track(r#""anonymousId":"a","userId":null,"properties":{"products":[{"product_id":"1"},{"sku":"2"}]}"#),
        &[event("a", "1", 5000, Some("m")), event("a", "2", 5000, Some("m"))],
    );
    gives(Format::Segment, &track(r#""userId":"u","properties":{}"#), &[]);
    gives(Format::Segment, r#"{"type":"identify","userId":"u"}"#, &[]);
    refuses(Format::Segment, &track(r#""properties":{"product_id":"1"}"#), &["userId", "anonymousId"]);
    refuses(Format::Segment, &track(r#""userId":"u","properties":{"product_id":[1]}"#), &["product_id", "[1]"]);
    refuses(Format::Segment, &track(r#""userId":"u","properties":{"products":7}"#), &["products", "7"]);
    refuses(Format::Segment, r#"{"event":"x"}"#, &["type", "missing"]);
    refuses(
        Format::Segment,
        r#"{"type":"track","userId":"u","timestamp":"5 o'clock","properties":{"product_id":"1"}}"#,
        &["timestamp", "5 o'clock"],
    );
}

#[test]
fn snowplow_enriched_events() {
    let enriched = |rest: &str| {
        format!(r#"{{"event_id":"e","domain_userid":"d","derived_tstamp":"1970-01-01 00:00:05.250",{rest}}}"#)
    };
    let product = r#""contexts_com_snowplowanalytics_snowplow_ecommerce_product_1":[{"id":"p","name":"x"}]"#;
    gives(Format::Snowplow, &enriched(&format!(r#""user_id":"u",{product}"#)), &[event("u", "p", 5250, Some("e"))]);
    gives(Format::Snowplow, &enriched(product), &[event("d", "p", 5250, Some("e"))]);
    gives(
        Format::Snowplow,
        &enriched(r#""event":"transaction_item","ti_sku":"s""#),
        &[event("d", "s", 5250, Some("e"))],
    );
    gives(Format::Snowplow, &enriched(r#""event":"page_view""#), &[]);
    refuses(Format::Snowplow, r#"{"event":"page_view"}"#, &["event_id"]);
    let nameless = r#""contexts_com_snowplowanalytics_snowplow_product_1":[{"name":"x"}]"#;
    refuses(Format::Snowplow, &enriched(nameless), &["product_1", "productId"]);
}

#[test]
fn ga4_bodies_hold_several_events() {
    gives(
        Format::Ga4,
        r#"{"client_id":"c","timestamp_micros":"5000999","events":[
            {"name":"view_item","params":{"items":[{"item_id":"a"},{"item_id":"b"}]}},
            {"name":"page_view","params":{}},
            {"name":"purchase","timestamp_micros":7000000,"params":{"items":[{"item_id":"a"}]}}]}"#,
        &[event("c", "a", 5000, None), event("c", "b", 5000, None), event("c", "a", 7000, None)],
    );
    refuses(Format::Ga4, "{}", &["events"]);
    let item = r#""events":[{"name":"view_item","params":{"items":[{"item_id":"a"}]}}]"#;
    refuses(Format::Ga4, &format!(r#"{{"timestamp_micros":1,{item}}}"#), &["user_id or client_id"]);
    refuses(Format::Ga4, &format!(r#"{{"client_id":"c",{item}}}"#), &["events[0]", "timestamp_micros"]);
    let many = format!(
        r#"{{"client_id":"c","timestamp_micros":1,"events":[{{"params":{{"items":[{}]}}}}]}}"#,
        vec![r#"{"item_id":"a"}"#; 1001].join(",")
    );
    refuses(Format::Ga4, &many, &["1001", "1000"]);
}

#[test]
fn gorse_feedback_alone_and_in_lists() {
    let one = r#"{"FeedbackType":"read","UserId":"u","ItemId":"i","Timestamp":"1970-01-01T00:00:05Z","Comment":""}"#;
    gives(Format::Gorse, one, &[event("u", "i", 5000, None)]);
    gives(Format::Gorse, &format!("[{one},{one}]"), &[event("u", "i", 5000, None), event("u", "i", 5000, None)]);
    refuses(Format::Gorse, &format!(r#"[{one},{{"UserId":"u"}}]"#), &["[1]", "ItemId"]);
}

#[test]
fn metarank_interactions_and_items() {
    gives(
        Format::Metarank,
        r#"{"event":"interaction","id":"e","timestamp":"1599391467000","user":"u","session":"s","item":"i","type":"click"}"#,
        &[event("u", "i", 1_599_391_467_000, Some("e"))],
    );
    gives(
        Format::Metarank,
        r#"{"event":"item","id":"e","timestamp":5,"item":"i","fields":[{"name":"title","value":"T"},{"name":"price","value":9}]}"#,
        &[StreamEvent::ItemUpsert {
            item_id: "i".into(),
            timestamp_ms: 5,
            title: "T".into(),
            text: None,
            content: None,
        }],
    );
    gives(Format::Metarank, r#"{"event":"ranking","id":"e"}"#, &[]);
    refuses(Format::Metarank, r#"{"event":"impression"}"#, &["impression", "interaction"]);
    refuses(Format::Metarank, r#"{"event":"interaction","id":"e","user":"u","item":"i"}"#, &["timestamp"]);
}

/// None for an even number, else vectors and attributes of every kind.
fn content(seed: i64) -> Option<Box<ItemContent>> {
    let features = BTreeMap::from([("text".to_owned(), vec![0.1, seed as f32, -1e-30])]);
    let attributes = BTreeMap::from([
        ("genre".to_owned(), AttributeValue::Texts(vec!["Drama".into(), "War".into()])),
        ("language".to_owned(), AttributeValue::Text("é".into())),
        ("year".to_owned(), AttributeValue::Number(1994.5)),
    ]);
    (seed % 2 == 1).then(|| Box::new(ItemContent::new(features, attributes).unwrap()))
}

fn json() -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec![
        "{",
        "}",
        "[",
        "]",
        ":",
        ",",
        "\"type\"",
        "\"track\"",
        "\"user_id\"",
        "\"item_id\"",
        "\"timestamp_ms\"",
        "\"specversion\"",
        "\"data\"",
        "\"1.0\"",
        "\"events\"",
        "\"event\"",
        "\"interaction\"",
        "\"properties\"",
        "\"products\"",
        "\"timestamp\"",
        "\"UserId\"",
        "7",
        "-1",
        "1e999",
        "null",
        "true",
        "\"2024-01-01T00:00:00Z\"",
        "\"\\ud800\"",
        "\"é\"",
    ]);
    prop::collection::vec(word, 0..40).prop_map(|words| words.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_input_panics_and_what_is_taken_is_valid(bytes in prop::collection::vec(any::<u8>(), 0..200), text in json()) {
        for format in ALL {
            for payload in [&bytes[..], text.as_bytes()] {
                for event in decoder(format).decode(payload).unwrap_or_default() {
                    prop_assert!(event.validate().is_ok());
                }
            }
        }
    }

    #[test]
    fn an_event_survives_its_json(user in ".{1,20}", item in ".{1,20}", time in 0_i64..i64::MAX, id in prop::option::of(".{1,20}"), kind in 0..5) {
        let sent = match kind {
            0 => event(&user, &item, time, id.as_deref()),
            1 => StreamEvent::ItemUpsert { item_id: item, timestamp_ms: time, title: user, text: id, content: content(time) },
            2 => StreamEvent::ItemHide { item_id: item, timestamp_ms: time },
            3 => StreamEvent::ItemExpire { item_id: item, timestamp_ms: time, expires_at_ms: time },
            _ => StreamEvent::UserDelete { user_id: user, timestamp_ms: time },
        };
        prop_assert_eq!(decoder(Format::Native).decode(&outgoing(&sent).payload), Ok(vec![sent]));
    }
}
