//! The coordinator, its two sockets, and whether the keys match.

use protocol::{
    Code,
    client::{ClientError, Endpoint, knock},
    task::TaskFilter,
};

use super::check::Check;
use crate::context::Context;

/// What was found.
pub(super) struct Found {
    /// Whether it is there at all.
    pub(super) reached: bool,
    /// Whether it takes our key.
    pub(super) answers: bool,
    pub(super) checks: Vec<Check>,
}

const START: &str = "start it: code-workers up, or systemctl --user start code-workers-coordinator";

pub(super) async fn look(context: &Context) -> Found {
    let (reached, answers, mut checks) = match context.client() {
        Err(_) => (false, false, vec![Check::skipped("coordinator", "without a key nothing is answered")]),
        Ok(client) => {
            let health = client.health().await;
            let reached = health.is_ok();
            let mut checks = vec![at_its_address(context, health)];
            let one = TaskFilter { limit: Some(1), ..TaskFilter::default() };
            let keys = if reached {
                keys(client.tasks(&one).await.map(|_| ()))
            } else {
                Check::skipped("keys match", "the coordinator does not answer")
            };
            let answers = keys.status == super::check::Status::Ok;
            checks.push(keys);
            (reached, answers, checks)
        }
    };
    let door = knock(Endpoint::Unix(context.folders.worker_socket())).await;
    checks.push(workers_door(door));
    Found { reached, answers, checks }
}

fn at_its_address(context: &Context, health: Result<serde_json::Value, ClientError>) -> Check {
    match health {
        Ok(health) => {
            let version = health.get("version").and_then(serde_json::Value::as_str).unwrap_or("?");
            Check::ok("coordinator", format!("version {version} at {}", context.endpoint()))
        }
        Err(ClientError::Malformed { .. }) => Check::failed(
            "coordinator",
            format!("another program answers at {}", context.endpoint()),
            "end it, or set COORDINATOR_BIND (and COORDINATOR_URL) to another port",
        ),
        Err(error) => Check::failed("coordinator", error.to_string(), START),
    }
}

fn keys(asked: Result<(), ClientError>) -> Check {
    const NAME: &str = "keys match";
    match asked {
        Ok(()) => Check::ok(NAME, "the coordinator takes this key"),
        Err(error) if matches!(error.code(), Some(Code::WrongKey | Code::NoKey)) => Check::failed(
            NAME,
            "403: FORTRESS_API_KEY here is not the key that the coordinator was started with",
            "unset it in this shell or mend .env, so that both read the same; then start the coordinator again",
        ),
        Err(error) => Check::failed(NAME, error.to_string(), "the coordinator's own log says more"),
    }
}

/// 401 is the coordinator's own answer to a request without a key.
fn workers_door(knocked: Result<u16, ClientError>) -> Check {
    const NAME: &str = "workers' door";
    match knocked {
        Ok(401) => Check::ok(NAME, "asks for a worker's token"),
        Ok(status) => Check::failed(
            NAME,
            format!("something that is not the coordinator answers there, with {status}"),
            "end what listens on worker.sock in the run folder, and start the coordinator again",
        ),
        Err(error) => Check::failed(NAME, error.to_string(), START),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::check::Status, keys, workers_door};
    use protocol::{Code, Problem, client::ClientError};

    #[test]
    fn a_key_of_another_is_told_from_a_coordinator_that_cannot_answer() {
        let refused = |code| keys(Err(ClientError::Refused(Problem::new(code, "why"))));
        assert!(refused(Code::WrongKey).found.contains("403"));
        assert!(!refused(Code::Internal).found.contains("403"));
        assert_eq!(keys(Ok(())).status, Status::Ok);
    }

    #[test]
    fn only_a_door_that_wants_a_token_is_the_workers() {
        assert_eq!(workers_door(Ok(401)).status, Status::Ok);
        assert_eq!(workers_door(Ok(200)).status, Status::Failed, "an open door");
    }
}
