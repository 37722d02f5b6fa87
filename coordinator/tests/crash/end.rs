//! How a place stands when all has ended: what the owner's door says, and what lies on disk.

use std::collections::BTreeMap;

use futures_util::{StreamExt as _, stream};
use protocol::{Event, Task, TaskId, TaskState, client::OwnerClient, task::TaskFilter};
use sha2::{Digest as _, Sha256};

/// All that can be asked for at the end.
#[derive(Debug, Clone, Default)]
pub(crate) struct End {
    pub(crate) tasks: BTreeMap<TaskId, Task>,
    pub(crate) streams: BTreeMap<TaskId, Vec<Event>>,
    /// SHA-256 of each artifact, as it was fetched.
    pub(crate) artifacts: BTreeMap<(TaskId, String), String>,
    /// The same tasks after one more crash.
    pub(crate) later: BTreeMap<TaskId, TaskState>,
}

/// Asks for everything.
pub(crate) async fn look(owner: &OwnerClient) -> End {
    let ids: Vec<TaskId> = states(owner).await.into_keys().collect();
    let looks = ids.into_iter().map(|id| async move {
        let task = owner.task(&id, std::time::Duration::ZERO).await.unwrap();
        let events = owner.events(&id, 0, false).await.unwrap();
        let events: Vec<Event> = events.map(Result::unwrap).collect().await;
        let mut hashes = Vec::new();
        for artifact in &task.artifacts {
            let fetched = owner.artifact(&id, &artifact.name.parse().unwrap()).await;
            let hash = match fetched {
                Ok(body) => hex::encode(Sha256::digest(body.bytes().await.unwrap())),
                Err(error) => error.to_string(),
            };
            hashes.push((artifact.name.clone(), hash));
        }
        (id, task, events, hashes)
    });
    let mut looks = stream::iter(looks).buffer_unordered(8);
    let mut end = End::default();
    while let Some((id, task, events, hashes)) = looks.next().await {
        for (name, hash) in hashes {
            end.artifacts.insert((id.clone(), name), hash);
        }
        end.streams.insert(id.clone(), events);
        end.tasks.insert(id, task);
    }
    end
}

/// Every task's state.
pub(crate) async fn states(owner: &OwnerClient) -> BTreeMap<TaskId, TaskState> {
    let mut found = BTreeMap::new();
    let mut filter = TaskFilter { limit: Some(500), ..TaskFilter::default() };
    loop {
        let page = owner.tasks(&filter).await.unwrap();
        found.extend(page.tasks.into_iter().map(|task| (task.id, task.state)));
        filter.before = page.next;
        if filter.before.is_none() {
            return found;
        }
    }
}
