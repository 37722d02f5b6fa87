//! What owners want of tasks that run: kept on disk, and handed out with the next heartbeat.

use jiff::Timestamp;
use protocol::{
    Code, Problem, TaskId,
    lease::Order,
    limits,
    task::{Cancel, Message},
};

use super::{
    Queue, sql,
    store::StoreError,
    sum::of_text,
    transition::Command,
    tx::{all, damaged, sealed},
};

impl Queue {
    /// Cancels: at once where no worker runs it, else by an order to its worker.
    ///
    /// # Errors
    /// `unknown_task`, `wrong_state` where it has ended, `invalid`, and the store's.
    pub async fn cancel(&self, id: &TaskId, cancel: Cancel, now: Timestamp) -> Result<(), StoreError> {
        let grace_s = cancel.grace_s.unwrap_or(limits::KILL_GRACE.as_secs());
        if grace_s > limits::KILL_GRACE_CAP.as_secs() {
            let why = format!("grace_s: {grace_s} is over {}", limits::KILL_GRACE_CAP.as_secs());
            return Err(Problem::new(Code::Invalid, why).into());
        }
        self.command(id.clone(), Command::Cancel { grace_s }, now).await.map(|_| ())
    }

    /// Tells a running task's agent something; the place among the task's orders. A message whose id came before is
    /// that message.
    ///
    /// # Errors
    /// `unknown_task`, `wrong_state` where it does not run, `invalid` where it has no agent or the text is none,
    /// `too_large`, and the store's.
    pub async fn message(&self, id: &TaskId, message: Message, now: Timestamp) -> Result<u64, StoreError> {
        check(&message)?;
        let id = id.clone();
        self.store
            .write(move |tx| {
                let task = tx.row(&id)?;
                if let Some(known) = message.id {
                    let known = (task.n, known.to_string());
                    if let Some(seq) = tx.one(sql::ORDER_OF_MESSAGE, known, |row| row.get::<_, i64>(0))? {
                        return Ok(seq.cast_unsigned());
                    }
                }
                if !task.agent {
                    let why =
                        format!("task {id} runs a program, and has no agent that could be told something");
                    return Err(Problem::new(Code::Invalid, why).into());
                }
                if task.orders >= limits::TASK_MESSAGES {
                    let why = format!("a task takes {} messages", limits::TASK_MESSAGES);
                    return Err(Problem::new(Code::TooLarge, why).into());
                }
                let command = Command::Message { text: message.text, id: message.id };
                tx.apply(&task, &command, now).map(|row| row.orders)
            })
            .await
    }

    /// Orders of a task after the one with this number.
    ///
    /// # Errors
    /// The store's.
    pub(super) fn orders(&self, id: &TaskId, after: u64) -> Result<Vec<Order>, StoreError> {
        let read = |row: &rusqlite::Row<'_>| {
            let body: String = row.get(1)?;
            sealed(row, 2, of_text(&body))?;
            let kind = serde_json::from_str(&body).map_err(|error| damaged(1, &error.to_string()))?;
            Ok(Order { seq: row.get::<_, i64>(0)?.cast_unsigned(), kind })
        };
        let range = (id.as_str(), after.cast_signed());
        self.store.read(|connection| all(connection, sql::ORDERS, range, read))
    }
}

fn check(message: &Message) -> Result<(), Problem> {
    let text = &message.text;
    if text.len() > limits::PROMPT_BYTES {
        let why = format!("text: is {} bytes, and {} is the most", text.len(), limits::PROMPT_BYTES);
        return Err(Problem::new(Code::TooLarge, why));
    }
    if text.trim().is_empty() || text.contains('\0') {
        return Err(Problem::new(Code::Invalid, "text: is empty, or holds a NUL byte"));
    }
    Ok(())
}
