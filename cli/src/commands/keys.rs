//! `keys`: the gateway's virtual keys, and some of the owner's own. Asked of the gateway itself, at its admin door.

use clap::{Args, Subcommand};
use jiff::Timestamp;
use protocol::{
    QueueName, TaskId, Usd,
    ids::KeyName,
    keys::{KeyInfo, KeyLimits, MintOwnerKey},
};

use super::send::start_time;
use crate::{
    context::Context,
    failure::{Exit, Failure},
    money_lines::{key_lines, key_table},
    terminal::{note, say},
};

#[derive(Debug, Subcommand)]
pub(crate) enum KeysCommand {
    /// List the keys that are known, the latest to end first.
    List {
        /// Print the keys as JSON, one a line.
        #[arg(long)]
        json: bool,
    },
    /// Make a key of your own, or make it again: the same name brings the same key. It is printed once.
    Mint(Mint),
    /// Refuse a key from now on.
    Revoke {
        /// The name of a key of your own, or TASK/ATTEMPT.
        key: Named,
    },
    /// Say how a key stands, but not the key.
    Show {
        /// The name of a key of your own, or TASK/ATTEMPT.
        key: Named,
        /// Print it as JSON.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Mint {
    /// What it is called.
    name: KeyName,
    /// What it may spend, such as 2.50.
    #[arg(long, value_name = "USD")]
    budget: Usd,
    /// When it ends: a time such as 2030-01-31T18:00:00Z, or after a duration such as 12h.
    #[arg(long, value_name = "TIME", default_value = "30d", value_parser = start_time)]
    expires: Timestamp,
    /// Charge it to this repository's day as well.
    #[arg(long, value_name = "REPO")]
    repo: Option<QueueName>,
    /// Requests in any minute.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    requests_per_minute: Option<u32>,
    /// Tokens in any minute, in and out.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    tokens_per_minute: Option<u64>,
    /// Requests at once.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    concurrent: Option<u32>,
    /// A model that may be asked, such as claude-*; may be said again. Without it, all that have a price.
    #[arg(long = "model", value_name = "MODEL")]
    models: Vec<String>,
}

/// Which key.
#[derive(Debug, Clone)]
pub(crate) enum Named {
    Own(KeyName),
    OfTask(TaskId, u32),
}

impl std::str::FromStr for Named {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('/') {
            None => text.parse().map(Self::Own).map_err(|error| error.to_string()),
            Some((task, attempt)) => {
                let task = task.parse().map_err(|error: protocol::ids::BadName| error.to_string())?;
                let attempt =
                    attempt.parse().map_err(|_| format!("{attempt:?} is not the number of an attempt"))?;
                Ok(Self::OfTask(task, attempt))
            }
        }
    }
}

pub(crate) async fn run(context: &Context, command: KeysCommand) -> Result<Exit, Failure> {
    match command {
        KeysCommand::List { json } => list(context, json).await?,
        KeysCommand::Mint(mint) => make(context, mint).await?,
        KeysCommand::Revoke { key } => revoke(context, key).await?,
        KeysCommand::Show { key, json } => {
            let info = find(context, &key).await?;
            say(&if json { as_json(&info)? } else { key_lines(&info) })?;
        }
    }
    Ok(Exit::Succeeded)
}

async fn list(context: &Context, json: bool) -> Result<(), Failure> {
    let list = context.gateway()?.keys().await.map_err(of_gateway)?;
    if !json {
        return Ok(say(&key_table(&list.keys))?);
    }
    list.keys.iter().try_for_each(|key| Ok(say(&as_json(key)?)?))
}

async fn make(context: &Context, mint: Mint) -> Result<(), Failure> {
    let limits = KeyLimits {
        requests_per_minute: mint.requests_per_minute,
        tokens_per_minute: mint.tokens_per_minute,
        concurrent: mint.concurrent,
        models: mint.models,
    };
    let wanted = MintOwnerKey {
        name: mint.name,
        budget_usd: mint.budget,
        queue: mint.repo,
        expires_at: mint.expires,
        limits,
    };
    let gateway = context.gateway()?;
    let minted = gateway.mint_owner(&wanted).await.map_err(of_gateway)?;
    say(minted.key.expose())?;
    let info = gateway.owner_key(&wanted.name).await.map_err(of_gateway)?;
    note(&key_lines(&info));
    Ok(())
}

async fn revoke(context: &Context, key: Named) -> Result<(), Failure> {
    // A task's key that was never minted would be refused for ever by this.
    find(context, &key).await?;
    let gateway = context.gateway()?;
    match key {
        Named::Own(name) => {
            let info = gateway.revoke_owner(&name).await.map_err(of_gateway)?;
            say(&format!("{name} is revoked; it has spent {} USD", info.spent_usd))?;
        }
        Named::OfTask(task, attempt) => {
            let usage = gateway.revoke(&task, attempt).await.map_err(of_gateway)?;
            say(&format!("{task}/{attempt} is revoked; its task has spent {} USD", usage.spent_usd))?;
        }
    }
    Ok(())
}

async fn find(context: &Context, key: &Named) -> Result<KeyInfo, Failure> {
    let gateway = context.gateway()?;
    let found = match key {
        Named::Own(name) => gateway.owner_key(name).await,
        Named::OfTask(task, attempt) => gateway.task_key(task, *attempt).await,
    };
    found.map_err(|error| {
        let remedy = "those that there are: code-workers keys list";
        Failure::refused(error, protocol::Code::NotFound, remedy).at_the_gateway()
    })
}

fn as_json(key: &KeyInfo) -> std::io::Result<String> {
    Ok(serde_json::to_string(key)?)
}

/// What the gateway's admin door refused, or that it is not there.
pub(super) fn of_gateway(error: protocol::client::ClientError) -> Failure {
    Failure::from(error).at_the_gateway()
}
