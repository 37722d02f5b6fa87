//! Owners: they submit, look, cancel, try again, approve, and tell agents something.

use std::{sync::Arc, time::Duration};

use fastrand::Rng;
use jiff::Timestamp;
use protocol::{
    Code, TaskId, TaskState,
    client::OwnerClient,
    submit::{Kind, NewTask},
    task::{Cancel, Message, MessageAccepted, Priority, Retry, Task},
};
use uuid::Uuid;

use crate::{
    history::Fact,
    place::{QUEUES, exec},
    world::World,
};

/// Tasks that have not ended: with more than these, an owner waits for one.
const BACKLOG: usize = 40;
/// Unique keys.
const KEYS: u32 = 4;

/// One owner, until no new tasks are wanted.
pub(crate) async fn owner(world: Arc<World>, number: u64) {
    let mut owner = Owner {
        client: world.owner(),
        dice: world.dice("owner", number),
        name: format!("{}-{number}", world.seed),
        made: 0,
        world,
    };
    while !owner.world.closing.is_cancelled() {
        owner.step().await;
    }
}

struct Owner {
    world: Arc<World>,
    client: OwnerClient,
    dice: Rng,
    name: String,
    made: u64,
}

impl Owner {
    async fn step(&mut self) {
        let full = self.world.known.lock().unwrap().open.len() > BACKLOG;
        match self.dice.u32(0..100) {
            _ if full => self.wait_for_one().await,
            0..40 => self.submit().await,
            40..48 => self.submit_many().await,
            48..55 => self.submit_again().await,
            55..67 => self.cancel().await,
            67..73 => self.retry().await,
            73..80 => self.approve().await,
            80..92 => self.message().await,
            _ => self.wait_for_one().await,
        }
    }

    fn new_task(&mut self) -> NewTask {
        self.made += 1;
        let (dice, id) = (&mut self.dice, format!("t-{}-{}", self.name, self.made));
        let mut task = exec(QUEUES[usize::from(dice.u32(0..4) == 0)], id);
        if self.world.agents && dice.bool() {
            task =
                NewTask { kind: Kind::Agent, argv: None, prompt: Some(format!("do {}", self.made)), ..task };
        } else {
            task.argv = Some(vec!["echo".to_owned(), "x".repeat(dice.usize(0..3_000))]);
        }
        task.max_attempts = Some(dice.u32(1..=2));
        task.priority = match dice.u32(0..8) {
            0 => Priority::Critical,
            1 => Priority::High,
            2 => Priority::Low,
            _ => Priority::Normal,
        };
        // The database keeps milliseconds.
        let soon = Timestamp::from_millisecond(Timestamp::now().as_millisecond() + dice.i64(0..900)).unwrap();
        task.not_before = (dice.u32(0..8) == 0).then_some(soon);
        task.unique_key = (dice.u32(0..6) == 0).then(|| format!("key-{}", dice.u32(0..KEYS)));
        task.approval = dice.u32(0..10) == 0;
        task
    }

    fn took_in(&self, asked: u64, task: NewTask, answer: &Task) {
        let id = answer.id.clone();
        let mut known = self.world.known.lock().unwrap();
        if known.bodies.insert(id.clone(), task.clone()).is_none() {
            known.open.push_back(id.clone());
            if task.approval {
                known.held.push(id.clone());
            }
        }
        drop(known);
        self.world.recorder.note(asked, Fact::Accepted(task));
        self.world.recorder.note(asked, Fact::Seen { task: id, state: answer.state });
    }

    fn refused(&self, asked: u64, task: &NewTask) {
        let id = task.id.as_ref().unwrap().parse().unwrap();
        self.world.recorder.note(asked, Fact::Refused(id));
    }

    async fn submit(&mut self) {
        let task = self.new_task();
        let (asked, answer) = self.world.ask(|| self.client.submit(&task, Duration::ZERO)).await;
        match answer {
            Ok(answer) => self.took_in(asked, task, &answer),
            Err(error) if error.code() == Some(Code::UniqueKeyTaken) => self.refused(asked, &task),
            Err(error) => self.world.odd(asked, "submit", &error),
        }
    }

    /// All or none.
    async fn submit_many(&mut self) {
        let count = self.dice.usize(2..20);
        let tasks: Vec<_> = (0..count).map(|_| self.new_task()).collect();
        let client = crate::http::Http::owner(&self.world);
        let (asked, answer) = self.world.ask(|| client.submit_many(&tasks)).await;
        match answer {
            Ok(answers) => {
                let told: Vec<_> = answers.iter().map(|answer| Some(answer.id.as_str())).collect();
                if !tasks.iter().map(|task| task.id.as_deref()).eq(told) {
                    let odd = Fact::Odd("an array of tasks was answered with others".to_owned());
                    return self.world.recorder.note(asked, odd);
                }
                tasks.into_iter().zip(&answers).for_each(|(task, answer)| self.took_in(asked, task, answer));
            }
            Err(error) if error.code() == Some(Code::UniqueKeyTaken) => {
                tasks.iter().for_each(|task| self.refused(asked, task));
            }
            Err(error) => self.world.odd(asked, "submit many", &error),
        }
    }

