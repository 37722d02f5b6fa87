//! The coordinator is killed again and again under load; then all that was acknowledged is looked for.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use crate::{
    check,
    child::Plan,
    end,
    gateway::gateway,
    history::Fact,
    lives::{MAX_RUNNING, begin, drain, kill, load, one_life},
    place::{self, Place},
    world::World,
};

/// Where it is killed: once the load comes by there for the nth time, n up to this.
pub(crate) const POINTS: [(&str, u64); 12] = [
    ("store.written", 40),
    ("store.committed", 40),
    ("store.answered", 40),
    ("lease.committed", 10),
    ("output.written", 20),
    ("artifact.received", 4),
    ("artifact.settled", 4),
    ("artifact.placed", 3),
    ("artifacts.placed", 3),
    ("key.minted", 5),
    ("key.revoked", 4),
    ("result.accepted", 10),
];
/// Kills of a usual run.
pub(crate) const KILLS: u64 = 6;
/// Answers after which it is killed from outside, where it did not come by its crash point.
const ANSWERS: u64 = 300;
/// Kills on one place; then all is checked, and the next place is taken.
const KILLS_OF_ROUND: u64 = 50;

pub(crate) fn number(name: &str, usual: u64) -> u64 {
    std::env::var(name).ok().map_or(usual, |text| text.parse().unwrap())
}

/// The seed of this run, which it says.
pub(crate) fn seed() -> u64 {
    let seed = number("CODE_WORKERS_CRASH_SEED", fastrand::u64(0..1_000_000));
    println!("CODE_WORKERS_CRASH_SEED={seed}");
    seed
}

#[tokio::test]
async fn what_was_acknowledged_survives_kills() {
    let (seed, kills) = (seed(), number("CODE_WORKERS_CRASH_KILLS", KILLS));
    let mut left = kills;
    let mut met: BTreeMap<String, u64> = BTreeMap::new();
    for round in 0.. {
        let of_round = left.min(KILLS_OF_ROUND);
        if of_round == 0 {
            break;
        }
        let first = kills - left;
        left -= of_round;
        let load = tokio::task::LocalSet::new();
        load.run_until(round_of_kills(seed + round, first, of_round, &mut met)).await;
    }
    println!("killed at: {met:?}");
    if kills >= 200 {
        for (point, _) in POINTS {
            let met = met.contains_key(point) || point.starts_with("key.");
            assert!(met, "the load never came by {point}");
        }
    }
}

async fn round_of_kills(seed: u64, first: u64, kills: u64, met: &mut BTreeMap<String, u64>) {
    let began = Instant::now();
    let place = Place::new().await;
    let gateway = gateway(&place).await;
    let scratch = place.beside("scratch");
    std::fs::create_dir(&scratch).unwrap();
    let world = Arc::new(World::new(place.folders.clone(), scratch, seed, gateway.is_some()));
    let load = load(&world);
    let mut dice = world.dice("killer", 0);
    for kill in first..first + kills {
        // Named points in turn, and moments of chance in between.
        let (point, most) = POINTS[usize::try_from(seed + kill / 2).unwrap() % POINTS.len()];
        let crash = kill.is_multiple_of(2).then(|| (point.to_owned(), dice.u64(1..=most)));
        let plan = Plan { max_running: MAX_RUNNING, crash: crash.clone(), ..Plan::default() };
        let answers = if crash.is_some() { ANSWERS } else { dice.u64(0..ANSWERS) };
        let by_itself = one_life(&place, &world, &plan, answers).await;
        let at = if by_itself { point } else { "any moment" };
        *met.entry(at.to_owned()).or_default() += 1;
    }
    let mut child =
        begin(&place, &world, &Plan { max_running: MAX_RUNNING, ..Plan::default() }).await.unwrap();
    drain(&world).await;
    let all = futures_util::future::try_join_all(load);
    let ended = tokio::time::timeout(place::PATIENCE, all).await;
    let owner = world.owner();
    let mut end = end::look(&owner).await;
    kill(&place, &mut child).await;
    let _child = begin(&place, &world, &Plan::default()).await.unwrap();
    end.later = end::states(&world.owner()).await;
    let history = world.recorder.history(MAX_RUNNING);
    let mut faults = check::faults(&history, &end);
    if !matches!(ended, Ok(Ok(_))) {
        faults.push(format!("the load did not end well: {ended:?}"));
    }
    let few: Vec<_> =
        faults.iter().take(20).map(|fault| fault.chars().take(600).collect::<String>()).collect();
    assert!(few.is_empty(), "seed {seed}: {} faults, the first of them:\n{}", faults.len(), few.join("\n"));
    nothing_is_left_over(&place, world.agents).await;
    let count = |is: fn(&Fact) -> bool| history.facts.iter().filter(|(_, fact)| is(fact)).count();
    println!(
        "seed {seed}: {kills} kills, {} tasks, {} answers ({} leases, {} results, {} batches of events, {} messages, \
         {} heartbeats that brought orders), {:.1} s",
        end.tasks.len(),
        history.facts.len(),
        count(|fact| matches!(fact, Fact::Leased { .. })),
        count(|fact| matches!(fact, Fact::Result { .. })),
        count(|fact| matches!(fact, Fact::Stored { .. })),
        count(|fact| matches!(fact, Fact::Told { .. })),
        count(|fact| matches!(fact, Fact::Beat { orders, .. } if !orders.is_empty())),
        began.elapsed().as_secs_f64()
    );
}

/// The next coordinator puts every accepted artifact into its place, and has every key accounted for.
async fn nothing_is_left_over(place: &Place, gateway: bool) {
    let database = rusqlite::Connection::open(place.folders.coordinator_db()).unwrap();
    let count = |table: &str| -> i64 {
        database.query_row(&format!("SELECT COUNT(*) FROM {table}"), [], |row| row.get(0)).unwrap()
    };
    place::until(|| count("uploads") == 0 && (count("keys") == 0 || !gateway)).await;
    let sound: String = database.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(sound, "ok");
}
