//! A call that the protocol's client does not have.

use protocol::{Problem, client::ClientError, submit::NewTask, task::Task};

use crate::{child::KEY, world::World};

/// Plain HTTP at the owner's door.
pub(crate) struct Http(reqwest::Client);

impl Http {
    pub(crate) fn owner(world: &World) -> Self {
        let client = reqwest::Client::builder().no_proxy().unix_socket(world.folders.owner_socket());
        Self(client.build().unwrap())
    }

    /// `POST /tasks` with an array.
    pub(crate) async fn submit_many(&self, tasks: &[NewTask]) -> Result<Vec<Task>, ClientError> {
        let unreachable = |error: reqwest::Error| ClientError::Unreachable {
            server: "the owner's door".to_owned(),
            why: error.to_string(),
        };
        let request = self.0.post("http://localhost/tasks").bearer_auth(KEY).json(tasks);
        let response = request.send().await.map_err(unreachable)?;
        let status = response.status();
        let body = response.bytes().await.map_err(unreachable)?;
        let malformed = |error: serde_json::Error| ClientError::Malformed {
            server: "the owner's door".to_owned(),
            status: status.as_u16(),
            why: error.to_string(),
        };
        if status.is_success() {
            return serde_json::from_slice(&body).map_err(malformed);
        }
        Err(ClientError::Refused(serde_json::from_slice::<Problem>(&body).map_err(malformed)?))
    }
}
