//! `doctor`: looks at every prerequisite and every link of the chain, in the order in which one needs the other,
//! and says what it found and what to do.

use std::path::Path;

use clap::Args;
use protocol::QueueName;

use crate::{
    context::Context,
    failure::{Exit, Failure},
    terminal::say,
};

mod agents;
mod attack;
mod check;
mod coordinator;
mod disk;
mod gateway;
mod machine;
mod programs;
mod relay;
mod sandbox;
mod services;
mod settings;
mod task;

use check::{Check, Report};

#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// Also send this repository a small task, which sees from inside a sandbox whether both doors lead out.
    repo: Option<QueueName>,
    /// Attack the sandboxes of every launcher that this machine has from inside instead, in every way that is known
    /// here, and say what held.
    #[arg(long, conflicts_with = "repo")]
    attack: bool,
    /// In Docker's sandboxes take this image, instead of one made of this machine's programs.
    #[arg(long, requires = "attack")]
    image: Option<String>,
    /// One JSON value for programs.
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(config: Option<&Path>, command: &Doctor) -> Result<Exit, Failure> {
    if command.attack {
        return attack::run(command.json, command.image.as_deref());
    }
    let report = Report { checks: all(config, command.repo.as_ref()).await };
    let text = if command.json { serde_json::to_string(&report).unwrap_or_default() } else { report.text() };
    say(text.trim_end())?;
    Ok(if report.is_well() { Exit::Succeeded } else { Exit::Failed })
}

async fn all(config: Option<&Path>, repo: Option<&QueueName>) -> Vec<Check> {
    let mut checks = vec![programs::ours(), programs::git()];
    let context = match Context::read(config) {
        Ok(context) => context,
        Err(failure) => {
            checks.push(settings::bad(&failure));
            return checks;
        }
    };
    checks.push(settings::good(&context, config));
    checks.push(settings::owner_key(&context));
    checks.push(disk::data(&context.folders));
    checks.push(disk::run(&context.folders));
    let coordinator = coordinator::look(&context).await;
    checks.extend(coordinator.checks);
    checks.extend(gateway::look(&context).await);
    checks.push(relay::carries(&context, coordinator.reached).await);
    checks.extend(sandbox::look(config, context.has_key()).await);
    checks.push(machine::user_namespaces());
    checks.extend(agents::look(&context.folders));
    checks.extend(services::look().await);
    checks.push(task::inside(&context, repo, coordinator.answers).await);
    checks
}
