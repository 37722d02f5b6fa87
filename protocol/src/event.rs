//! What happens to a task, in one schema for every agent CLI.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{ids::TaskId, money::Usd, task::TaskState};

/// One event of a task's stream: `data:` of an SSE message whose `id:` is `seq`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Its place in the task's stream, from 1; strictly increasing, and without gaps but where a
    /// [`EventBody::Dropped`] or [`EventBody::Error`] stands for what is not there, in the last of its places.
    pub seq: u64,
    /// The task.
    pub task: TaskId,
    /// The attempt that it belongs to; 0 before the first.
    pub attempt: u32,
    /// What happened, and when.
    #[serde(flatten)]
    pub event: NewEvent,
}

/// An event before it has its place in a stream: what workers post.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NewEvent {
    /// When, by the clock of whoever saw it.
    pub at: Timestamp,
    /// What.
    #[serde(flatten)]
    pub body: EventBody,
    /// The line of the agent's output that says so, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raw: Option<String>,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum EventBody {
    /// The task came into a state. Only the coordinator says this.
    State {
        /// The new state.
        state: TaskState,
        /// [`crate::Task::reason`].
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// The worker came to a part of its work: `checkout`, `agent`, `commit`, `upload`.
    Stage {
        /// Its name.
        stage: String,
    },
    /// The agent said something.
    Text {
        /// What.
        text: String,
    },
    /// The agent uses a tool.
    ToolUse {
        /// The tool's name.
        name: String,
        /// What the tool is asked.
        #[serde(default)]
        input: Value,
    },
    /// A tool answered.
    ToolResult {
        /// The tool's name, where the CLI tells it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        /// What it answered.
        #[serde(default)]
        output: Value,
        /// Whether it failed.
        #[serde(default)]
        is_error: bool,
    },
    /// Tokens that the agent counted since the last such event.
    Usage {
        /// Cache included.
        input_tokens: u64,
        /// Reasoning included.
        output_tokens: u64,
    },
    /// An account that the task charges has come near its limit. Only the coordinator says this, by the gateway's word.
    Budget {
        /// `task:ID`, `repo:NAME` or `day`.
        account: String,
        /// 80 or 95.
        percent: u8,
        /// Charged to it.
        spent_usd: Usd,
        /// Its limit.
        budget_usd: Usd,
    },
    /// The agent was told this by its owner.
    Message {
        /// The message's place among the task's orders; `order` on the wire, where `seq` is the event's.
        #[serde(rename = "order")]
        seq: u64,
        /// What.
        text: String,
    },
    /// Something failed.
    Error {
        /// What, and why.
        message: String,
    },
    /// A line that no rule of the agent's file names; of an `exec` task, every line.
    Output {
        /// `stdout` or `stderr`.
        stream: String,
        /// The line, without its end; what is not UTF-8 is replaced.
        text: String,
    },
    /// Output was over a limit, and this much of it is not on the stream.
    Dropped {
        /// Bytes.
        bytes: u64,
    },
    /// A kind that this version does not know.
    #[serde(other)]
    Unknown,
}

/// The body of `POST /tasks/{id}/events`. Repeated, it changes nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewEvents {
    /// The place of the first of `events` among the attempt's events, from 0.
    pub first: u64,
    /// At most [`crate::limits::EVENTS_PER_REQUEST`].
    pub events: Vec<NewEvent>,
}

/// The answer: how many of the attempt's events are stored; send on from there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventsStored {
    /// The count.
    pub stored: u64,
}

#[cfg(test)]
mod tests {
    use super::{Event, EventBody, NewEvent};

    #[test]
    fn a_message_has_its_own_number_and_its_place_in_the_stream() {
        let body = EventBody::Message { seq: 1, text: "x".to_owned() };
        let event = NewEvent { at: jiff::Timestamp::UNIX_EPOCH, body, raw: None };
        let event = Event { seq: 7, task: "t".parse().unwrap(), attempt: 1, event };
        // As the coordinator writes it.
        let json = serde_json::to_value(&event).unwrap();
        assert_eq!((&json["seq"], &json["order"]), (&7.into(), &1.into()));
        assert_eq!(serde_json::from_value::<Event>(json).unwrap(), event);
    }
}
