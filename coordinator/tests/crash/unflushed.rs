//! A machine that goes down, and a disk that lies: what was acknowledged survives the loss of all that was not flushed,
//! and damage to what was is told, and never served.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use crate::{
    child::Plan,
    damage::{Files, LOSSES, hurt, lose},
    gateway::gateway,
    history::History,
    kills::{KILLS, number, seed},
    lives::{MAX_RUNNING, load, one_life},
    place::{Place, open_queue},
    survival::{Found, found},
    world::World,
};

/// Answers after which a life is over that did not come by its crash point.
const ANSWERS: u64 = 500;

/// A load on a place, without a coordinator yet.
async fn begin(seed: u64) -> (Place, Option<tokio::process::Child>, Arc<World>) {
    let place = Place::new().await;
    let gateway = gateway(&place).await;
    let scratch = place.beside("scratch");
    std::fs::create_dir(&scratch).unwrap();
    let world = Arc::new(World::new(place.folders.clone(), scratch, seed, gateway.is_some()));
    (place, gateway, world)
}

fn few(texts: &[String]) -> String {
    let few: Vec<String> = texts.iter().take(5).map(|text| text.chars().take(600).collect()).collect();
    few.join("\n")
}

#[tokio::test]
async fn what_was_acknowledged_survives_the_loss_of_what_was_not_flushed() {
    let (seed, lives) = (seed(), number("CODE_WORKERS_CRASH_KILLS", KILLS).div_ceil(4));
    tokio::task::LocalSet::new().run_until(losses(seed, lives)).await;
}

async fn losses(seed: u64, lives: u64) {
    let (place, _gateway, world) = begin(seed).await;
    let load = load(&world);
    let mut dice = world.dice("loser", 0);
    let flushed = place.beside("flushed");
    let mut tails = Vec::new();
    for life in 0..lives {
        // It ends between a commit and the note that it is flushed: the commit is the tail, and nobody was answered.
        let crash = (life % 3 < 2).then(|| ("store.committed".to_owned(), dice.u64(10..120)));
        let flushed_to = Some(flushed.clone());
        let plan = Plan { max_running: MAX_RUNNING, crash, flushed: flushed_to, ..Plan::default() };
        one_life(&place, &world, &plan, ANSWERS).await;
        let files = Files::of(&place, &flushed);
        tails.push(files.wal.len().saturating_sub(files.flushed));
        let history = world.recorder.history(MAX_RUNNING);
        for (how, name) in LOSSES.iter().enumerate() {
            let mut lost = Files::of(&place, &flushed);
            lose(&mut lost, how, &mut dice);
            let found = open_and_read(&lost, &history).await.unwrap_or_else(|error| {
                panic!("seed {seed}, life {life}, {name}: it does not open: {error}")
            });
            let faults = [found.faults, found.told].concat();
            assert!(faults.is_empty(), "seed {seed}, life {life}, {name}:\n{}", few(&faults));
        }
    }
    for part in load {
        part.abort();
    }
    println!("bytes of the WAL that were not flushed: {tails:?}");
    assert!(tails.iter().any(|tail| *tail > 0), "no kill left a tail");
}

/// What everything on a copy says; the error where it does not open.
async fn open_and_read(files: &Files, history: &History) -> Result<Found, String> {
    let copy = files.copy();
    let queue = open_queue(&copy.folders).map_err(|error| error.to_string())?;
    let found = found(history, &queue).await;
    queue.close();
    Ok(found)
}

#[tokio::test]
async fn damage_is_told_and_never_served() {
    let (seed, flips) = (seed(), number("CODE_WORKERS_CRASH_FLIPS", 60));
    tokio::task::LocalSet::new().run_until(damages(seed, flips)).await;
}

async fn damages(seed: u64, flips: u64) {
    let (place, _gateway, world) = begin(seed).await;
    let load = load(&world);
    let flushed = place.beside("flushed");
    let plan = Plan { max_running: MAX_RUNNING, flushed: Some(flushed.clone()), ..Plan::default() };
    one_life(&place, &world, &plan, ANSWERS).await;
    checkpoint(&place.folders.coordinator_db());
    one_life(&place, &world, &plan, ANSWERS).await;
    for part in load {
        part.abort();
    }
    let history = world.recorder.history(MAX_RUNNING);
    let sound = open_and_read(&Files::of(&place, &flushed), &history).await.unwrap();
    assert!(sound.faults.is_empty() && sound.told.is_empty(), "{sound:?}");
    let mut dice = world.dice("damage", 0);
    let mut outcomes: BTreeMap<&str, u64> = BTreeMap::new();
    for _ in 0..flips {
        let mut files = Files::of(&place, &flushed);
        let done = hurt(&mut files, &mut dice);
        let outcome = match open_and_read(&files, &history).await {
            Err(error) => {
                assert!(!error.is_empty());
                "refused to open"
            }
            Ok(found) => {
                assert!(found.faults.is_empty(), "seed {seed}, {done}:\n{}", few(&found.faults));
                if found.told.is_empty() { "did not matter" } else { "told when it was read" }
            }
        };
        *outcomes.entry(outcome).or_default() += 1;
    }
    println!("seed {seed}: {flips} damages: {outcomes:?}");
    assert!(outcomes.contains_key("refused to open"), "{outcomes:?}");
}

/// Brings the WAL's content into the database, which it does when the last connection closes.
pub(crate) fn checkpoint(database: &Path) {
    let connection = rusqlite::Connection::open(database).unwrap();
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
}
