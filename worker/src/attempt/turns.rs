//! The agent's turns: the first with the task's prompt, further ones with what its owner says meanwhile.

use std::io;

use protocol::{report::Outcome, task::Work};

use super::Attempt;
use crate::{
    home,
    launch::{self, Agent, CannotLaunch, Launch},
    messages::{self, Message},
    output::Seen,
    run::{self, Ended},
    verdict::Verdict,
};

/// Why an agent hears nothing more.
const ITS_END: &str = "it had ended for good";

impl Attempt<'_> {
    /// The agent, for as many turns as there are messages for it, and one.
    pub(super) async fn run(&self) -> Result<(Verdict, Seen), Verdict> {
        let (agent, first) = self.find().map_err(|error| {
            self.output.error(&error.to_string());
            Verdict::failed(format!("{}: {error}", word(&error)))
        })?;
        let files = agent.as_ref().map(Agent::files).unwrap_or_default();
        home::make(self.places, &files).map_err(|error| self.broken("the agent's HOME", &error))?;
        if agent.as_ref().is_some_and(|agent| !agent.goes_on()) {
            self.tell_unheard("its file has no `continue`, so the agent is run once");
        }
        let mut ended = self.turn(&first, &[]).await?;
        let mut seen = self.output.take_seen();
        while let Some((launch, messages)) = agent.as_ref().and_then(|agent| self.next_turn(agent, ended)) {
            ended = self.turn(&launch, &messages).await?;
            seen = seen.then(self.output.take_seen());
        }
        Ok((Verdict::of(ended, seen.failure.as_ref(), self.timeout()), seen))
    }

    fn find(&self) -> Result<(Option<Agent>, Launch), CannotLaunch> {
        match &self.task.work {
            Work::Exec { argv } => Ok((None, launch::exec(self.places, argv))),
            Work::Agent { prompt, agent, model } => {
                let name = agent.as_ref().unwrap_or(self.default_agent);
                let agent = Agent::find(self.places, name, model.as_deref(), self.key, self.provider_paths)?;
                let first = agent.begin(prompt);
                Ok((Some(agent), first))
            }
        }
    }

    /// What the agent is to be told after it has ended by itself.
    fn next_turn(&self, agent: &Agent, ended: Ended) -> Option<(Launch, Vec<Message>)> {
        if matches!(ended, Ended::Stopped(_)) || self.stopper.said().is_some() {
            return None;
        }
        let messages = self.mailbox.next_turn_or_close(ITS_END);
        let launch = agent.go_on(&messages::prompt(&messages)).filter(|_| !messages.is_empty());
        launch.map(|launch| (launch, messages))
    }

    /// One run of the program. The messages are what it is told with it.
    async fn turn(&self, launch: &Launch, messages: &[Message]) -> Result<Ended, Verdict> {
        if let Some(why) = self.stopper.said() {
            return Ok(Ended::Stopped(why));
        }
        let broken = |error: &io::Error| self.broken("the helper that starts programs", error);
        if let Some(prompt) = &launch.prompt_file {
            home::write_prompt(self.places, prompt)
                .map_err(|error| self.broken("the prompt's file", &error))?;
        }
        let running = run::start(self.places, launch).map_err(|error| broken(&error))?;
        for message in messages {
            self.output.message(message);
            self.mailbox.handed_over(message.seq);
        }
        running.end(self.output, self.stopper).await.map_err(|error| broken(&error))
    }

    /// Says of every message that no agent has heard, and of those that come from now on, that none will.
    pub(super) fn hear_no_more(&self, verdict: &Verdict) {
        match verdict.outcome {
            Outcome::Lost => {
                self.tell_unheard("this attempt is lost; if there is another, its agent gets it");
            }
            _ => self.tell_unheard(ITS_END),
        }
    }

    fn tell_unheard(&self, why: &str) {
        for message in self.mailbox.close(why) {
            self.output.unheard(message.seq, why);
        }
    }
}

fn word(error: &CannotLaunch) -> &'static str {
    match error {
        CannotLaunch::Agent(_) => "agent_unusable",
        CannotLaunch::Model(_) => "model_unsupported",
        CannotLaunch::Missing { .. } => "agent_missing",
        CannotLaunch::NoKey => "no_key",
    }
}
