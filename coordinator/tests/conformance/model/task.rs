//! A task, and what may become of it.

use protocol::{Code, TaskState, report::Outcome};

use crate::{
    commands::{Answer, Draft, Order, Seen, TIMEOUT},
    span::{Span, lease_clock},
};

const START_WITHIN: u64 = 30;
const LEASE: u64 = 45;
/// A run that beats and does not end has this much more than its run time.
const RUN_MARGIN: u64 = 600;

#[derive(Debug, Clone)]
pub(super) struct Task {
    pub(super) draft: Draft,
    pub(super) retry_of: Option<u8>,
    /// Its place in the queue.
    pub(super) rank: (i64, i64),
    pub(super) state: TaskState,
    pub(super) attempt: u32,
    pub(super) reason: Option<String>,
    pub(super) pinned: bool,
    /// `None`: not asked for.
    pub(super) approved: Option<bool>,
    pub(super) lease: Lease,
    pub(super) worker: Option<u8>,
    /// Scheduled, ready: not before; leased: start before; running: be heard before.
    pub(super) until: Span,
    pub(super) hard_end: Span,
    pub(super) cancelling: bool,
    pub(super) orders: Vec<Order>,
    pub(super) reports: Vec<Report>,
    pub(super) trail: Vec<(TaskState, u32)>,
    pub(super) ended_at: u64,
}

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Lease {
    pub(super) worker: u8,
    pub(super) request: u8,
    pub(super) token: usize,
}

/// A report that was taken.
#[derive(Debug, Clone)]
pub(super) struct Report {
    pub(super) attempt: u32,
    pub(super) token: usize,
    pub(super) said: (Outcome, u8),
    pub(super) answer: TaskState,
}

impl Task {
    pub(super) fn is_live(&self) -> bool {
        matches!(self.state, TaskState::Leased | TaskState::Running)
    }

    pub(super) fn must(&self, fits: bool) -> Result<(), Answer> {
        if fits { Ok(()) } else { Err(Answer::Refused(Code::WrongState, Some(self.state))) }
    }

    fn to(&mut self, state: TaskState) {
        if self.state != state {
            self.state = state;
            self.trail.push((state, self.attempt));
        }
    }

    fn end(&mut self, state: TaskState, reason: Option<&str>, now: u64) {
        self.reason = reason.map(str::to_owned);
        self.ended_at = now;
        self.to(state);
    }

    pub(super) fn new(draft: Draft, retry_of: Option<u8>, pinned: bool, rank: (i64, i64), now: u64) -> Self {
        let mut task = Self {
            retry_of,
            rank,
            state: TaskState::Held,
            attempt: 0,
            reason: None,
            pinned,
            approved: draft.approval.then_some(false),
            lease: Lease::default(),
            worker: None,
            until: Span::NONE,
            hard_end: Span::NONE,
            cancelling: false,
            orders: Vec::new(),
            reports: Vec::new(),
            trail: Vec::new(),
            ended_at: 0,
            draft,
        };
        task.let_go(now);
        task.trail = vec![(task.state, 0)];
        task
    }

    /// Its queue, whose mirror has the commit now.
    pub(super) fn pin(&mut self, now: u64) -> Result<u8, Answer> {
        self.must(self.state == TaskState::Held && !self.pinned)?;
        self.pinned = true;
        self.let_go(now);
        Ok(self.draft.queue)
    }

    pub(super) fn refuse_source(&mut self, now: u64) -> Result<(), Answer> {
        self.must(self.state == TaskState::Held && !self.pinned)?;
        self.end(TaskState::Failed, Some("no_base"), now);
        Ok(())
    }

    pub(super) fn approve(&mut self, now: u64) -> Result<(), Answer> {
        if self.approved != Some(true) {
            self.must(self.state == TaskState::Held && self.approved == Some(false))?;
            self.approved = Some(true);
            self.let_go(now);
        }
        Ok(())
    }

    pub(super) fn take(&mut self, lease: Lease, now: u64) {
        self.lease = lease;
        self.worker = Some(lease.worker);
        self.attempt += 1;
        self.reason = None;
        self.until = Span::about(now + START_WITHIN);
        self.hard_end = self.until.later(TIMEOUT + RUN_MARGIN);
        self.to(TaskState::Leased);
    }

    pub(super) fn start(&mut self, now: u64) {
        self.until = Span::at(now + LEASE);
        self.to(TaskState::Running);
    }

    /// Its orders after that one.
    pub(super) fn beat(&mut self, after: u64, now: u64) -> Result<Answer, Answer> {
        if self.state != TaskState::Running {
            return Err(Answer::Refused(Code::LeaseLost, Some(self.state)));
        }
        self.until = Span::at(now + LEASE);
        let orders = (1..).zip(self.orders.iter().copied());
        Ok(Answer::Orders(orders.filter(|(n, _)| *n > after).collect()))
    }

