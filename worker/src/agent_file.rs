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

use std::{collections::BTreeSet, io, path::Path};

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

/// The agent files that are in this program.
const BUILT_IN: [(&str, &str); 4] = [
    ("claude", include_str!("../../agents/claude.toml")),
    ("codex", include_str!("../../agents/codex.toml")),
    ("command", include_str!("../../agents/command.toml")),
    ("opencode", include_str!("../../agents/opencode.toml")),
];

/// Reads `NAME.toml` of a folder, or, where it is not there, the built-in file of that name.
///
/// # Errors
/// [`BadAgent`], with every fault of the file at once.
pub fn load(folder: &Path, name: &AgentName) -> Result<AgentFile, BadAgent> {
    let path = folder.join(format!("{name}.toml"));
    let built_in = BUILT_IN.iter().find(|(known, _)| *known == name.as_str());
    let text = match (std::fs::read_to_string(&path), built_in) {
        (Ok(text), _) => text,
        (Err(error), Some((_, text))) if error.kind() == io::ErrorKind::NotFound => (*text).to_owned(),
        (Err(error), None) if error.kind() == io::ErrorKind::NotFound => {
            return Err(BadAgent::Unknown { name: name.to_string(), known: known(folder) });
        }
        (Err(error), _) => return Err(BadAgent::Io(path.display().to_string(), error)),
    };
    AgentFile::parse(&text)
        .map_err(|faults| BadAgent::Invalid { file: format!("{name}.toml"), faults: faults.join("; ") })
}

fn known(folder: &Path) -> String {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let file_names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let own = file_names.filter_map(|name| name.strip_suffix(".toml").map(str::to_owned));
    let names: BTreeSet<_> = own.chain(BUILT_IN.map(|(name, _)| name.to_owned())).collect();
    names.into_iter().collect::<Vec<_>>().join(", ")
}
