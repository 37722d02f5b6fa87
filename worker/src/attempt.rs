//! One attempt at a task, from the start of its lease to what is to be reported.

mod turns;

use std::{io, time::Duration};

use protocol::{
    Code, Secret,
    ids::AgentName,
    lease::Assignment,
    limits,
    report::{DiffStat, Stage, Tokens},
    task::{Artifact, Work},
};
use tokio::time::Instant;

use crate::{
    agent_user,
    artifacts::{self, Store},
    control::{Stop, Stopper},
    git::{self, CheckoutError},
    home,
    messages::Mailbox,
    output::{Output, Seen},
    places::Places,
    verdict::Verdict,
};

/// How long it may take to make the branch and to take all files. Well below the time that the coordinator gives to
/// what is around the agent's run, so that a report still comes.
const TAKE_WITHIN: Duration = Duration::from_secs(240);
/// The same once the sandbox is told to end: its keeper waits no longer than a minute after the agent's grace.
const TAKE_WITHIN_AT_THE_END: Duration = Duration::from_secs(30);

/// What the attempt is about.
pub struct Attempt<'a> {
    /// Where things are.
    pub places: &'a Places,
    /// The task.
    pub task: &'a Assignment,
    /// Where its base comes from.
    pub base: git::Base<'a>,
    /// For tasks that name no agent.
    pub default_agent: &'a AgentName,
    /// What the start brought.
    pub key: Option<&'a Secret>,
    /// Whether the gateway has each provider's API below its name.
    pub provider_paths: bool,
    /// Where all output goes.
    pub output: &'a Output,
    /// Where artifacts go.
    pub store: &'a Store,
    /// Tells of a reason to stop.
    pub stopper: &'a Stopper,
    /// Messages for the agent. Closed when the agent has ended for good.
    pub mailbox: &'a Mailbox,
}

/// What came of it.
#[derive(Debug)]
pub struct Made {
    /// How it ended.
    pub verdict: Verdict,
    /// The agent's last words.
    pub message: Option<String>,
    /// The branch's tip.
    pub head: Option<String>,
    /// What the branch changes.
    pub diff: DiffStat,
    /// What the agent counted.
    pub tokens: Tokens,
    /// How long each part took.
    pub stages: Vec<Stage>,
    /// In the outbox, all but the log.
    pub artifacts: Vec<Artifact>,
}

