//! From a source to a pinned base, with real git in the real helper.

use std::{path::Path, process::Command, time::Duration};

use protocol::{
    Code, Task, TaskState,
    client::{Endpoint, OwnerClient},
    repo::NewRepo,
    submit::NewTask,
};

use crate::house::{House, code, exec, id, soon};

/// The helper beside the test's own program, where the coordinator looks for it; built where it is not there.
pub(crate) fn require_helper() {
    let own = std::env::current_exe().unwrap();
    let helper = own.with_file_name("code-workers-repository");
    let built =
        Path::new(env!("CARGO_BIN_EXE_code-workers-coordinator")).with_file_name("code-workers-repository");
    if !built.is_file() {
        let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
        let status = Command::new(cargo).args(["build", "--quiet", "-p", "repository"]).status().unwrap();
        assert!(status.success());
    }
    if !helper.exists() {
        // Another test may be as quick.
        let _ = std::os::unix::fs::symlink(&built, &helper);
    }
}

pub(crate) fn git(folder: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .args(["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=main"])
        .args(arguments)
        .current_dir(folder)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .output()
        .unwrap();
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

pub(crate) fn commit(folder: &Path, text: &str) -> String {
    std::fs::write(folder.join("file"), text).unwrap();
    git(folder, &["add", "file"]);
    git(folder, &["commit", "-q", "-m", text]);
    git(folder, &["rev-parse", "HEAD"])
}

pub(crate) async fn with_repo() -> (House, std::path::PathBuf, String) {
    require_helper();
    let house = House::empty().await;
    let folder = house.base().join("project");
    std::fs::create_dir(&folder).unwrap();
    git(&folder, &["init", "-q"]);
    let head = commit(&folder, "one");
    let repo = add(&house.owner, "p", &folder).await.unwrap();
    assert_eq!(repo.source, folder.display().to_string());
    (house, folder, head)
}

async fn add(
    owner: &OwnerClient,
    name: &str,
    source: &Path,
) -> Result<protocol::repo::Repo, protocol::client::ClientError> {
    owner.add_repo(&NewRepo { name: name.to_owned(), source: source.display().to_string() }).await
}

pub(crate) fn task(name: &str, base: Option<&str>) -> NewTask {
    NewTask { id: Some(name.to_owned()), base: base.map(str::to_owned), ..exec("p") }
}

/// A task that is not held any more.
pub(crate) async fn settled(house: &House, new: NewTask) -> Task {
    let name = id(new.id.as_deref().unwrap());
    house.submit(new).await;
    let mut stream = house.owner.events(&name, 0, true).await.unwrap();
    soon(async {
        while let Some(event) = futures_util::StreamExt::next(&mut stream).await {
            if let protocol::EventBody::State { state, .. } = event.unwrap().event.body
                && state != TaskState::Held
            {
                break;
            }
        }
    })
    .await;
    house.owner.task(&name, Duration::ZERO).await.unwrap()
}

/// Nothing listens at the source's address now; a coordinator that has just begun does not give up.
#[tokio::test]
async fn a_source_that_cannot_be_reached_is_asked_again() {
    require_helper();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let house = House::empty_with(&[("p", &format!("https://{free}/p.git"))]).await;
    house.submit(task("t", None)).await;
    let mut reason = String::new();
    soon(async {
        while !reason.contains("it is tried again") {
            reason = house.task("t").await.reason.unwrap_or_default();
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(reason.starts_with("source: source_missing: "), "{reason}");
    assert_eq!(house.state("t").await, TaskState::Held);
    assert!(house.worker("p").await.lease().await.is_none());
}

#[tokio::test]
async fn a_base_is_pinned_to_what_the_source_has_now() {
    let (house, folder, first) = with_repo().await;
    let task_1 = settled(&house, task("t1", None)).await;
    assert_eq!((task_1.state, task_1.base.commit.as_deref()), (TaskState::Ready, Some(first.as_str())));
    let between = commit(&folder, "between");
    let second = commit(&folder, "two");
    assert_eq!(settled(&house, task("t2", None)).await.base.commit.as_deref(), Some(second.as_str()));
    git(&folder, &["branch", "side", &first]);
    let on_side = settled(&house, task("t3", Some("side"))).await;
    assert_eq!(on_side.base.commit.as_deref(), Some(first.as_str()));
    assert_eq!(on_side.base.requested.as_deref(), Some("side"));
    // A commit that was pinned before is known without git.
    std::fs::remove_dir_all(&folder).unwrap();
    let known = house.owner.submit(&task("t4", Some(&second.to_uppercase())), Duration::ZERO).await.unwrap();
    assert_eq!((known.state, known.base.commit.as_deref()), (TaskState::Ready, Some(second.as_str())));
    // One that the mirror has is found there, though the source is gone.
    let found = settled(&house, task("t5", Some(&between))).await;
    assert_eq!((found.state, found.base.commit.as_deref()), (TaskState::Ready, Some(between.as_str())));
}

#[tokio::test]
async fn a_base_or_a_source_that_is_not_there_fails_the_task_with_its_reason() {
    let (house, folder, _) = with_repo().await;
    let reason = async |new: NewTask| {
        let task = settled(&house, new).await;
        assert_eq!(task.state, TaskState::Failed);
        task.reason.unwrap()
    };
    for (name, base) in
        [("a", "nowhere"), ("b", &"0".repeat(40)), ("c", "code-workers/none"), ("d", "code-workers/a")]
    {
        let why = reason(task(name, Some(base))).await;
        assert!(why.starts_with("base_unresolvable: "), "{base}: {why}");
    }
    std::fs::rename(&folder, house.base().join("moved")).unwrap();
    let why = reason(task("e", None)).await;
    assert!(why.starts_with("source_missing: ") && why.contains("project"), "{why}");
    std::fs::create_dir(&folder).unwrap();
    git(&folder, &["init", "-q"]);
    let why = reason(task("f", None)).await;
    assert!(why.starts_with("source_empty: "), "{why}");
}

#[tokio::test]
async fn only_sources_that_can_be_used_are_registered() {
    let (house, folder, _) = with_repo().await;
    let post = async |name: &str, source: &str| {
        let new = NewRepo { name: name.to_owned(), source: source.to_owned() };
        house.owner.add_repo(&new).await
    };
    let path = folder.display().to_string();
    assert_eq!(post("p", &path).await.unwrap().name.as_str(), "p", "again");
    assert_eq!(post("copy", &format!("file://{path}")).await.unwrap().source, path);
    let other = house.base().join("other");
    std::fs::create_dir(&other).unwrap();
    assert_eq!(code(post("x", &other.display().to_string()).await), Code::BadSource, "no repository");
    git(&other, &["init", "-q"]);
    assert_eq!(code(post("x", "project").await), Code::BadSource);
    assert_eq!(code(post("x", "ext::sh -c id").await), Code::BadSource);
    assert_eq!(code(post("x", "/no/such/folder").await), Code::BadSource);
    for name in ["a/b", "..", "a b", &"x".repeat(200)] {
        assert_eq!(code(post(name, &path).await), Code::Invalid, "{name}");
    }
    commit(&other, "one");
    assert_eq!(code(post("p", &other.display().to_string()).await), Code::RepositoryTaken);
}

#[tokio::test]
async fn held_tasks_are_taken_up_after_a_restart() {
    let (mut house, _, head) = with_repo().await;
    house.stop().await;
    let queues = crate::house::open_queue(&house.folders);
    crate::house::submit(&queues, vec![task("t", None)]).await;
    queues.close();
    drop(queues);
    let house = house.restart().await;
    let task = settled(&house, task("t", None)).await;
    assert_eq!((task.state, task.base.commit), (TaskState::Ready, Some(head)));
}

#[tokio::test]
async fn a_result_can_be_the_base_of_the_next_task() {
    let (house, folder, head) = with_repo().await;
    settled(&house, task("t.1", None)).await;
    let new = protocol::worker::NewWorker { queue: crate::house::queue("p"), name: "test".to_owned() };
    let registered = house.owner.register_worker(&new).await.unwrap();
    let door = Endpoint::Unix(house.folders.worker_socket());
    let client = protocol::client::WorkerClient::new(door, registered.token).unwrap();
    let query = protocol::lease::LeaseQuery { request_id: uuid::Uuid::new_v4(), wait: 10 };
    let leased = client.lease(&crate::house::queue("p"), &query).await.unwrap().unwrap();
    let lease = client.with_lease(crate::house::held(&leased));
    lease.start().await.unwrap();
    // What a worker does: a branch on the pinned base, as a bundle.
    git(&folder, &["checkout", "-q", "-b", &leased.task.branch]);
    let tip = commit(&folder, "work of the agent");
    let bundle = house.base().join("bundle");
    let range = format!("{head}..{}", leased.task.branch);
    git(&folder, &["bundle", "create", "-q", bundle.to_str().unwrap(), &range]);
    git(&folder, &["checkout", "-q", "main"]);
    git(&folder, &["branch", "-q", "-D", &leased.task.branch]);
    let bytes = std::fs::read(&bundle).unwrap();
    let artifact = protocol::task::Artifact {
        name: "bundle".to_owned(),
        size: bytes.len() as u64,
        sha256: hex::encode(<sha2::Sha256 as sha2::Digest>::digest(&bytes)),
    };
    lease.put_artifact(&artifact, &bundle).await.unwrap();
    let report = protocol::report::Report {
        artifacts: vec![artifact],
        head: Some(tip.clone()),
        ..crate::house::report(protocol::report::Outcome::Succeeded)
    };
    lease.result(&report).await.unwrap();
    let next = settled(&house, task("t2", Some("code-workers/t.1"))).await;
    assert_eq!((next.state, next.base.commit), (TaskState::Ready, Some(tip)), "{:?}", next.reason);
}
