//! What the launcher of a container tells the worker in it.

use protocol::{
    Secret,
    client::Endpoint,
    ids::{AgentName, QueueName},
};
use serde::{Deserialize, Serialize};

/// Where the coordinator is, for all in the container.
const COORDINATOR: &str = "http://skia:7222";
/// For tasks that name no agent.
const AGENT: &str = "opencode";
/// Bytes of a key. All that is told has to fit into a pipe that nobody reads yet.
const KEY_BYTES: usize = 4_096;

/// What came in the environment.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Told {
    /// `REPO_NAME`: the queue.
    pub(super) queue: QueueName,
    /// `FORTRESS_API_KEY`: a worker's token, made for this launch.
    pub(super) token: Secret,
    /// `OPENCODE_API_KEY`: the launcher's virtual key, for the agents.
    pub(super) key: Option<Secret>,
    /// `CODE_WORKERS_AGENT`
    pub(super) agent: AgentName,
    /// `COORDINATOR_URL`
    pub(super) coordinator: String,
}

impl Told {
    /// Understands the environment.
    ///
    /// # Errors
    /// Every fault at once, each with its remedy; none shows a key.
    pub(super) fn from_env(env: impl Fn(&str) -> Option<String>) -> Result<Self, Vec<String>> {
        let set = |name: &str| env(name).filter(|value| !value.is_empty());
        let mut faults = Vec::new();
        let queue = match set("REPO_NAME") {
            Some(name) => name.parse::<QueueName>().map_err(|error| format!("REPO_NAME: {error}")),
            None => Err("REPO_NAME is not set: pass --env REPO_NAME=<the repository's name>".to_owned()),
        };
        let token = secret(&set, "FORTRESS_API_KEY").and_then(|token| {
            token.ok_or_else(|| {
                "FORTRESS_API_KEY is not set: pass --env FORTRESS_API_KEY=<a worker's token>; never the owner's key"
                    .to_owned()
            })
        });
        let key = secret(&set, "OPENCODE_API_KEY");
        let agent = set("CODE_WORKERS_AGENT").unwrap_or_else(|| AGENT.to_owned());
        let agent = agent.parse::<AgentName>().map_err(|error| format!("CODE_WORKERS_AGENT: {error}"));
        let coordinator = set("COORDINATOR_URL").unwrap_or_else(|| COORDINATOR.to_owned());
        let coordinator = match coordinator.parse::<Endpoint>() {
            Ok(_) => Ok(coordinator),
            Err(error) => Err(format!("COORDINATOR_URL: {error}")),
        };
        let told = (
            ok(queue, &mut faults),
            ok(token, &mut faults),
            ok(key, &mut faults),
            ok(agent, &mut faults),
            ok(coordinator, &mut faults),
        );
        match told {
            (Some(queue), Some(token), Some(key), Some(agent), Some(coordinator)) => {
                Ok(Self { queue, token, key, agent, coordinator })
            }
            _ => Err(faults),
        }
    }
}

fn ok<T>(result: Result<T, String>, faults: &mut Vec<String>) -> Option<T> {
    result.map_err(|fault| faults.push(fault)).ok()
}

/// A key travels in a header.
fn secret(set: &impl Fn(&str) -> Option<String>, name: &str) -> Result<Option<Secret>, String> {
    match set(name) {
        Some(key) if key.len() > KEY_BYTES || !key.bytes().all(|byte| byte.is_ascii_graphic()) => {
            Err(format!("{name}: a key has at most {KEY_BYTES} visible ASCII characters"))
        }
        key => Ok(key.map(Secret::new)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(pairs: &[(&str, &str)]) -> Result<Told, Vec<String>> {
        let find = |name: &str| pairs.iter().find(|(known, _)| *known == name);
        Told::from_env(|name| find(name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn a_name_and_a_token_are_all_it_needs() {
        let told = told(&[("REPO_NAME", "p"), ("FORTRESS_API_KEY", "t"), ("OPENCODE_API_KEY", "")]).unwrap();
        assert_eq!((told.queue.as_str(), told.token.expose(), told.key), ("p", "t", None));
        assert_eq!((told.agent.as_str(), told.coordinator.as_str()), ("opencode", "http://skia:7222"));
    }

    #[test]
    fn every_fault_is_named_and_no_key_shown() {
        let faults = told(&[
            ("REPO_NAME", "../p"),
            ("FORTRESS_API_KEY", "se cret"),
            ("OPENCODE_API_KEY", "se\ncret"),
            ("CODE_WORKERS_AGENT", "/"),
            ("COORDINATOR_URL", "skia"),
        ]);
        let faults = faults.unwrap_err();
        for (name, fault) in
            ["REPO_NAME", "FORTRESS_API_KEY", "OPENCODE_API_KEY", "CODE_WORKERS_AGENT", "COORDINATOR_URL"]
                .into_iter()
                .zip(&faults)
        {
            assert!(fault.starts_with(name) && !fault.contains("cret"), "{fault}");
        }
        assert_eq!(faults.len(), 5);
        assert_eq!(told(&[]).unwrap_err().len(), 2);
    }

    #[test]
    fn all_that_is_told_fits_into_a_pipe() {
        let (key, name) = ("k".repeat(KEY_BYTES), "n".repeat(64));
        let told = told(&[("REPO_NAME", &name), ("FORTRESS_API_KEY", &key), ("OPENCODE_API_KEY", &key)]);
        assert!(serde_json::to_vec(&told.unwrap()).unwrap().len() < 60_000);
    }
}
