//! `budget`: what may be spent, and what is; asked of the gateway itself, at its admin door.

use clap::{Args, Subcommand};
use protocol::{
    QueueName, TaskId, Usd,
    keys::{BudgetScope, SetBudget},
};

use super::keys::of_gateway;
use crate::{
    context::Context,
    failure::{Exit, Failure},
    money_lines::{budget_table, sentence},
    terminal::say,
};

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Budget {
    /// Print the accounts as JSON, one a line.
    #[arg(long)]
    json: bool,
    #[command(subcommand)]
    command: Option<BudgetCommand>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum BudgetCommand {
    /// Set a limit, or lift it with `none`.
    #[command(subcommand)]
    Set(Scope),
}

#[derive(Debug, Subcommand)]
pub(crate) enum Scope {
    /// All that is spent on a day (UTC), today and from now on.
    Day {
        /// USD, or none.
        limit: Limit,
    },
    /// All that a repository's tasks spend on a day.
    Repo {
        /// The repository.
        name: QueueName,
        /// USD, or none.
        limit: Limit,
    },
    /// A task with its retries.
    Task {
        /// The task.
        id: TaskId,
        /// USD, or none.
        limit: Limit,
    },
}

/// A sum, or none.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limit(Option<Usd>);

impl std::str::FromStr for Limit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Self(None)),
            sum => sum.parse().map(|sum| Self(Some(sum))).map_err(|error| format!("{error}, or none")),
        }
    }
}

impl Scope {
    fn into_set(self) -> SetBudget {
        let (scope, Limit(limit_usd)) = match self {
            Self::Day { limit } => (BudgetScope::Day, limit),
            Self::Repo { name, limit } => (BudgetScope::Repo(name), limit),
            Self::Task { id, limit } => (BudgetScope::Task(id), limit),
        };
        SetBudget { scope, limit_usd }
    }
}

pub(crate) async fn run(context: &Context, command: Budget) -> Result<Exit, Failure> {
    let gateway = context.gateway()?;
    match command.command {
        Some(BudgetCommand::Set(scope)) => {
            let account = gateway.set_budget(&scope.into_set()).await.map_err(of_gateway)?;
            say(&sentence(&account))?;
        }
        None => {
            let list = gateway.budgets().await.map_err(of_gateway)?;
            if command.json {
                for account in &list.budgets {
                    say(&serde_json::to_string(account).map_err(std::io::Error::from)?)?;
                }
            } else {
                say(&budget_table(&list.budgets))?;
            }
        }
    }
    Ok(Exit::Succeeded)
}
