//! Agent files: one TOML file an agent CLI, which says how it is run and what its output means. A new CLI needs a
//! file, not code. `agents/README.md` explains every field.

mod model;
mod output;
mod placeholders;
mod schema;

pub use model::{Model, ModelError};
pub use output::{Failure, Finding, Reading};
pub use placeholders::{Place, Values};
pub use schema::{AgentFile, ConfigFile, Install, PromptBy};

use std::{io, path::Path};

use protocol::ids::AgentName;

/// Why an agent cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum BadAgent {
    /// No such file.
    #[error("there is no agent {name:?}: the agents here are {known}")]
    Unknown {
        /// Its name.
        name: String,
        /// The names that there are.
        known: String,
    },
    /// The file cannot be read.
    #[error("{0}: {1}")]
    Io(String, io::Error),
    /// The file says something that is not allowed.
    #[error("{file} is not usable: {faults}")]
    Invalid {
        /// The file.
        file: String,
        /// All that was found.
        faults: String,
    },
}

/// Reads `NAME.toml` of a folder.
///
/// # Errors
/// [`BadAgent`], with every fault of the file at once.
pub fn load(folder: &Path, name: &AgentName) -> Result<AgentFile, BadAgent> {
    let path = folder.join(format!("{name}.toml"));
    let text = std::fs::read_to_string(&path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => BadAgent::Unknown { name: name.to_string(), known: known(folder) },
        _ => BadAgent::Io(path.display().to_string(), error),
    })?;
    AgentFile::parse(&text)
        .map_err(|faults| BadAgent::Invalid { file: path.display().to_string(), faults: faults.join("; ") })
}

fn known(folder: &Path) -> String {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let file_names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<_> =
        file_names.filter_map(|name| name.strip_suffix(".toml").map(str::to_owned)).collect();
    names.sort();
    if names.is_empty() { format!("none (no file in {})", folder.display()) } else { names.join(", ") }
}
