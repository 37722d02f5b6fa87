//! What a sender posts to make a task, and the check that it must pass.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    ids::{AgentName, QueueName, TaskId},
    limits,
    money::Usd,
    problem::{Code, Problem},
    task::{Priority, Work},
};

/// Which work a [`NewTask`] asks for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// [`Work::Agent`].
    #[default]
    Agent,
    /// [`Work::Exec`].
    Exec,
}

/// The body of `POST /tasks`, as it came: one, or an array of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewTask {
    /// The sender's own id, for a request that may be repeated. `None`: the server makes one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The repository's name.
    pub queue: String,
    /// `agent` where it is not said.
    #[serde(default)]
    pub kind: Kind,
    /// For `agent`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// For `agent`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// For `agent`: `provider/model`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// For `exec`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub argv: Option<Vec<String>>,
    /// A branch, a tag, a commit, or `code-workers/<task id>` for another task's result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    /// `normal` where it is not said.
    #[serde(default)]
    pub priority: Priority,
    /// 3 where it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<u32>,
    /// Seconds that one attempt may run; 3600 where it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_s: Option<u64>,
    /// For `agent`: what all its attempts together may spend. The configured default where not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget_usd: Option<Usd>,
    /// Not leased before this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Timestamp>,
    /// While a task with this key has not ended, its queue takes no other with the same: 409
    /// `unique_key_taken`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unique_key: Option<String>,
    /// Held until its owner approves it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub approval: bool,
}

/// A [`NewTask`] whose every field was found good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submission {
    /// The sender's own id.
    pub id: Option<TaskId>,
    /// The repository's name.
    pub queue: QueueName,
    /// What is to be done.
    pub work: Work,
    /// What the sender asked to start from.
    pub base: Option<String>,
    /// Its rank.
    pub priority: Priority,
    /// 1 to [`limits::MAX_ATTEMPTS_CAP`].
    pub max_attempts: u32,
    /// Run time of one attempt.
    pub timeout: Duration,
    /// `None` for `exec`, and where the configured default applies.
    pub budget: Option<Usd>,
    /// Not leased before this.
    pub not_before: Option<Timestamp>,
    /// One unfinished task of the queue may have it.
    pub unique_key: Option<String>,
    /// Held until its owner approves it.
    pub approval: bool,
}

impl NewTask {
    /// Checks every field, and reports all faults at once.
    ///
    /// # Errors
    /// [`Code::Invalid`], its detail naming each field with its fault and remedy; [`Code::TooLarge`]
    /// where the only fault is a prompt or an argument vector over its limit.
    pub fn check(self) -> Result<Submission, Problem> {
        let mut faults = Faults::default();
        let id = self.id.as_deref().and_then(|id| faults.name::<TaskId>("id", id));
        let queue = faults.name::<QueueName>("queue", &self.queue);
        let base = self.base.clone();
        if let Some(base) = &base {
            faults.reference("base", base);
        }
        let max_attempts = self.max_attempts.unwrap_or(limits::MAX_ATTEMPTS);
        if !(1..=limits::MAX_ATTEMPTS_CAP).contains(&max_attempts) {
            faults.add(format!("max_attempts: {max_attempts} is not from 1 to {}", limits::MAX_ATTEMPTS_CAP));
        }
        let timeout = self.timeout_s.map_or(limits::TIMEOUT, Duration::from_secs);
        if timeout.is_zero() || timeout > limits::TIMEOUT_CAP {
            faults.add(format!(
                "timeout_s: {} is not from 1 to {}",
                timeout.as_secs(),
                limits::TIMEOUT_CAP.as_secs()
            ));
        }
        let unique_key = self.unique_key.clone();
        if let Some(key) = &unique_key {
            faults.reference("unique_key", key);
        }
        let (priority, budget) = (self.priority, self.budget_usd);
        let (not_before, approval) = (self.not_before, self.approval);
        let work = match self.kind {
            Kind::Agent => self.agent_work(&mut faults),
            Kind::Exec => self.exec_work(&mut faults),
        };
        match (queue, work) {
            (Some(queue), Some(work)) if faults.is_empty() => {
                let of_work = Submission {
                    id,
                    queue,
                    work,
                    base,
                    priority,
                    max_attempts,
                    timeout,
                    budget,
                    not_before,
                    unique_key,
                    approval,
                };
                Ok(of_work)
            }
            _ => Err(faults.into_problem()),
        }
    }

    fn agent_work(self, faults: &mut Faults) -> Option<Work> {
        if self.argv.is_some() {
            faults.add("argv: is for kind \"exec\"; an agent takes a prompt".to_owned());
        }
        let agent = self.agent.as_deref().and_then(|name| faults.name::<AgentName>("agent", name));
        if let Some(model) = &self.model {
            faults.reference("model", model);
        }
        let prompt = self.prompt.unwrap_or_default();
        if prompt.trim().is_empty() {
            faults.add("prompt: is empty; say what the agent is to do".to_owned());
        } else if prompt.contains('\0') {
            faults.add("prompt: holds a NUL byte, which no program can take as an argument".to_owned());
        } else if prompt.len() > limits::PROMPT_BYTES {
            faults.too_large(format!(
                "prompt: is {} bytes, and {} is the most; put long material into a file of the repository",
                prompt.len(),
                limits::PROMPT_BYTES
            ));
        }
        Some(Work::Agent { prompt, agent, model: self.model })
    }

