//! What is to be run for a task: program, arguments, environment, files and standard input, decided before
//! anything is started.

use std::{
    collections::BTreeMap,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use protocol::{Secret, ids::AgentName};

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
    /// What it reads on standard input, which is empty otherwise.
    pub stdin: Option<String>,
    /// What stands in [`Places::prompt_file`].
    pub prompt_file: Option<String>,
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

/// For an `exec` task: the vector as it is, no key.
#[must_use]
pub fn exec(places: &Places, argv: &[String]) -> Launch {
    let env = base_env(places, &places.path);
    Launch { argv: argv.to_vec(), env, stdin: None, prompt_file: None, reading: Reading::Plain }
}

/// An agent CLI that can be run, as often as its task has turns.
#[derive(Debug, Clone)]
pub struct Agent {
    file: AgentFile,
    program: PathBuf,
    values: Values,
    base_env: BTreeMap<String, String>,
}

impl Agent {
    /// For an `agent` task. The key goes into the environment alone. With `provider_paths` the gateway has the
    /// provider's API below its name.
    ///
    /// # Errors
    /// [`CannotLaunch`].
    pub fn find(
        places: &Places,
        name: &AgentName,
        model: Option<&str>,
        key: Option<&Secret>,
        provider_paths: bool,
    ) -> Result<Self, CannotLaunch> {
        let file = load(&places.agent_files, name)?;
        let model = file.model.model(model)?;
        let own = places.agent_programs.join(name.as_str());
        let (modules, bin) = (own.join("node_modules/.bin"), own.join("bin"));
        let path = format!("{}:{}:{}", modules.display(), bin.display(), places.path);
        let program = find(&file.program, &path, &places.work).ok_or_else(|| CannotLaunch::Missing {
            agent: name.clone(),
            program: file.program.clone(),
            remedy: file.install.remedy(name.as_str()),
        })?;
        let gateway = match provider_paths {
            true => format!("{}/{}", places.gateway, model.provider),
            false => places.gateway.clone(),
        };
        let values = Values {
            prompt: String::new(),
            prompt_file: places.prompt_file().display().to_string(),
            model: model.cli,
            model_name: model.name,
            provider: model.provider,
            gateway,
            home: places.home().display().to_string(),
            key: key.ok_or(CannotLaunch::NoKey)?.expose().to_owned(),
        };
        Ok(Self { file, program, values, base_env: base_env(places, &path) })
    }

    /// Files to write below HOME before the first turn: path and content.
    #[must_use]
    pub fn files(&self) -> Vec<(String, String)> {
        let content = |file: &ConfigFile| self.values.fill(&file.content, Place::File);
        self.file.files.iter().map(|file| (file.path.clone(), content(file))).collect()
    }

    /// The first turn.
    #[must_use]
    pub fn begin(&self, prompt: &str) -> Launch {
        self.turn(&self.file.args, prompt)
    }

    /// Whether there can be further turns.
    #[must_use]
    pub fn goes_on(&self) -> bool {
        self.file.go_on.is_some()
    }

    /// A further turn of the same conversation; `None` where the agent's file does not say how.
    #[must_use]
    pub fn go_on(&self, prompt: &str) -> Option<Launch> {
        self.file.go_on.as_ref().map(|args| self.turn(args, prompt))
    }

    fn turn(&self, args: &[String], prompt: &str) -> Launch {
        let values = Values { prompt: prompt.to_owned(), ..self.values.clone() };
        let args = args.iter().map(|arg| values.fill(arg, Place::Args));
        let own = self.file.env.iter().map(|(name, value)| (name.clone(), values.fill(value, Place::Env)));
        let by = |way| (self.file.prompt == way).then(|| prompt.to_owned());
        Launch {
            argv: std::iter::once(self.program.display().to_string()).chain(args).collect(),
            env: self.base_env.clone().into_iter().chain(own).collect(),
            stdin: by(PromptBy::Stdin),
            prompt_file: by(PromptBy::File),
            reading: self.file.reading(),
        }
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
    let tmp = places.tmp.as_ref().map(|tmp| ("TMPDIR".to_owned(), tmp.display().to_string()));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into_iter().chain(tmp).collect()
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
