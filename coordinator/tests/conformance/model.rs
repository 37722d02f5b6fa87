//! What a user is promised, as a small program: no disk, no threads, no crash. Written after `docs/protocol.md`, not
//! after the coordinator's code, and to be believed by reading.

mod task;
mod view;

use std::collections::{BTreeMap, BTreeSet};

use protocol::{Code, TaskState, queue::QueueMode, report::Outcome, task::Priority};

use self::task::{Lease, Report, Task};
use crate::{
    commands::{Answer, Base, Command, Draft, Ledger, MAX_RUNNING, Named, QUEUES},
    span::{Span, lease_clock},
};

#[derive(Debug, Clone)]
pub(crate) struct Model {
    pub(crate) now: u64,
    /// To what was asked last.
    pub(crate) answer: Answer,
    tasks: BTreeMap<u8, Task>,
    /// Tasks that were forgotten.
    pub(crate) past: BTreeSet<u8>,
    queues: Vec<Queue>,
    /// Workers that have ended, and when; `None`: forgotten.
    ended: BTreeMap<u8, Option<u64>>,
    keys: BTreeSet<(u8, u32)>,
    /// What each lease request brought last: a token.
    won: BTreeMap<u8, usize>,
    tokens: usize,
    accepted: i64,
}

#[derive(Debug, Clone)]
struct Queue {
    mode: QueueMode,
    max_running: u32,
    has_commit: bool,
}

type Answered = Result<Answer, Answer>;

fn refused(code: Code) -> Answer {
    Answer::Refused(code, None)
}

impl Model {
    pub(crate) fn new() -> Self {
        let queue = Queue { mode: QueueMode::Open, max_running: 0, has_commit: false };
        Self {
            now: 0,
            answer: Answer::Done,
            tasks: BTreeMap::new(),
            past: BTreeSet::new(),
            queues: vec![queue; QUEUES.into()],
            ended: BTreeMap::new(),
            keys: BTreeSet::new(),
            won: BTreeMap::new(),
            tokens: 0,
            accepted: 0,
        }
    }

    pub(crate) fn ask(&mut self, command: &Command) {
        let before = self.clone();
        self.answer = self.answer_to(command).unwrap_or_else(|refusal| {
            *self = before;
            refusal
        });
    }

    fn answer_to(&mut self, command: &Command) -> Answered {
        let now = self.now;
        match *command {
            Command::Submit(ref drafts) => {
                let taken = drafts.iter().map(|draft| self.submit(draft.clone(), None));
                return taken.collect::<Result<_, _>>().map(Answer::Taken);
            }
            Command::Repeat { of, id } => self.repeat(of, id)?,
            Command::Pin(id) => {
                let queue = self.task(id)?.pin(now)?;
                self.queues[usize::from(queue)].has_commit = true;
            }
            Command::RefuseSource(id) => self.task(id)?.refuse_source(now)?,
            Command::Approve(id) => self.task(id)?.approve(now)?,
            Command::Cancel(id) => self.task(id)?.cancel(now)?,
            Command::Message { task, id } => return self.task(task)?.message(id),
            Command::Lease { worker, request } => return self.lease(worker, request),
            Command::Start(lease) => {
                let task = self.standing(lease)?;
                task.start(now);
                let (agent, attempt) = (task.draft.agent, task.attempt);
                self.keys.extend(agent.then_some((lease.task, attempt)));
            }
            Command::Heartbeat { lease, after } => return self.standing(lease)?.beat(after, now),
            Command::GiveBack { lease, pause } => {
                let task = self.standing(lease)?;
                task.must(task.state == TaskState::Leased)?;
                task.give_back("back", Span::not_before(lease_clock(now) + pause));
            }
            Command::Finish { lease, outcome, words, ledger } => {
                return self.finish(lease, (outcome, words), ledger);
            }
            Command::EndWorker(worker) => self.end_worker(worker)?,
            Command::Change { queue, mode, max_running } => {
                let queue =
                    self.queues.get_mut(usize::from(queue)).ok_or(refused(Code::UnknownRepository))?;
                queue.mode = mode.unwrap_or(queue.mode);
                queue.max_running = max_running.unwrap_or(queue.max_running);
                return Ok(Answer::Queue(queue.mode, queue.max_running));
            }
            Command::Settle(Ledger::Settled) => {
                let asked = self.unsettled();
                self.keys.retain(|key| !asked.contains(key));
            }
            Command::Settle(_) => {}
            Command::Forget { older } => self.forget(older),
            Command::Advance(seconds) => self.now += seconds,
            Command::Reap => self.tasks.values_mut().for_each(|task| task.reap(now)),
            Command::Crash => self.tasks.values_mut().for_each(|task| task.taken_up(now)),
            Command::Together(ref all) => {
                let answers = all.iter().map(|command| {
                    self.ask(command);
                    self.answer.clone()
                });
                return Ok(Answer::All(answers.collect()));
            }
        }
        Ok(Answer::Done)
    }

    fn task(&mut self, id: u8) -> Result<&mut Task, Answer> {
        self.tasks.get_mut(&id).ok_or(refused(Code::UnknownTask))
    }

    /// The task of a lease that stands.
    fn standing(&mut self, lease: Named) -> Result<&mut Task, Answer> {
        let token = self.won.get(&lease.request).copied();
        let task = self.task(lease.task)?;
        if task.is_live() && token == Some(task.lease.token) {
            return Ok(task);
        }
        Err(Answer::Refused(Code::LeaseLost, Some(task.state)))
    }

