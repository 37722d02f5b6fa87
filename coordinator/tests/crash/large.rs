//! A database that is too large to be looked through before it is used: its indexes carry no checksum, and a bit that
//! flipped in one may hide a task.

use std::{collections::BTreeMap, fs::OpenOptions, os::unix::fs::FileExt as _, path::Path};

use coordinator::{Clock, queue::Incoming};
use protocol::{TaskState, Usd, submit::NewTask};

use crate::{
    history::{Fact, Recorder},
    kills::{number, seed},
    place::{Place, exec, open_queue},
    survival::found,
    unflushed::checkpoint,
};

/// Tasks with a body of this size: more than 64 MiB together.
const TASKS: usize = 640;
const BODY: usize = 110 * 1024;

/// Pages of indexes, by their first byte (<https://sqlite.org/fileformat2.html#b_tree_pages>), and the size of a page.
fn index_pages(database: &Path) -> (Vec<u64>, usize) {
    let bytes = std::fs::read(database).unwrap();
    let size = usize::from(u16::from_be_bytes([bytes[16], bytes[17]]));
    let pages = bytes.chunks(size).enumerate().filter(|(_, page)| matches!(page[0], 0x02 | 0x0a));
    (pages.map(|(number, _)| (number * size) as u64).collect(), size)
}

#[tokio::test]
async fn damage_in_a_large_database_is_told() {
    let (seed, damages) = (seed(), number("CODE_WORKERS_CRASH_FLIPS", 60).div_ceil(10));
    let mut dice = fastrand::Rng::with_seed(seed);
    let (place, recorder) = (Place::new().await, Recorder::default());
    let queue = open_queue(&place.folders).unwrap();
    let task = |place| {
        let argv = Some(vec!["echo".to_owned(), "x".repeat(BODY)]);
        NewTask { argv, ..exec("q", format!("t-{place}")) }
    };
    let tasks: Vec<NewTask> = (0..TASKS).map(task).collect();
    let asked = recorder.ask();
    let incoming = tasks.iter().map(|task| Incoming::new(task.clone().check().unwrap(), b"sent"));
    queue.submit(incoming.collect(), Usd::ZERO, Clock::start().now()).await.unwrap();
    for task in tasks {
        let id = task.id.clone().unwrap().parse().unwrap();
        recorder.note(asked, Fact::Accepted(task));
        recorder.note(asked, Fact::Seen { task: id, state: TaskState::Ready });
    }
    queue.close();
    drop(queue);
    let (history, path) = (recorder.history(0), place.folders.coordinator_db());
    checkpoint(&path);
    let (pages, size) = index_pages(&path);
    let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
    let mut outcomes: BTreeMap<&str, u64> = BTreeMap::new();
    for _ in 0..damages {
        let at = pages[dice.usize(0..pages.len())] + dice.u64(0..size as u64);
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ (1 << dice.u32(0..8))], at).unwrap();
        let outcome = match open_queue(&place.folders) {
            Err(_) => "refused to open",
            Ok(queue) => {
                let read = found(&history, &queue).await;
                let told = queue.check().is_err();
                queue.close();
                match (read.faults.is_empty(), told) {
                    (true, true) => "told",
                    (true, false) => "did not matter",
                    (false, true) => "told, after something else was served",
                    (false, false) => panic!("seed {seed}, byte {at}: {:?}", read.faults),
                }
            }
        };
        *outcomes.entry(outcome).or_default() += 1;
        file.write_all_at(&byte, at).unwrap();
    }
    println!("seed {seed}: {damages} damages: {outcomes:?}");
}
