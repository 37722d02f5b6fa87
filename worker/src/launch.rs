//! What is to be run for a task: program, arguments, environment, files and standard input, decided before
//! anything is started.

use std::{
    collections::BTreeMap,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use protocol::{Secret, ids::AgentName, inside};

use crate::{
    agent_file::{AgentFile, BadAgent, ConfigFile, ModelError, Place, PromptBy, Reading, Values, load},
    places::Places,
};

/// Everything that one run needs.
#[derive(Debug, Clone)]
pub struct Launch {
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// The whole environment.
    pub env: BTreeMap<String, String>,
    /// Files to write below HOME: path and content.
    pub files: Vec<(String, String)>,
    /// What it reads on standard input, which is empty otherwise.
    pub stdin: Option<String>,
    /// How standard output is understood.
    pub reading: Reading,
}

/// Why nothing can be run.
#[derive(Debug, thiserror::Error)]
pub enum CannotLaunch {
    /// The agent's file.
    #[error(transparent)]
    Agent(#[from] BadAgent),
    /// The task's model.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The agent's program.
    #[error("{agent} needs the program {program:?}, which is not in the sandbox: {remedy}")]
    Missing {
        /// The agent.
        agent: AgentName,
        /// Its program.
        program: String,
        /// What to do.
        remedy: String,
    },
    /// A task of kind `agent` whose start brought no key.
    #[error("the coordinator gave no virtual key for the agent")]
    NoKey,
}

/// The name of a prompt's file below HOME.
const PROMPT_FILE: &str = "prompt.txt";

/// For an `exec` task: the vector as it is, no key.
#[must_use]
pub fn exec(places: &Places, argv: &[String]) -> Launch {
    let env = base_env(places, &places.path);
    Launch { argv: argv.to_vec(), env, files: Vec::new(), stdin: None, reading: Reading::Plain }
}

/// For an `agent` task. The key goes into the environment alone.
///
/// # Errors
/// [`CannotLaunch`].
pub fn agent(
    places: &Places,
    name: &AgentName,
    model: Option<&str>,
    prompt: &str,
    key: Option<&Secret>,
) -> Result<Launch, CannotLaunch> {
    let file = load(&places.agent_files, name)?;
    let model = file.model.model(model)?;
    let own = places.agent_programs.join(name.as_str());
    let path =
        format!("{}:{}:{}", own.join("node_modules/.bin").display(), own.join("bin").display(), places.path);
    let program = find(&file.program, &path, &places.work).ok_or_else(|| CannotLaunch::Missing {
        agent: name.clone(),
        program: file.program.clone(),
        remedy: file.install.remedy(name.as_str()),
    })?;
    let values = Values {
        prompt: prompt.to_owned(),
        prompt_file: places.home().join(PROMPT_FILE).display().to_string(),
        model: model.cli,
        model_name: model.name,
        provider: model.provider,
        gateway: inside::GATEWAY_URL.to_owned(),
        home: places.home().display().to_string(),
        key: key.ok_or(CannotLaunch::NoKey)?.expose().to_owned(),
    };
    Ok(fill(&file, &values, &program, base_env(places, &path)))
}

fn fill(file: &AgentFile, values: &Values, program: &Path, mut env: BTreeMap<String, String>) -> Launch {
    let args = file.args.iter().map(|arg| values.fill(arg, Place::Args));
    env.extend(file.env.iter().map(|(name, value)| (name.clone(), values.fill(value, Place::Env))));
    let content = |file: &ConfigFile| values.fill(&file.content, Place::File);
    let mut files: Vec<_> = file.files.iter().map(|file| (file.path.clone(), content(file))).collect();
    if file.prompt == PromptBy::File {
        files.push((PROMPT_FILE.to_owned(), values.prompt.clone()));
    }
    Launch {
        argv: std::iter::once(program.display().to_string()).chain(args).collect(),
        env,
        files,
        stdin: (file.prompt == PromptBy::Stdin).then(|| values.prompt.clone()),
        reading: file.reading(),
    }
}

/// What every program of the agent's user gets: no editor, pager or prompt that would wait for somebody.
fn base_env(places: &Places, path: &str) -> BTreeMap<String, String> {
    let home = places.home().display().to_string();
    let cache = places.cache().display().to_string();
    // The agents' own way to run commands is bash's.
    let shell = ["/bin/bash", "/bin/sh"].into_iter().find(|shell| Path::new(shell).exists());
    let pairs = [
        ("PATH", path),
        ("HOME", &home),
        ("XDG_CACHE_HOME", &cache),
        ("USER", "agent"),
        ("LOGNAME", "agent"),
        ("SHELL", shell.unwrap_or("/bin/sh")),
        ("LANG", "C.UTF-8"),
        ("TERM", "dumb"),
        ("NO_COLOR", "1"),
        ("PAGER", "cat"),
        ("GIT_PAGER", "cat"),
        ("EDITOR", "true"),
        ("GIT_EDITOR", "true"),
        ("GIT_TERMINAL_PROMPT", "0"),
        ("DEBIAN_FRONTEND", "noninteractive"),
    ];
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}

/// Looks a program up as execvp(3) does; with a `/`, in the work tree.
fn find(program: &str, path: &str, work: &Path) -> Option<PathBuf> {
    let runnable = |file: &PathBuf| {
        file.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    };
    if program.contains('/') {
        Some(work.join(program)).filter(runnable)
    } else {
        path.split(':').map(|folder| Path::new(folder).join(program)).find(runnable)
    }
}
