//! The fields of an agent file, and the check that they fit together.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{
    model::ModelRules,
    output::{OutputRules, Reading},
    placeholders::{self, Place},
};

/// How one agent CLI is run. A value of this type was checked.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentFile {
    /// A program's name, looked for in the agent's own folder and on the PATH; or, with a `/`, a path in the
    /// work tree.
    pub program: String,
    /// Its arguments, with placeholders.
    #[serde(default)]
    pub args: Vec<String>,
    /// `continue`: the arguments that go on with its last conversation in this work tree and HOME. `None`: it cannot.
    #[serde(default, rename = "continue")]
    pub go_on: Option<Vec<String>>,
    /// How the prompt reaches it.
    pub prompt: PromptBy,
    /// Its environment beside what every agent gets, with placeholders. Only here may `{key}` stand.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Files that are written into its HOME before it starts.
    #[serde(default, rename = "file")]
    pub files: Vec<ConfigFile>,
    /// Which models it takes.
    pub model: ModelRules,
    /// What its standard output means.
    #[serde(default)]
    output: OutputRules,
    /// How a person installs it.
    pub install: Install,
}

/// How a prompt reaches an agent. Never through a shell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PromptBy {
    /// `{prompt}` in `args`, as one argument.
    Argument,
    /// On standard input.
    Stdin,
    /// In a file, whose path is `{prompt_file}` in `args` or `env`.
    File,
}

/// A file of the agent's configuration.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfigFile {
    /// Its path below HOME.
    pub path: String,
    /// What it holds, with placeholders, whose values are escaped as in a string of JSON (which is right in
    /// TOML too).
    pub content: String,
}

/// What a person does to have the agent.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Install {
    /// The npm package with its pinned version: `NAME@VERSION`.
    pub npm: Option<String>,
    /// A sentence, for what npm does not have.
    pub hint: Option<String>,
}

impl AgentFile {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// Every fault, a sentence each; an unknown field is one, with its name.
    pub fn parse(text: &str) -> Result<Self, Vec<String>> {
        let file: Self = toml::from_str(text).map_err(|error| vec![error.to_string().trim().to_owned()])?;
        let faults = file.faults();
        if faults.is_empty() { Ok(file) } else { Err(faults) }
    }

    /// How its standard output is to be read.
    #[must_use]
    pub fn reading(&self) -> Reading {
        self.output.reading()
    }

    fn faults(&self) -> Vec<String> {
        let mut faults = self.model.faults();
        let first = self.texts("args", &self.args);
        let further = self.go_on.as_ref().map(|args| self.texts("continue", args));
        let mut all = first.clone();
        all.extend(further.iter().flatten().filter(|text| !first.contains(text)).cloned());
        for (place, text, kind) in &all {
            faults.extend(
                placeholders::faults(text, *kind).into_iter().map(|fault| format!("{place}: {fault}")),
            );
        }
        for (args, texts) in [("args", Some(first)), ("continue", further)] {
            let Some(texts) = texts else { continue };
            let uses = |name: &str| texts.iter().any(|(_, text, _)| text.contains(name));
            for (by, name) in [(PromptBy::Argument, "{prompt}"), (PromptBy::File, "{prompt_file}")] {
                if uses(name) != (self.prompt == by) {
                    faults.push(format!(
                        "prompt: {name} stands in {args} where prompt = {by:?}, and nowhere else"
                    ));
                }
            }
        }
        for file in &self.files {
            let plain = file.path.split('/').all(|part| !matches!(part, "" | "." | ".."));
            if !plain {
                faults.push(format!("file: {:?} is not a path below HOME", file.path));
            }
        }
        if self.program.is_empty() {
            faults.push("program: is empty".to_owned());
        }
        faults.extend(self.output.faults());
        faults
    }
}

impl AgentFile {
    /// All that one turn is made of, with where it stands.
    fn texts<'a>(&'a self, name: &str, args: &'a [String]) -> Vec<(String, &'a str, Place)> {
        let args =
            args.iter().enumerate().map(|(i, arg)| (format!("{name}[{i}]"), arg.as_str(), Place::Args));
        let env = self.env.iter().map(|(name, value)| (format!("env.{name}"), value.as_str(), Place::Env));
        let files =
            self.files.iter().map(|file| (format!("file {}", file.path), &*file.content, Place::File));
        args.chain(env).chain(files).collect()
    }
}

impl Install {
    /// What to do, as a sentence.
    #[must_use]
    pub fn remedy(&self, agent: &str) -> String {
        match (&self.npm, &self.hint) {
            (Some(package), _) => format!(
                "install it on the host: npm install --prefix ~/.local/share/code-workers/agents/{agent} {package}"
            ),
            (None, Some(hint)) => hint.clone(),
            (None, None) => "put it on the sandbox's PATH".to_owned(),
        }
    }
}