    /// A task that is there, with the same body or with another.
    async fn submit_again(&mut self) {
        let known = self.world.known.lock().unwrap().bodies.values().cloned().collect::<Vec<_>>();
        let Some(mut task) = self.dice.choice(known) else { return };
        let other = self.dice.bool();
        if other {
            task.timeout_s = Some(7);
        }
        let (asked, answer) = self.world.ask(|| self.client.submit(&task, Duration::ZERO)).await;
        match answer {
            Ok(answer) => self.took_in(asked, task, &answer),
            Err(error) if other && error.code() == Some(Code::TaskIdTaken) => {}
            Err(error) => self.world.odd(asked, "submit again", &error),
        }
    }

    /// Waits a little for the end of the task that waits longest.
    async fn wait_for_one(&mut self) {
        let oldest = self.world.known.lock().unwrap().open.pop_front();
        let Some(id) = oldest else { return };
        let wait = Duration::from_secs(1);
        let (asked, answer) = self.world.ask(|| self.client.task(&id, wait)).await;
        let mut known = self.world.known.lock().unwrap();
        match answer {
            Ok(task) => {
                if task.state.is_terminal() {
                    known.ended.push(id);
                } else {
                    known.open.push_back(id);
                }
                let seen = Fact::Seen { task: task.id, state: task.state };
                self.world.recorder.note(asked, seen);
            }
            Err(error) => self.world.odd(asked, &format!("look at {id}"), &error),
        }
    }

    async fn cancel(&mut self) {
        let open = self.world.known.lock().unwrap().open.iter().cloned().collect::<Vec<_>>();
        let Some(id) = self.dice.choice(open) else { return };
        let cancel = Cancel::default();
        let (asked, answer) = self.world.ask(|| self.client.cancel(&id, &cancel)).await;
        match answer {
            Ok(task) => self.world.recorder.note(asked, Fact::Seen { task: id, state: task.state }),
            Err(error) if error.code() == Some(Code::WrongState) => {}
            Err(error) => self.world.odd(asked, "cancel", &error),
        }
    }

    async fn retry(&mut self) {
        let ended = self.world.known.lock().unwrap().ended.clone();
        let Some(of) = self.dice.choice(ended) else { return };
        self.made += 1;
        let id: TaskId = format!("r-{}-{}", self.name, self.made).parse().unwrap();
        let retry = Retry { id: Some(id.clone()) };
        let (asked, answer) = self.world.ask(|| self.client.retry(&of, &retry)).await;
        match answer {
            Ok(task) => {
                let mut known = self.world.known.lock().unwrap();
                known.open.push_back(id.clone());
                // What was never let go waits for its approval again.
                if task.state == TaskState::Held {
                    known.held.push(id.clone());
                }
                drop(known);
                self.world.recorder.note(asked, Fact::Retried { of, id: id.clone() });
                self.world.recorder.note(asked, Fact::Seen { task: id, state: task.state });
            }
            Err(error) if error.code() == Some(Code::UniqueKeyTaken) => {
                self.world.recorder.note(asked, Fact::Refused(id));
            }
            Err(error) => self.world.odd(asked, "retry", &error),
        }
    }

    async fn approve(&mut self) {
        let held = self.world.known.lock().unwrap().held.pop();
        if let Some(id) = held {
            approve(&self.world, &self.client, id).await;
        }
    }

    async fn message(&mut self) {
        let running = self.world.known.lock().unwrap().running.clone();
        let Some(task) = self.dice.choice(running) else { return };
        let mut message = self.new_message();
        for _ in 0..self.dice.u32(1..6) {
            // The same again, or the next.
            if self.dice.u32(0..3) > 0 {
                message = self.new_message();
            }
            let (asked, answer) = self.world.ask(|| self.client.message(&task, &message)).await;
            match answer {
                Ok(MessageAccepted { seq }) => {
                    let (task, text, message) = (task.clone(), message.text.clone(), message.id.unwrap());
                    self.world.recorder.note(asked, Fact::Told { task, message, seq, text });
                }
                Err(error) if error.code() == Some(Code::WrongState) => return,
                Err(error) => return self.world.odd(asked, "message", &error),
            }
        }
    }

    fn new_message(&mut self) -> Message {
        let id = Uuid::from_u128(self.dice.u128(..));
        Message { text: format!("message {id}"), id: Some(id) }
    }
}

/// Lets a task go that waits for approval.
pub(crate) async fn approve(world: &World, client: &OwnerClient, id: TaskId) {
    let asked = world.recorder.ask();
    world.recorder.note(asked, Fact::Approved(id.clone()));
    let (asked, answer) = world.ask(|| client.approve(&id)).await;
    match answer {
        // It may have been cancelled.
        Err(error) if error.code() != Some(Code::WrongState) => world.odd(asked, "approve", &error),
        _ => {}
    }
}
