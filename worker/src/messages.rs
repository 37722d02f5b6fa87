//! What an owner tells an agent, from the heartbeat that brings it to the turn that hears it. An agent CLI runs one
//! turn and ends, so a message waits until the present turn is over.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use protocol::limits;

/// Between two messages of one turn.
const BETWEEN: &str = "\n\n";

/// A message to the agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Its place among the task's orders.
    pub seq: u64,
    /// What.
    pub text: String,
}

/// Orders that were heard, and the messages among them that no agent has got yet. Shared by heartbeat and attempt.
#[derive(Debug, Clone, Default)]
pub struct Mailbox(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    waiting: VecDeque<Message>,
    /// The latest order that was heard.
    heard: u64,
    /// Why no agent hears any more.
    closed: Option<String>,
}

impl Mailbox {
    /// Takes note of an order; false when it was heard before.
    #[must_use]
    pub fn hears(&self, seq: u64) -> bool {
        let mut inner = self.lock();
        let new = seq > inner.heard;
        inner.heard = inner.heard.max(seq);
        new
    }

    /// Keeps a message for the next turn.
    ///
    /// # Errors
    /// Why there will be none.
    pub fn put(&self, message: Message) -> Result<(), String> {
        let mut inner = self.lock();
        match &inner.closed {
            Some(why) => Err(why.clone()),
            None => {
                inner.waiting.push_back(message);
                Ok(())
            }
        }
    }

    /// The last order of which all before it, and itself, are carried out.
    #[must_use]
    pub fn carried_out(&self) -> u64 {
        let inner = self.lock();
        inner.waiting.front().map_or(inner.heard, |first| first.seq.saturating_sub(1))
    }

    /// The messages of the next turn, as many as go into one prompt; they wait until [`Mailbox::handed_over`]. With
    /// none, there is no further turn, and whatever comes from now on is refused with `why`.
    #[must_use]
    pub fn next_turn_or_close(&self, why: &str) -> Vec<Message> {
        let mut inner = self.lock();
        if inner.waiting.is_empty() {
            inner.closed.get_or_insert_with(|| why.to_owned());
        }
        let mut bytes = 0;
        let fits = |message: &&Message| {
            let before = bytes;
            bytes += message.text.len() + BETWEEN.len();
            before == 0 || bytes <= limits::PROMPT_BYTES
        };
        inner.waiting.iter().take_while(fits).cloned().collect()
    }

    /// The agent has got all up to this one.
    pub fn handed_over(&self, seq: u64) {
        self.lock().waiting.retain(|message| message.seq > seq);
    }

    /// No agent hears from now on: those that none has heard.
    #[must_use]
    pub fn close(&self, why: &str) -> Vec<Message> {
        let mut inner = self.lock();
        inner.closed.get_or_insert_with(|| why.to_owned());
        std::mem::take(&mut inner.waiting).into()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The prompt of a turn.
#[must_use]
pub fn prompt(messages: &[Message]) -> String {
    messages.iter().map(|message| message.text.as_str()).collect::<Vec<_>>().join(BETWEEN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mailbox(texts: &[&str]) -> Mailbox {
        let mailbox = Mailbox::default();
        for (seq, text) in (1..).zip(texts) {
            assert!(mailbox.hears(seq));
            mailbox.put(Message { seq, text: (*text).to_owned() }).unwrap();
        }
        mailbox
    }

    #[test]
    fn a_message_is_carried_out_when_it_was_handed_over_and_no_order_after_it_is_before() {
        let mailbox = mailbox(&["one", "two"]);
        assert!(mailbox.hears(3), "a cancel, say");
        assert!(!mailbox.hears(2), "it was given again");
        assert_eq!(mailbox.carried_out(), 0);
        let turn = mailbox.next_turn_or_close("over");
        assert_eq!(prompt(&turn), "one\n\ntwo");
        assert_eq!(mailbox.carried_out(), 0, "the agent was not started yet");
        mailbox.handed_over(1);
        assert_eq!(mailbox.carried_out(), 1);
        mailbox.handed_over(2);
        assert_eq!(mailbox.carried_out(), 3);
    }

    #[test]
    fn what_comes_after_the_last_turn_is_refused_and_what_waits_at_the_end_is_told() {
        let late = Message { seq: 3, text: "late".to_owned() };
        let idle = mailbox(&[]);
        assert!(idle.next_turn_or_close("the agent has ended").is_empty());
        assert_eq!(idle.put(late.clone()), Err("the agent has ended".to_owned()));
        let busy = mailbox(&["one", "two"]);
        let left: Vec<_> = busy.close("cancelled").into_iter().map(|message| message.seq).collect();
        assert_eq!((left, busy.carried_out()), (vec![1, 2], 2));
        assert_eq!(busy.put(late), Err("cancelled".to_owned()));
    }

    #[test]
    fn a_turn_is_no_longer_than_a_prompt_may_be() {
        let long = "x".repeat(limits::PROMPT_BYTES);
        let mailbox = mailbox(&[&long, "two", "three"]);
        let seqs = |turn: Vec<Message>| turn.iter().map(|message| message.seq).collect::<Vec<_>>();
        assert_eq!(seqs(mailbox.next_turn_or_close("over")), [1]);
        mailbox.handed_over(1);
        assert_eq!(seqs(mailbox.next_turn_or_close("over")), [2, 3]);
    }
}
