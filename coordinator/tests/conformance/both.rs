//! The model and the store side by side, for the examples.

use std::borrow::Borrow;

use protocol::{
    Code::{LeaseLost, WrongState},
    TaskState,
    report::Outcome,
};

use crate::{
    commands::{Answer, Command, Draft, Ledger, Named},
    model::Model,
    system::System,
};

/// The model and the store, asked the same.
pub(crate) struct Both {
    model: Model,
    pub(crate) system: System,
}

impl Both {
    pub(crate) fn open() -> Self {
        Self { model: Model::new(), system: System::open() }
    }

    pub(crate) fn ask(&mut self, command: impl Borrow<Command>) -> Answer {
        let command = command.borrow();
        assert!(!self.model.is_unsure(command), "nothing is promised of {command:?} at this moment");
        self.model.ask(command);
        let answer = self.system.execute(command, self.model.now);
        assert_eq!(answer, self.model.answer, "{command:?}: the model, on the right, says otherwise");
        assert_eq!(self.system.view(), self.model.view(), "{command:?}: the model says otherwise");
        answer
    }

    pub(crate) fn done(&mut self, commands: impl IntoIterator<Item = Command>) {
        for command in commands {
            let answer = self.ask(&command);
            assert!(!matches!(answer, Answer::Refused(..)), "{command:?}: {answer:?}");
        }
    }

    /// Moves time on, and lets it do its work.
    pub(crate) fn wait(&mut self, seconds: u64) {
        self.done([Command::Advance(seconds), Command::Reap]);
    }

    /// Makes a task and lets worker 0 start it. The request's number is the task's.
    pub(crate) fn start(&mut self, draft: Draft) -> Named {
        let id = draft.id;
        self.done([Command::Submit(vec![draft]), lease(id), Command::Start(held(id, id))]);
        held(id, id)
    }

    /// The state, the attempt, and the reason's word.
    pub(crate) fn task(&self, id: u8) -> (TaskState, u32, Option<String>) {
        let view = self.system.view();
        let task = &view.tasks[&id];
        (task.state, task.attempt, task.reason.clone())
    }

    pub(crate) fn state(&self, id: u8) -> TaskState {
        self.task(id).0
    }
}

pub(crate) const fn held(task: u8, request: u8) -> Named {
    Named { task, request }
}

pub(crate) const fn lease(request: u8) -> Command {
    Command::Lease { worker: 0, request }
}

pub(crate) const fn finish(lease: Named, outcome: Outcome) -> Command {
    Command::Finish { lease, outcome, words: 1, ledger: Ledger::Silent }
}

pub(crate) const fn heartbeat(lease: Named, after: u64) -> Command {
    Command::Heartbeat { lease, after }
}

pub(crate) const fn lease_lost(state: TaskState) -> Answer {
    Answer::Refused(LeaseLost, Some(state))
}

pub(crate) const fn wrong_state(state: TaskState) -> Answer {
    Answer::Refused(WrongState, Some(state))
}

pub(crate) fn why(reason: &str) -> Option<String> {
    Some(reason.to_owned())
}
