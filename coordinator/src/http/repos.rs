//! `/repos`: repositories that tasks may be sent to.

use std::sync::Arc;

use axum::{Json as JsonBody, extract::State, http::StatusCode};
use protocol::{
    Code, QueueName,
    repo::{NewRepo, Repo},
};

use super::{
    blocking,
    error::Failure,
    extract::{Json, Params},
};
use crate::{Coordinator, queue::Registered};

/// `POST /repos`
pub(super) async fn add(
    State(coordinator): State<Arc<Coordinator>>,
    Json(new): Json<NewRepo>,
) -> Result<(StatusCode, JsonBody<Repo>), Failure> {
    let name: QueueName = new
        .name
        .parse()
        .map_err(|error: protocol::ids::BadName| Failure::new(Code::Invalid, format!("name: {error}")))?;
    require_absolute(&new.source)?;
    let found = coordinator
        .helper
        .describe(&new.source)
        .await
        .map_err(|error| Failure::new(Code::BadSource, format!("source: {error}")))?;
    let created_at = coordinator.clock.now();
    let repo = Repo { name, source: shown(&found.source, found.shown), created_at };
    let registered = Registered { repo, source: found.source.clone() };
    let (repo, new) = coordinator.queue.add_repo(registered).await?;
    // A sandbox mounts the mirror when it starts, which may be before the first task comes.
    if let Err(error) =
        coordinator.helper.refresh(&coordinator.folders.mirror(&repo.name), &found.source).await
    {
        if new {
            coordinator.queue.remove_repo(repo.name).await?;
        }
        return Err(Failure::new(Code::BadSource, format!("source: {error}")));
    }
    let status = if new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, JsonBody(repo)))
}

/// The coordinator's working folder is nobody's business. `host:path`, as git takes it, is no local path.
fn require_absolute(source: &str) -> Result<(), Failure> {
    let before_colon = source.split_once(':').map(|(host, _)| host);
    let remote = before_colon.is_some_and(|host| !host.is_empty() && !host.contains('/'));
    if remote || source.starts_with('/') {
        return Ok(());
    }
    let why = "source: give an absolute path, or a URL such as https://host/project.git";
    Err(Failure::new(Code::BadSource, why))
}

/// A URL whose password, if it has one, is `***`.
fn shown(source: &str, without_credential: String) -> String {
    let Some((scheme, rest)) = source.split_once("://") else { return without_credential };
    let authority = rest.split('/').next().unwrap_or_default();
    match authority.rsplit_once('@').and_then(|(user_info, _)| user_info.split_once(':')) {
        Some((user, _)) => {
            without_credential.replacen(&format!("{scheme}://"), &format!("{scheme}://{user}:***@"), 1)
        }
        None => without_credential,
    }
}

/// `GET /repos`
pub(super) async fn list(
    State(coordinator): State<Arc<Coordinator>>,
) -> Result<JsonBody<Vec<Repo>>, Failure> {
    let queue = coordinator.queue.clone();
    Ok(JsonBody(blocking(move || queue.repos()).await??))
}

/// `DELETE /repos/{name}`
pub(super) async fn remove(
    State(coordinator): State<Arc<Coordinator>>,
    Params(name): Params<QueueName>,
) -> Result<StatusCode, Failure> {
    coordinator.queue.remove_repo(name.clone()).await?;
    // Another source may come under the same name, and must not find this mirror.
    coordinator.bases.forget(&name).await;
    let mirror = coordinator.folders.mirror(&name);
    match tokio::fs::remove_dir_all(&mirror).await {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!(mirror = %mirror.display(), %error, "a removed repository's mirror stays on disk");
        }
        _ => {}
    }
    Ok(StatusCode::NO_CONTENT)
}

#[cfg(test)]
mod tests {
    use super::{require_absolute, shown};

    #[test]
    fn passwords_are_not_shown() {
        let hidden = "https://h.example/p.git".to_owned();
        assert_eq!(
            shown("https://u:secret@h.example/p.git", hidden.clone()),
            "https://u:***@h.example/p.git"
        );
        assert_eq!(shown("https://h.example/p.git", hidden.clone()), hidden);
        assert_eq!(shown("/a/b", "/a/b".to_owned()), "/a/b");
    }

    #[test]
    fn local_paths_are_absolute() {
        for good in ["/a", "https://h/p", "git@h:p", "file:///a"] {
            assert!(require_absolute(good).is_ok(), "{good}");
        }
        for bad in ["", "a", "./a", "../a", "a/b:c", "~/a"] {
            assert!(require_absolute(bad).is_err(), "{bad}");
        }
    }
}
