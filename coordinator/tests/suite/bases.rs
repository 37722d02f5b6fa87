//! A pinned base through the worker's door.

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf, process::Command};

use coordinator::bases::Bases;
use protocol::{
    Code,
    client::{ClientError, LeasedClient},
    inside::HeldLease,
    report::Outcome,
};
use repository::Helper;

use crate::{
    house::{House, Worker, code, folders, held, id, named, queue, report, soon},
    source::{commit, git, require_helper, settled, task, with_repo},
};

/// A started task of this name in the queue `p`, its worker, and its lease.
async fn started(house: &House, name: &str, base: Option<&str>) -> (Worker, LeasedClient) {
    settled(house, task(name, base)).await;
    let worker = house.worker("p").await;
    let leased = worker.lease().await.unwrap();
    assert_eq!(leased.task.id.as_str(), name);
    let client = worker.with(&leased);
    client.start().await.unwrap();
    (worker, client)
}

async fn download(client: &LeasedClient) -> Result<Vec<u8>, ClientError> {
    let mut body = soon(client.base()).await?;
    let mut bytes = Vec::new();
    while let Some(chunk) = soon(body.chunk()).await? {
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

fn files(house: &House) -> Vec<PathBuf> {
    let entries = fs::read_dir(house.folders.bases_of(&queue("p")));
    entries.into_iter().flatten().map(|entry| entry.unwrap().path()).collect()
}

#[tokio::test]
async fn a_worker_gets_its_base_with_all_history() {
    let (house, folder, first) = with_repo().await;
    let (_, lease) = started(&house, "t", Some("main")).await;
    commit(&folder, "later");
    let bundle = house.base().join("base.bundle");
    fs::write(&bundle, download(&lease).await.unwrap()).unwrap();
    let listed = git(&folder, &["bundle", "list-heads", bundle.to_str().unwrap()]);
    assert_eq!(listed, format!("{first} {}", repository::BASE_REF));
    git(&folder, &["clone", "-q", "-b", "base", bundle.to_str().unwrap(), "../clone"]);
    assert_eq!(fs::read_to_string(house.base().join("clone/file")).unwrap(), "one");
    // Once made it needs no git.
    fs::remove_dir_all(house.folders.mirror(&queue("p"))).unwrap();
    assert_eq!(download(&lease).await.unwrap(), fs::read(bundle).unwrap());
    assert_eq!(files(&house).len(), 1);
}

#[tokio::test]
async fn nobody_else_gets_it() {
    let (house, _, _) = with_repo().await;
    let (worker, lease) = started(&house, "t", None).await;
    settled(&house, task("u", None)).await;
    let wrong = |task: &str, token: &str, attempt| {
        let token = protocol::Secret::new(token);
        worker.client.with_lease(HeldLease { task: id(task), token, attempt })
    };
    assert_eq!(code(download(&wrong("t", "made-up", 1)).await), Code::LeaseLost);
    assert_eq!(code(download(&wrong("none", "made-up", 1)).await), Code::UnknownTask);
    // The lease of one task opens no other.
    let other = house.worker("p").await;
    let leased = other.lease().await.unwrap();
    assert_eq!(leased.task.id.as_str(), "u");
    let mixed = HeldLease { task: id("t"), ..held(&leased) };
    assert_eq!(code(download(&other.client.with_lease(mixed)).await), Code::LeaseLost);
    // And what has ended has no lease.
    download(&lease).await.unwrap();
    lease.result(&report(Outcome::Succeeded)).await.unwrap();
    assert_eq!(code(download(&lease).await), Code::LeaseLost);
}

#[tokio::test]
async fn another_queues_worker_does_not_get_it() {
    let house = House::open().await;
    let (_, _lease) = house.started("t").await;
    let stranger = house.worker("other").await;
    let token = protocol::Secret::new("made-up");
    let lease = stranger.client.with_lease(HeldLease { task: id("t"), token, attempt: 1 });
    assert_eq!(code(download(&lease).await), Code::WrongQueue);
}

#[tokio::test]
async fn a_base_that_is_gone_is_told_and_costs_nothing_else() {
    require_helper();
    let house = House::open().await;
    let (_, lease) = house.started("t").await;
    assert_eq!(code(download(&lease).await), Code::BaseMissing);
    house.submit(named("u")).await;
    lease.result(&report(Outcome::Failed)).await.unwrap();
}

#[tokio::test]
async fn a_removed_repositorys_bundles_go_with_it() {
    let (house, _, _) = with_repo().await;
    let (_, lease) = started(&house, "t", None).await;
    download(&lease).await.unwrap();
    lease.result(&report(Outcome::Succeeded)).await.unwrap();
    assert_eq!(files(&house).len(), 1);
    house.owner.remove_repo(&queue("p")).await.unwrap();
    assert!(files(&house).is_empty());
}

/// Bundles that a script makes instead of the helper; `$1` is the file to write. It counts how often it was run.
struct Scripted {
    bases: Bases,
    base: tempfile::TempDir,
}

const COMMIT: &str = "1111111111111111111111111111111111111111";

impl Scripted {
    fn new(script: &str) -> Self {
        let base = tempfile::tempdir().unwrap();
        let program = base.path().join("helper");
        let runs = base.path().join("runs");
        let text = format!(
            "#!/bin/bash\nread -r question; echo run >> {}\n\
             set -- \"$(sed 's/.*\"bundle\":\"\\([^\"]*\\)\".*/\\1/' <<< \"$question\")\"\n{script}\n",
            runs.display()
        );
        fs::write(&program, text).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        Self { bases: Bases::open(folders(base.path()), Helper::new(program)), base }
    }

    async fn get(&self, commit: &str) -> Result<u64, Code> {
        let (queue, commit) = (queue("q"), commit.parse().unwrap());
        soon(self.bases.bundle(&queue, &commit)).await.map(|(_, size)| size).map_err(|problem| problem.code)
    }

    fn runs(&self) -> usize {
        fs::read_to_string(self.base.path().join("runs")).unwrap_or_default().lines().count()
    }

    fn files(&self) -> Vec<PathBuf> {
        let folder = folders(self.base.path()).bases_of(&queue("q"));
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
    }
}

#[tokio::test]
async fn a_helper_that_dies_half_way_leaves_nothing_that_passes_for_a_bundle() {
    for end in [
        "kill -KILL $$",
        "exit 0",
        r#"echo '{"answer":"failed","code":"git_failed","message":"m","remedy":"r"}'"#,
        // It says more than it wrote.
        r#"echo '{"answer":"bundled","size":10}'"#,
    ] {
        let scripted = Scripted::new(&format!("printf half > \"$1\"; {end}"));
        let code = scripted.get(COMMIT).await.unwrap_err();
        assert!(matches!(code, Code::Internal | Code::StorageUnavailable), "{end}: {code:?}");
        assert!(scripted.files().is_empty(), "{end}");
        // The next one who asks has it tried again.
        scripted.get(COMMIT).await.unwrap_err();
        assert_eq!(scripted.runs(), 2, "{end}");
    }
}

const WRITES: &str = r#"printf 0123456789 > "$1"; echo '{"answer":"bundled","size":10}'"#;

#[tokio::test]
async fn many_that_ask_at_once_have_one_made() {
    let scripted = Scripted::new(WRITES);
    let all = futures_util::future::join_all((0..50).map(|_| scripted.get(COMMIT))).await;
    assert!(all.iter().all(|size| *size == Ok(10)), "{all:?}");
    assert_eq!(scripted.runs(), 1);
    let other = "2".repeat(40);
    assert_eq!(scripted.get(&other).await, Ok(10));
    assert_eq!((scripted.runs(), scripted.files().len()), (2, 2));
}

#[tokio::test]
async fn one_who_goes_away_does_not_keep_it_from_the_others() {
    let gate = tempfile::tempdir().unwrap();
    let fifo = gate.path().join("gate");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let scripted = Scripted::new(&format!("read -r _ < {}; {WRITES}", fifo.display()));
    let (queue, commit) = (queue("q"), COMMIT.parse().unwrap());
    {
        let mut first = std::pin::pin!(scripted.bases.bundle(&queue, &commit));
        let begun = crate::house::until(|| scripted.runs() == 1);
        tokio::select! {
            _ = &mut first => panic!("it has to wait"),
            () = begun => {}
        }
    }
    let open = tokio::task::spawn_blocking(move || fs::write(fifo, "go\n"));
    assert_eq!(scripted.get(COMMIT).await, Ok(10));
    open.await.unwrap().unwrap();
    assert_eq!(scripted.runs(), 1);
}

#[tokio::test]
async fn what_was_not_asked_for_longest_makes_room_for_the_rest() {
    // Sparse files: bytes that take no room.
    let size = protocol::limits::BASES_KEPT_BYTES / 2;
    let script = format!("truncate -s {size} \"$1\"; echo '{{\"answer\":\"bundled\",\"size\":{size}}}'");
    let scripted = Scripted::new(&script);
    let [one, two, three] = ["1", "2", "3"].map(|digit| digit.repeat(40));
    for commit in [&one, &two, &one, &three] {
        assert_eq!(scripted.get(commit).await, Ok(size));
    }
    let mut kept: Vec<_> = scripted.files();
    kept.sort();
    let names: Vec<_> = kept.iter().map(|path| path.file_stem().unwrap().to_str().unwrap()).collect();
    assert_eq!(names, [one.as_str(), three.as_str()]);
    assert_eq!(scripted.runs(), 3);
}
