use super::*;
use crate::prices::Rates;

fn price() -> ModelPrice {
    ModelPrice::flat(Rates {
        input: 1_000,
        cache_write_5m: 1_000,
        cache_write_1h: 1_000,
        cache_read: 1_000,
        output: 1_000_000,
    })
}

const GRANT: Grant = Grant { output_tokens: 100, amount: Usd::from_nanos(200_000) };

fn charged(api: Api, events: &[&str]) -> Option<u64> {
    let mut meter = Meter::new(api);
    for event in events {
        meter.event(event.as_bytes());
    }
    meter.charge(&price(), &GRANT).map(|(amount, _)| amount.nanos())
}

const START: &str = r#"{"type":"message_start","message":{"usage":{"input_tokens":10,"output_tokens":1}}}"#;
const DELTA: &str =
    r#"{"type":"content_block_delta","delta":{"type":"text_delta","text":"the \"usage\" of"}}"#;
const END: &str =
    r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":7}}"#;
const ERROR: &str = r#"{"type":"error","error":{"type":"overloaded_error","message":"x"}}"#;

#[test]
fn messages() {
    assert_eq!(charged(Api::Messages, &[START, DELTA, END]), Some(7_010));
    assert_eq!(charged(Api::Messages, &[START, DELTA]), Some(100_010));
    assert_eq!(charged(Api::Messages, &[START, DELTA, ERROR]), Some(100_010));
    assert_eq!(charged(Api::Messages, &[ERROR]), None);
    assert_eq!(charged(Api::Messages, &[]), Some(200_000));
}

#[test]
fn chat() {
    let chunk = r#"{"choices":[{"delta":{"content":"a"}}],"usage":null}"#;
    let usage = r#"{"choices":[],"usage":{"prompt_tokens":10,"completion_tokens":7}}"#;
    assert_eq!(charged(Api::Chat, &[chunk, usage, "[DONE]"]), Some(7_010));
    assert_eq!(charged(Api::Chat, &[chunk, "[DONE]"]), Some(200_000));
    assert_eq!(charged(Api::Chat, &[r#"{"error":{"message":"x"}}"#]), None);
    let mut meter = Meter::new(Api::Chat);
    assert_eq!(meter.event(chunk.as_bytes()), Event::Answer);
    assert_eq!(meter.event(usage.as_bytes()), Event::UsageOnly);
}

#[test]
fn responses() {
    let created = r#"{"type":"response.created","response":{"usage":null}}"#;
    for kind in ["completed", "incomplete", "failed"] {
        let end = format!(
            r#"{{"type":"response.{kind}","response":{{"usage":{{"input_tokens":10,"output_tokens":7}}}}}}"#
        );
        assert_eq!(charged(Api::Responses, &[created, &end]), Some(7_010), "{kind}");
    }
    let failed = r#"{"type":"response.failed","response":{"usage":null,"error":{}}}"#;
    assert_eq!(charged(Api::Responses, &[created, failed]), Some(0));
    assert_eq!(charged(Api::Responses, &[created]), Some(200_000));
}

#[test]
fn whole_bodies() {
    let mut meter = Meter::new(Api::Responses);
    meter.body(br#"{"usage":{"input_tokens":10,"output_tokens":7}}"#);
    assert_eq!(meter.charge(&price(), &GRANT).unwrap().0.nanos(), 7_010);
    let mut meter = Meter::new(Api::Messages);
    meter.body(b"{}");
    assert_eq!(meter.charge(&price(), &GRANT).unwrap().0, GRANT.amount);
}