    fn exec_work(self, faults: &mut Faults) -> Option<Work> {
        for (name, set) in [
            ("prompt", self.prompt.is_some()),
            ("agent", self.agent.is_some()),
            ("model", self.model.is_some()),
            ("budget_usd", self.budget_usd.is_some()),
        ] {
            if set {
                faults.add(format!("{name}: is for kind \"agent\"; an exec task has an argv alone"));
            }
        }
        let argv = self.argv.unwrap_or_default();
        let bytes: usize = argv.iter().map(|arg| arg.len() + 1).sum();
        if argv.first().is_none_or(String::is_empty) {
            faults.add("argv: is empty; give the program and its arguments as an array".to_owned());
        } else if argv.iter().any(|arg| arg.contains('\0')) {
            faults.add("argv: holds a NUL byte, which no program can take as an argument".to_owned());
        } else if bytes > limits::ARGV_BYTES || argv.len() > limits::ARGV_ENTRIES {
            faults.too_large(format!(
                "argv: has {} entries and {bytes} bytes; {} and {} are the most",
                argv.len(),
                limits::ARGV_ENTRIES,
                limits::ARGV_BYTES
            ));
        }
        Some(Work::Exec { argv })
    }
}

#[derive(Default)]
struct Faults {
    found: Vec<String>,
    only_size: bool,
}

impl Faults {
    fn add(&mut self, fault: String) {
        self.only_size = false;
        self.found.push(fault);
    }

    fn too_large(&mut self, fault: String) {
        self.only_size = self.found.is_empty();
        self.found.push(fault);
    }

    fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    fn name<T: std::str::FromStr<Err = crate::ids::BadName>>(
        &mut self,
        field: &str,
        text: &str,
    ) -> Option<T> {
        text.parse().map_err(|error| self.add(format!("{field}: {error}"))).ok()
    }

    fn reference(&mut self, field: &str, text: &str) {
        let odd = |c: char| c.is_control() || c.is_whitespace() || "~^:?*[\\".contains(c);
        let bad = text.is_empty() || text.starts_with('-') || text.contains("..") || text.contains(odd);
        let colon_in_model = field == "model" && text.replace(':', "").chars().all(|c| !odd(c));
        if (bad && !(colon_in_model && !text.is_empty() && !text.starts_with('-')))
            || text.len() > limits::REFERENCE_CHARS
        {
            let shown: String = text.chars().take(60).collect();
            self.add(format!(
                "{field}: {shown:?} is not a plain name of 1 to {} characters",
                limits::REFERENCE_CHARS
            ));
        }
    }

    fn into_problem(self) -> Problem {
        let code = if self.only_size { Code::TooLarge } else { Code::Invalid };
        Problem::new(code, self.found.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::{Kind, NewTask};
    use crate::{limits, problem::Code};

    fn agent(prompt: &str) -> NewTask {
        NewTask { queue: "sample".into(), prompt: Some(prompt.into()), ..NewTask::default() }
    }

    #[test]
    fn a_prompt_of_any_text_passes_up_to_its_limit() {
        assert!(agent("it's \"x\" $HOME \\ \n\t é 漢").check().is_ok());
        assert!(agent(&"x".repeat(limits::PROMPT_BYTES)).check().is_ok());
        let over = agent(&"x".repeat(limits::PROMPT_BYTES + 1)).check().unwrap_err();
        assert_eq!(over.code, Code::TooLarge);
        for bad in ["", " \n", "a\0b"] {
            assert_eq!(agent(bad).check().unwrap_err().code, Code::Invalid, "{bad:?}");
        }
    }

    #[test]
    fn all_faults_are_named_at_once() {
        let task = NewTask {
            id: Some("lease".into()),
            queue: "a/b".into(),
            base: Some("-x".into()),
            max_attempts: Some(0),
            timeout_s: Some(0),
            ..agent("")
        };
        let detail = task.check().unwrap_err().detail;
        for field in ["id:", "queue", "base:", "max_attempts:", "timeout_s:", "prompt:"] {
            assert!(detail.contains(field), "{field} in {detail}");
        }
    }

    #[test]
    fn exec_takes_an_argv_and_nothing_of_an_agents() {
        let exec = |argv: &[&str]| NewTask {
            queue: "sample".into(),
            kind: Kind::Exec,
            argv: Some(argv.iter().map(ToString::to_string).collect()),
            ..NewTask::default()
        };
        assert!(exec(&["ls", ""]).check().is_ok());
        assert_eq!(exec(&[]).check().unwrap_err().code, Code::Invalid);
        let many = vec!["x"; limits::ARGV_ENTRIES + 1];
        assert_eq!(exec(&many).check().unwrap_err().code, Code::TooLarge);
        let mixed = NewTask { prompt: Some("x".into()), ..exec(&["ls"]) };
        assert_eq!(mixed.check().unwrap_err().code, Code::Invalid);
    }

    #[test]
    fn references_are_plain_names() {
        let with = |base: &str| NewTask { base: Some(base.into()), ..agent("x") };
        for good in ["main", "feature/x", "v1.0", "code-workers/task-1", "HEAD"] {
            assert!(with(good).check().is_ok(), "{good}");
        }
        for bad in ["", "-x", "a..b", "a b", "a:b", "HEAD~1", "a\0"] {
            assert!(with(bad).check().is_err(), "{bad:?}");
        }
        let model = |name: &str| NewTask { model: Some(name.into()), ..agent("x") };
        assert!(model("openrouter/qwen:free").check().is_ok());
        assert!(model("-x").check().is_err());
    }
}
