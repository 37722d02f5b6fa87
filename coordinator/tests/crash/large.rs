//! A database that is too large to be looked through before it is used: its indexes carry no checksum, and a bit that
//! flipped in one may hide a task.

use std::{fs::OpenOptions, ops::Range, os::unix::fs::FileExt as _, path::Path};

use coordinator::{
    Clock,
    queue::{Incoming, Queue},
};
use protocol::{TaskState, Usd, submit::NewTask};

use crate::{
    history::{Fact, Recorder},
    kills::{number, seed},
    place::{Place, exec, open_queue},
    survival::found,
    unflushed::checkpoint,
};

/// Tasks with a body of this size: more than 64 MiB together.
const LARGE: usize = 640;
const BODY: usize = 110 * 1024;
/// Tasks that are looked for.
const SMALL: usize = 1_500;

/// Where the indexes lie in the file: of each of their pages the cells' pointers, and the cells
/// (<https://sqlite.org/fileformat2.html#b_tree_pages>).
fn indexes(database: &Path) -> Vec<Range<u64>> {
    let bytes = std::fs::read(database).unwrap();
    let size = usize::from(u16::from_be_bytes([bytes[16], bytes[17]]));
    let mut found = Vec::new();
    for (number, page) in bytes.chunks(size).enumerate() {
        let header = match page[0] {
            0x02 => 12,
            0x0a => 8,
            _ => continue,
        };
        let cells = usize::from(u16::from_be_bytes([page[3], page[4]]));
        let content = usize::from(u16::from_be_bytes([page[5], page[6]]));
        let at = |offset: usize| (number * size + offset) as u64;
        found.extend([at(0)..at(header + 2 * cells), at(content)..at(size)]);
    }
    found.retain(|range| !range.is_empty());
    found
}

async fn fill(queue: &Queue, recorder: &Recorder) {
    let large = |place| {
        let argv = Some(vec!["echo".to_owned(), "x".repeat(BODY)]);
        NewTask { argv, ..exec("other", format!("large-{place}")) }
    };
    let small = |place| exec("q", format!("t-{place}"));
    let tasks: Vec<NewTask> = (0..LARGE).map(large).chain((0..SMALL).map(small)).collect();
    let asked = recorder.ask();
    let incoming = tasks.iter().map(|task| Incoming::new(task.clone().check().unwrap(), b"sent"));
    queue.submit(incoming.collect(), Usd::ZERO, Clock::start().now()).await.unwrap();
    for task in tasks.into_iter().skip(LARGE) {
        let id = task.id.clone().unwrap().parse().unwrap();
        recorder.note(asked, Fact::Accepted(task));
        recorder.note(asked, Fact::Seen { task: id, state: TaskState::Ready });
    }
}

/// The owner's door waits until the database was looked through (`http/auth.rs`), and so does this.
#[tokio::test]
async fn damage_in_a_large_database_is_told_before_anything_is_served() {
    damage_indexes().await;
}

/// Flips a bit of an index, again and again.
async fn damage_indexes() {
    let (seed, damages) = (seed(), number("CODE_WORKERS_CRASH_FLIPS", 60).div_ceil(6));
    let mut dice = fastrand::Rng::with_seed(seed);
    let (place, recorder) = (Place::new().await, Recorder::default());
    let queue = open_queue(&place.folders).unwrap();
    fill(&queue, &recorder).await;
    queue.close();
    drop(queue);
    let (history, path) = (recorder.history(0), place.folders.coordinator_db());
    checkpoint(&path);
    let indexes = indexes(&path);
    let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
    let mut told = 0;
    for _ in 0..damages {
        let range = dice.choice(&indexes).unwrap().clone();
        let at = dice.u64(range);
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ (1 << dice.u32(0..8))], at).unwrap();
        if let Ok(queue) = open_queue(&place.folders) {
            if queue.check().is_err() {
                told += 1;
            } else {
                let read = found(&history, &queue).await;
                assert!(read.faults.is_empty(), "seed {seed}, byte {at}: {:?}", read.faults);
            }
            queue.close();
        } else {
            told += 1;
        }
        file.write_all_at(&byte, at).unwrap();
    }
    println!("seed {seed}: of {damages} damages {told} were told, and the others did not matter");
    assert!(told > 0, "no damage was noticed at all");
}
