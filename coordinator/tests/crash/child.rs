//! The coordinator as a process of its own: this test program again, which runs one test that is the coordinator's
//! `main` and ends itself at the crash point that it was told.

use std::{
    collections::BTreeMap,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use coordinator::{Config, Held, Listeners, crash_point::on_crash_points};
use protocol::{folders::Folders, settings::Sources};
use rustix::process::{Signal, getpid, kill_process, set_parent_process_death_signal};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

/// The variable that holds a [`Plan`].
pub(crate) const PLAN: &str = "CODE_WORKERS_CRASH_PLAN";
/// The ignored test below.
pub(crate) const TEST: &str = "child::coordinator_process";

/// The owner's key.
pub(crate) const KEY: &str = "0123456789abcdef0123456789abcdef";

/// What the process is to do.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub(crate) base: PathBuf,
    pub(crate) max_running: u32,
    /// A crash point, and at which of its passes the process ends.
    pub(crate) crash: Option<(String, u64)>,
    /// Where the length of the WAL's flushed part is kept, if anywhere.
    pub(crate) flushed: Option<PathBuf>,
    /// Forgets what has ended, all of it, instead of running.
    pub(crate) sweep: bool,
}

static DOOMED: OnceLock<Plan> = OnceLock::new();
static PASSES: AtomicU64 = AtomicU64::new(0);
static FLUSHED: AtomicU64 = AtomicU64::new(0);

pub(crate) fn folders(base: &Path) -> Folders {
    let text = |name: &str| base.join(name).display().to_string();
    let environment: BTreeMap<String, String> = [
        ("XDG_CONFIG_HOME".to_owned(), text("c")),
        ("XDG_DATA_HOME".to_owned(), text("d")),
        ("XDG_RUNTIME_DIR".to_owned(), text("r")),
    ]
    .into();
    Folders::from_env(&environment).unwrap()
}

#[test]
#[ignore = "is the coordinator that the other tests start and end"]
fn coordinator_process() {
    let Ok(plan) = std::env::var(PLAN) else { return };
    let plan: Plan = serde_json::from_str(&plan).unwrap();
    // A run that is ended leaves no coordinator behind.
    set_parent_process_death_signal(Some(Signal::KILL)).unwrap();
    DOOMED.set(plan.clone()).unwrap();
    on_crash_points(at_crash_point);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    if plan.sweep { runtime.block_on(crate::retention::sweep(&plan)) } else { runtime.block_on(serve(plan)) }
}

/// Until it is killed.
async fn serve(plan: Plan) {
    let environment: BTreeMap<String, String> = [
        ("FORTRESS_API_KEY".to_owned(), KEY.to_owned()),
        ("COORDINATOR_BIND".to_owned(), "127.0.0.1:0".to_owned()),
        ("CODE_WORKERS_MAX_RUNNING".to_owned(), plan.max_running.to_string()),
    ]
    .into();
    let sources = Sources { environment, ..Sources::default() };
    let config = Config::parse(sources, folders(&plan.base)).unwrap();
    let held = Held::take(config.folders.clone()).unwrap();
    let listeners = Listeners::bind(&held, config.bind).await.unwrap();
    let ended = coordinator::run(held, listeners, config, CancellationToken::new()).await;
    panic!("it ended by itself: {ended:?}");
}

fn at_crash_point(name: &str) {
    let Some(plan) = DOOMED.get() else { return };
    let flushed = plan.flushed.as_ref().filter(|_| name == "store.committed");
    let end = flushed.map(|_| flushed_end(&folders(&plan.base).coordinator_db()));
    let last = FLUSHED.load(Ordering::SeqCst);
    if let Some((point, pass)) = &plan.crash
        && point == name
        // Where the tail is wanted, a transaction that only looked does not count.
        && end.is_none_or(|end| end != last)
        && PASSES.fetch_add(1, Ordering::SeqCst) + 1 == *pass
    {
        kill_process(getpid(), Signal::KILL).unwrap();
        loop {
            std::thread::park();
        }
    }
    if let (Some(path), Some(end)) = (flushed, end) {
        FLUSHED.store(end, Ordering::SeqCst);
        let file = std::fs::OpenOptions::new().create(true).truncate(false).write(true).open(path).unwrap();
        file.write_all_at(&end.to_le_bytes(), 0).unwrap();
    }
}

/// SQLite has flushed the WAL when a commit is over, up to that commit. Where that is says the WAL's index (`mxFrame`
/// and the page size, <https://sqlite.org/walformat.html>): the file may be longer, by what stood there before it
/// was begun again.
fn flushed_end(database: &Path) -> u64 {
    let index = std::fs::File::open(database.with_extension("db-shm")).unwrap();
    let mut header = [0; 48];
    index.read_exact_at(&mut header, 0).unwrap();
    let page = match u16::from_ne_bytes([header[14], header[15]]) {
        1 => 65_536,
        size => u64::from(size),
    };
    let frames = u64::from(u32::from_ne_bytes([header[16], header[17], header[18], header[19]]));
    if frames == 0 { 0 } else { 32 + frames * (24 + page) }
}