    /// Whether it is new.
    fn submit(&mut self, draft: Draft, repeats: Option<&Task>) -> Result<bool, Answer> {
        let retry_of = repeats.map(|old| old.draft.id);
        if let Some(known) = self.tasks.get(&draft.id) {
            let same = known.retry_of == retry_of && (retry_of.is_some() || known.draft == draft);
            return if same { Ok(false) } else { Err(Answer::Refused(Code::TaskIdTaken, Some(known.state))) };
        }
        let queue = self.queues.get(usize::from(draft.queue)).ok_or(refused(Code::UnknownRepository))?;
        if queue.mode == QueueMode::Draining {
            return Err(refused(Code::QueueDraining));
        }
        let holds = |other: &Task| {
            !other.state.is_terminal() && (other.draft.queue, other.draft.key) == (draft.queue, draft.key)
        };
        if draft.key.is_some() && self.tasks.values().any(holds) {
            return Err(refused(Code::UniqueKeyTaken));
        }
        self.accepted += 1;
        let known = draft.base == Base::Known || (draft.base == Base::Commit && queue.has_commit);
        let pinned = repeats.map_or(known, |old| old.pinned);
        let rank = (self.now.cast_signed() - head_start(draft.priority), self.accepted);
        let task = Task::new(draft, retry_of, pinned, rank, self.now);
        self.tasks.insert(task.draft.id, task);
        Ok(true)
    }

    fn repeat(&mut self, of: u8, id: u8) -> Result<(), Answer> {
        if let Some(known) = self.tasks.get(&id) {
            let taken = Answer::Refused(Code::TaskIdTaken, Some(known.state));
            return if known.retry_of == Some(of) { Ok(()) } else { Err(taken) };
        }
        let old = self.task(of)?.clone();
        old.must(old.state.is_terminal())?;
        let draft =
            Draft { id, not_before: None, approval: old.approved == Some(false), ..old.draft.clone() };
        self.submit(draft, Some(&old)).map(|_| ())
    }

    fn lease(&mut self, worker: u8, request: u8) -> Answered {
        let now = lease_clock(self.now);
        let again =
            |task: &&Task| task.is_live() && (task.lease.worker, task.lease.request) == (worker, request);
        if let Some(task) = self.tasks.values().find(again) {
            self.won.insert(request, task.lease.token);
            return Ok(task.leased());
        }
        if self.ended.contains_key(&worker) {
            return Err(refused(Code::WrongKey));
        }
        let of_queue = worker % QUEUES;
        let queue = &self.queues[usize::from(of_queue)];
        let running = |of: Option<u8>| {
            let counts = |task: &&Task| task.is_live() && of.is_none_or(|of| task.draft.queue == of);
            self.tasks.values().filter(counts).count()
        };
        let room = queue.max_running == 0 || running(Some(of_queue)) < queue.max_running as usize;
        if queue.mode == QueueMode::Paused || !room || running(None) >= MAX_RUNNING as usize {
            return Ok(Answer::NoTask);
        }
        let waits = |task: &&mut Task| {
            task.state == TaskState::Ready && task.draft.queue == of_queue && task.until.is_over(now)
        };
        let Some(task) = self.tasks.values_mut().filter(waits).min_by_key(|task| task.rank) else {
            return Ok(Answer::NoTask);
        };
        self.tokens += 1;
        self.won.insert(request, self.tokens);
        task.take(Lease { worker, request, token: self.tokens }, now);
        Ok(task.leased())
    }

    fn finish(&mut self, lease: Named, said: (Outcome, u8), ledger: Ledger) -> Answered {
        let token = self.won.get(&lease.request).copied().unwrap_or(0);
        let before = |report: &&Report| (report.token, report.said) == (token, said);
        if let Some(report) = self.task(lease.task)?.reports.iter().find(before) {
            return Ok(Answer::Accepted(report.answer));
        }
        let now = self.now;
        let task = self.standing(lease)?;
        task.must(task.state == TaskState::Running)?;
        task.finish(said, now);
        let (attempt, answer) = (task.attempt, task.state);
        task.reports.push(Report { attempt, token, said, answer });
        if ledger == Ledger::Settled {
            self.keys.remove(&(lease.task, attempt));
        }
        Ok(Answer::Accepted(answer))
    }

    fn end_worker(&mut self, worker: u8) -> Result<(), Answer> {
        if self.ended.entry(worker).or_insert(Some(self.now)).is_none() {
            return Err(refused(Code::UnknownWorker));
        }
        let has = |task: &&mut Task| task.is_live() && task.lease.worker == worker;
        for task in self.tasks.values_mut().filter(has) {
            match task.state {
                TaskState::Leased => task.give_back("gone", Span::NONE),
                _ => task.lose("gone", self.now),
            }
        }
        Ok(())
    }

    fn forget(&mut self, older: u64) {
        let Some(before) = self.now.checked_sub(older) else { return };
        let wanted: BTreeSet<Base> = self
            .tasks
            .values()
            .filter(|task| task.state == TaskState::Held)
            .map(|task| task.draft.base)
            .collect();
        let keys = &self.keys;
        let goes = |id: &u8, task: &mut Task| {
            let busy = wanted.contains(&Base::ResultOf(*id)) || keys.iter().any(|(of, _)| of == id);
            task.state.is_terminal() && task.ended_at <= before && !busy
        };
        self.past.extend(self.tasks.extract_if(.., goes).map(|(id, _)| id));
        for at in self.ended.values_mut().filter(|at| at.is_some_and(|at| at <= before)) {
            *at = None;
        }
    }
}

/// How many seconds earlier a task stands in its queue than it came: older ones of a lower priority pass newer ones.
fn head_start(priority: Priority) -> i64 {
    const HOUR: i64 = 3_600;
    match priority {
        Priority::Critical => 6 * HOUR,
        Priority::High => HOUR,
        Priority::Normal => 0,
        Priority::Low => -HOUR,
    }
}