    pub(super) fn finish(&mut self, (outcome, words): (Outcome, u8), now: u64) {
        let reason = (words > 0).then(|| format!("w{words}"));
        let state = match outcome {
            Outcome::Succeeded => TaskState::Succeeded,
            Outcome::Failed => TaskState::Failed,
            Outcome::TimedOut => TaskState::TimedOut,
            Outcome::Cancelled => TaskState::Cancelled,
            Outcome::Lost => return self.lose(reason.as_deref().unwrap_or("lost"), now),
        };
        self.end(state, reason.as_deref(), now);
    }

    /// After a crash, by the clock of who begins again: leases that stand get their full time, and so do runs whose hard
    /// end seems to have passed meanwhile, since the clock may have been set.
    pub(super) fn taken_up(&mut self, now: u64) {
        match self.state {
            TaskState::Leased => self.until = Span::about(lease_clock(now) + START_WITHIN),
            TaskState::Running => {
                self.until = Span::about(lease_clock(now) + LEASE);
                if self.hard_end.has_begun(now) {
                    self.hard_end = Span::about(lease_clock(now) + START_WITHIN + TIMEOUT + RUN_MARGIN);
                }
            }
            _ => {}
        }
    }

    /// As far as nothing holds it.
    fn let_go(&mut self, now: u64) {
        let (state, reason) = match self.draft.not_before {
            _ if !self.pinned => (TaskState::Held, Some("source")),
            _ if self.approved == Some(false) => (TaskState::Held, Some("approval")),
            Some(due) if due > now => (TaskState::Scheduled, None),
            _ => (TaskState::Ready, None),
        };
        self.reason = reason.map(str::to_owned);
        let scheduled = self.draft.not_before.filter(|_| state == TaskState::Scheduled);
        self.until = scheduled.map_or(Span::NONE, Span::at);
        self.to(state);
    }

    pub(super) fn cancel(&mut self, now: u64) -> Result<(), Answer> {
        self.must(!self.state.is_terminal())?;
        if self.state != TaskState::Running {
            self.attempt -= u32::from(self.state == TaskState::Leased);
            self.end(TaskState::Cancelled, None, now);
        } else if !self.cancelling {
            self.cancelling = true;
            self.orders.push(Order::Cancel);
        }
        Ok(())
    }

    pub(super) fn message(&mut self, id: Option<u8>) -> Result<Answer, Answer> {
        let same = |order: &Order| id.is_some() && *order == Order::Message(id);
        let known = self.orders.iter().position(same);
        if known.is_none() && !self.draft.agent {
            return Err(Answer::Refused(Code::Invalid, None));
        }
        if known.is_none() {
            self.must(self.state == TaskState::Running && !self.cancelling)?;
            self.orders.push(Order::Message(id));
        }
        Ok(Answer::Told(known.map_or(self.orders.len(), |at| at + 1) as u64))
    }

    pub(super) fn leased(&self) -> Answer {
        Answer::Leased { task: self.draft.id, attempt: self.attempt, token: self.lease.token }
    }

    /// It was not started, and so it burns no attempt.
    pub(super) fn give_back(&mut self, reason: &str, not_before: Span) {
        self.attempt -= 1;
        self.reason = Some(reason.to_owned());
        self.until = not_before;
        self.to(TaskState::Ready);
    }

    pub(super) fn lose(&mut self, reason: &str, now: u64) {
        if self.cancelling {
            return self.end(TaskState::Cancelled, Some(reason), now);
        }
        if self.attempt == self.draft.attempts {
            return self.end(TaskState::Lost, Some(reason), now);
        }
        self.reason = Some(reason.to_owned());
        let pause = [1, 4, 16, 60][self.attempt.min(4) as usize - 1];
        self.until = Span::between(now + pause, now + pause + pause.div_ceil(2));
        self.to(TaskState::Scheduled);
    }

    /// What time brings about.
    pub(super) fn reap(&mut self, now: u64) {
        let over = self.until.is_over(now);
        match self.state {
            TaskState::Leased if over => self.give_back("not_started", Span::NONE),
            TaskState::Running if over => self.lose("lease_expired", now),
            TaskState::Running if self.hard_end.is_over(now) => {
                let state = if self.cancelling { TaskState::Cancelled } else { TaskState::TimedOut };
                self.end(state, Some("overrun"), now);
            }
            TaskState::Scheduled if over => {
                self.until = Span::NONE;
                self.to(TaskState::Ready);
            }
            _ => {}
        }
    }

    pub(super) fn seen(&self) -> Seen {
        let report = self.reports.iter().rfind(|report| report.attempt == self.attempt);
        Seen {
            queue: self.draft.queue,
            state: self.state,
            attempt: self.attempt,
            reason: self.reason.clone(),
            orders: self.orders.len() as u64,
            worker: self.worker,
            key: self.draft.key,
            retry_of: self.retry_of,
            pinned: self.pinned,
            words: report.map(|report| report.said.1),
            trail: self.trail.clone(),
        }
    }
}