impl Attempt<'_> {
    /// Does it all. Never fails: what goes wrong is a verdict.
    pub async fn make(&self) -> Made {
        let mut made = Made {
            verdict: Verdict::lost("unfinished"),
            message: None,
            head: None,
            diff: DiffStat::default(),
            tokens: Tokens::default(),
            stages: Vec::new(),
            artifacts: Vec::new(),
        };
        if let Err(verdict) = self.stage("checkout", &mut made.stages, self.check_out()).await {
            self.hear_no_more(&verdict);
            made.verdict = verdict;
            return made;
        }
        let ran = self.stage("agent", &mut made.stages, self.run()).await;
        self.hear_no_more(ran.as_ref().map_or_else(|verdict| verdict, |(verdict, _)| verdict));
        match ran {
            Ok((verdict, seen)) => self.keep_seen(&mut made, verdict, seen),
            Err(verdict) => {
                made.verdict = verdict;
                return made;
            }
        }
        self.take_in_time(&mut made).await;
        made
    }

    async fn take_in_time(&self, made: &mut Made) {
        let began = Instant::now();
        self.output.stage("commit");
        let too_late = tokio::select! {
            () = self.take(made) => None,
            () = tokio::time::sleep(TAKE_WITHIN) => Some(TAKE_WITHIN),
            () = self.end_of_the_sandbox() => Some(TAKE_WITHIN_AT_THE_END),
        };
        if let Some(within) = too_late {
            made.verdict = made.verdict.clone().without_results(within);
            self.output.error("the results took too long: what was not taken by then is lost");
            self.end_left_over().await;
        }
        made.stages.push(stage("commit", began));
    }

    async fn end_of_the_sandbox(&self) {
        if self.stopper.stopped().await != Stop::Drained {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(TAKE_WITHIN_AT_THE_END).await;
    }

    async fn stage<T>(&self, name: &str, stages: &mut Vec<Stage>, work: impl Future<Output = T>) -> T {
        let began = Instant::now();
        self.output.stage(name);
        let done = work.await;
        stages.push(stage(name, began));
        done
    }

    /// A work tree at the base; the verdict when there is none.
    async fn check_out(&self) -> Result<(), Verdict> {
        git::prepare(self.places).map_err(|error| self.broken("the scratch folder", &error))?;
        let checkout = git::checkout(self.places, self.base, &self.task.base_commit, &self.task.branch);
        tokio::select! {
            done = checkout => done.map_err(|error| self.no_checkout(&error)),
            why = self.stopper.stopped() => {
                let _ = agent_user::end_all(self.places).await;
                Err(Verdict::stopped(why, self.timeout()))
            }
        }
    }

    fn keep_seen(&self, made: &mut Made, verdict: Verdict, seen: Seen) {
        let plain = || Some(seen.stdout.text()).filter(|text| !text.is_empty());
        let words = seen.last_text.or_else(|| if seen.failure.is_none() { plain() } else { None });
        made.message = words.map(|words| start_of(words, limits::MESSAGE_BYTES));
        made.tokens = seen.tokens;
        made.verdict = verdict;
    }

    /// The branch, and the files that the agent hands over. What an `exec` task changes is not taken.
    async fn take(&self, made: &mut Made) {
        if let Work::Agent { prompt, .. } = &self.task.work {
            let (base, branch) = (&self.task.base_commit, &self.task.branch);
            let message = commit_message(prompt, self.task.id.as_str());
            if let Err(error) = home::make_result(self.places) {
                self.output.note(&format!("no folder for the result: {error}"));
            }
            let taken = git::take(self.places, self.base, base, branch, &message).await;
            self.end_left_over().await;
            match taken {
                Ok(taken) => {
                    let outputs = git::outputs(&taken, base, branch, self.store).await;
                    taken.notes.iter().chain(&outputs.notes).for_each(|note| self.output.note(note));
                    (made.head, made.diff) = (taken.head, outputs.diff);
                    made.artifacts.extend(outputs.artifacts);
                }
                Err(error) => self.output.error(&format!("the branch is lost: {error}")),
            }
        }
        let notes = artifacts::collect(self.places, self.store, &mut made.artifacts).await;
        notes.iter().for_each(|note| self.output.note(note));
    }

    /// A filter of the agent's own configuration may have left something running.
    async fn end_left_over(&self) {
        if let Err(error) = agent_user::end_all(self.places).await {
            self.output.note(&format!("not all processes ended after the commit: {error}"));
        }
    }

    fn no_checkout(&self, error: &CheckoutError) -> Verdict {
        self.output.error(&error.to_string());
        match error {
            CheckoutError::NoSuchBase(_) => Verdict::failed(format!("no_such_base: {error}")),
            CheckoutError::Door(why) if why.code() == Some(Code::TooLarge) => {
                Verdict::failed(format!("base_too_large: {error}"))
            }
            // Another attempt may find the door open.
            CheckoutError::Door(_) => Verdict::lost(format!("base_unavailable: {error}")),
            CheckoutError::Git(_) | CheckoutError::NoBundle(_) => {
                Verdict::failed(format!("checkout_failed: {error}"))
            }
        }
    }

    fn broken(&self, what: &str, error: &io::Error) -> Verdict {
        self.output.error(&format!("{what}: {error}"));
        Verdict::lost(format!("sandbox_broken: {what}: {error}"))
    }

    fn timeout(&self) -> Duration {
        Duration::from_secs(self.task.timeout_s)
    }
}

/// Says that the run time is over, when it is.
pub async fn limit_time(timeout: Duration, stopper: &Stopper) {
    tokio::time::sleep(timeout).await;
    stopper.stop(Stop::TimedOut);
}

fn stage(name: &str, began: Instant) -> Stage {
    let ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    Stage { name: name.to_owned(), ms }
}

/// The prompt's first line, short enough for a subject, and the task.
fn commit_message(prompt: &str, task: &str) -> String {
    let line = prompt.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or(task);
    let subject: String = line.chars().filter(|c| !c.is_control()).take(72).collect();
    format!("{subject}\n\nTask: {task}\n")
}

fn start_of(mut text: String, most: usize) -> String {
    let mut end = most.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text
}
