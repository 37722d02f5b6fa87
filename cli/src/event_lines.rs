//! Events as lines for people.

use jiff::Timestamp;
use protocol::{Event, EventBody};
use serde_json::Value;

use crate::terminal::{clean, first_line};

/// Characters of a tool's question or answer that are shown.
const TOOL_CHARS: usize = 160;

/// The event as one or more lines, with the seconds since `start` before the first; `None` for what people
/// need not see. Holds no control character but newline and tab.
pub(crate) fn lines(event: &Event, start: Timestamp) -> Option<String> {
    let at = event.event.at.duration_since(start).as_secs_f64().max(0.0);
    let text = match &event.event.body {
        EventBody::State { state, reason: None } => format!("== {state}"),
        EventBody::State { state, reason: Some(reason) } => format!("== {state}: {}", clean(reason)),
        EventBody::Stage { stage } => format!("-- {}", clean(stage)),
        EventBody::Text { text } => indented(text.trim_end()),
        EventBody::ToolUse { name, input } => format!("> {} {}", clean(name), short(input)),
        EventBody::ToolResult { output, is_error, .. } => {
            format!("{} {}", if *is_error { "<!" } else { "<" }, short(output))
        }
        EventBody::Usage { input_tokens, output_tokens } => {
            format!("   {input_tokens} tokens in, {output_tokens} out")
        }
        EventBody::Budget { account, percent, spent_usd, budget_usd } => {
            format!("$$ {} is at {percent} %: {spent_usd} of {budget_usd} USD are spent", clean(account))
        }
        EventBody::Message { seq, text } => format!("<< {seq}: {}", indented(text.trim_end())),
        EventBody::Error { message } => format!("!! {}", indented(message.trim_end())),
        EventBody::Output { text, .. } => clean(text).into_owned(),
        EventBody::Dropped { bytes } => {
            format!(".. {bytes} bytes of output are over the limit, and not here")
        }
        EventBody::Unknown => return None,
    };
    Some(format!("{at:>7.1}  {text}"))
}

/// Lines after the first stand below it.
fn indented(text: &str) -> String {
    clean(text).replace('\n', "\n         ")
}

fn short(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => first_line(text, TOOL_CHARS),
        other => first_line(&other.to_string(), TOOL_CHARS),
    }
}

#[cfg(test)]
mod tests {
    use super::lines;
    use jiff::Timestamp;
    use protocol::Event;
    use serde_json::{Value, json};

    fn told(body: &Value) -> Option<String> {
        let mut event = json!({"seq": 1, "task": "t", "attempt": 1, "at": "1970-01-01T00:00:01.5Z"});
        event.as_object_mut().unwrap().extend(body.as_object().unwrap().clone());
        lines(&serde_json::from_value::<Event>(event).unwrap(), Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn each_kind_reads_as_a_line() {
        for (body, wanted) in [
            (json!({"kind": "state", "state": "running"}), "== running"),
            (json!({"kind": "state", "state": "lost", "reason": "oom"}), "== lost: oom"),
            (json!({"kind": "stage", "stage": "checkout"}), "-- checkout"),
            (json!({"kind": "text", "text": "one\ntwo\n"}), "one\n         two"),
            (json!({"kind": "tool_use", "name": "bash", "input": {"a": 1}}), "> bash {\"a\":1}"),
            (json!({"kind": "tool_result", "output": "x\ny", "is_error": true}), "<! x…"),
            (json!({"kind": "usage", "input_tokens": 1, "output_tokens": 2}), "   1 tokens in, 2 out"),
            (json!({"kind": "message", "order": 2, "text": "go on\n"}), "<< 2: go on"),
            (json!({"kind": "error", "message": "no"}), "!! no"),
            (json!({"kind": "output", "stream": "stderr", "text": "\u{1b}c"}), "\u{fffd}c"),
        ] {
            assert_eq!(told(&body), Some(format!("    1.5  {wanted}")));
        }
        assert_eq!(told(&json!({"kind": "of_tomorrow"})), None);
    }
}
