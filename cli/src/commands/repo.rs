//! `repo`: the repositories that tasks can be sent to.

use std::path::Path;

use clap::Subcommand;
use protocol::{QueueName, repo::NewRepo};

use crate::{
    context::Context,
    failure::{Exit, Failure},
    terminal::{clean, say},
};

#[derive(Debug, Subcommand)]
pub(crate) enum RepoCommand {
    /// Register a repository under a name.
    Add {
        /// The name, which tasks are sent to.
        name: String,
        /// A folder, or a URL that git can fetch from.
        #[arg(value_name = "PATH-OR-URL")]
        source: String,
    },
    /// List what is registered.
    List,
    /// Forget a repository. The repository itself stays as it is.
    Remove {
        /// Its name.
        name: String,
    },
}

pub(crate) async fn run(context: &Context, command: RepoCommand) -> Result<Exit, Failure> {
    let client = context.client()?;
    match command {
        RepoCommand::Add { name, source } => {
            let repo = client.add_repo(&NewRepo { name, source: absolute(source)? }).await?;
            say(&format!("{}  {}", repo.name, clean(&repo.source)))?;
        }
        RepoCommand::List => {
            for repo in client.repos().await? {
                say(&format!("{}  {}", repo.name, clean(&repo.source)))?;
            }
        }
        RepoCommand::Remove { name } => {
            let name: QueueName =
                name.parse().map_err(|error| Failure::new(Exit::Usage, format!("{error}")))?;
            client.remove_repo(&name).await?;
            say(&format!("{name} is removed"))?;
        }
    }
    Ok(Exit::Succeeded)
}

/// The source as the coordinator, which has another working folder, can use it.
fn absolute(source: String) -> Result<String, Failure> {
    if !Path::new(&source).exists() && is_remote(&source) {
        return Ok(source);
    }
    let path = std::path::absolute(&source)
        .map_err(|error| Failure::new(Exit::Usage, format!("{source:?} is not a path: {error}")))?;
    // `.` and `..` go where the path is there; one that is not is for the coordinator to refuse.
    let path = path.canonicalize().unwrap_or(path);
    path.into_os_string().into_string().map_err(|path| {
        Failure::new(Exit::Usage, format!("{} is not UTF-8\nrename the folder", path.display()))
    })
}

/// By git's own rule: a scheme, or a colon before the first slash (`user@host:path`).
fn is_remote(source: &str) -> bool {
    source.contains("://") || source.split('/').next().is_some_and(|first| first.contains(':'))
}

#[cfg(test)]
mod tests {
    use super::{absolute, is_remote};

    #[test]
    fn urls_stay_and_paths_become_absolute() {
        for url in ["https://host/x.git", "ssh://u@h/x", "git@host:x/y.git", "host:x", "file:///x"] {
            assert!(is_remote(url), "{url}");
            assert_eq!(absolute(url.to_owned()).unwrap(), url);
        }
        for path in ["x", "./a:b", "/x/y:z", "../x"] {
            assert!(!is_remote(path), "{path}");
            assert!(absolute(path.to_owned()).unwrap().starts_with('/'), "{path}");
        }
        let here = std::env::current_dir().unwrap().canonicalize().unwrap();
        assert_eq!(absolute(".".to_owned()).unwrap(), here.to_str().unwrap());
    }
}
