//! Coordinators that come and go on one place, and the load that stays.

use std::sync::{Arc, atomic::Ordering};

use tokio::process::Child;

use crate::{
    child::Plan,
    end, owners,
    place::{PATIENCE, Place},
    readers, workers,
    world::World,
};

/// Tasks that may run at once.
pub(crate) const MAX_RUNNING: u32 = 7;
const OWNERS: u64 = 4;
const WORKERS: u64 = 9;
const READERS: u64 = 2;

/// Everybody who makes the load. On one thread, beside the coordinator's.
pub(crate) fn load(world: &Arc<World>) -> Vec<tokio::task::JoinHandle<()>> {
    let owners = (0..OWNERS).map(|number| tokio::task::spawn_local(owners::owner(world.clone(), number)));
    let workers = (0..WORKERS).map(|number| tokio::task::spawn_local(workers::worker(world.clone(), number)));
    let readers = (0..READERS).map(|number| tokio::task::spawn_local(readers::reader(world.clone(), number)));
    let counter = tokio::task::spawn_local(readers::counter(world.clone()));
    owners.chain(workers).chain(readers).chain([counter]).collect()
}

/// Starts a coordinator; `None` where it came by its crash point before its doors were open.
pub(crate) async fn begin(place: &Place, world: &World, plan: &Plan) -> Option<Child> {
    let mut child = place.start(plan);
    if let Some(status) = place.open(&mut child).await {
        place.require_killed(status);
        return None;
    }
    world.generation.send_modify(|generation| *generation += 1);
    Some(child)
}

pub(crate) async fn kill(place: &Place, child: &mut Child) {
    child.start_kill().unwrap();
    place.require_killed(child.wait().await.unwrap());
}

/// One coordinator, until it is killed; whether it did it itself, at its crash point.
pub(crate) async fn one_life(place: &Place, world: &World, plan: &Plan, answers: u64) -> bool {
    let Some(mut child) = begin(place, world, plan).await else { return true };
    let enough = world.answers.load(Ordering::SeqCst) + answers;
    let living = async {
        while world.answers.load(Ordering::SeqCst) < enough {
            world.a_little().await;
        }
    };
    tokio::select! {
        status = child.wait() => {
            place.require_killed(status.unwrap());
            return true;
        }
        within = tokio::time::timeout(PATIENCE, living) => within.expect("the load came to a standstill"),
    }
    kill(place, &mut child).await;
    false
}

/// No more tasks come; those that there are end, or have had the time for it.
pub(crate) async fn drain(world: &World) {
    world.closing.cancel();
    let owner = world.owner();
    let waiting = async {
        loop {
            let held = std::mem::take(&mut world.known.lock().unwrap().held);
            for id in held {
                owners::approve(world, &owner, id).await;
            }
            let open = end::states(&owner).await.into_values().filter(|state| !state.is_terminal()).count();
            let held = world.known.lock().unwrap().held.len();
            if open == 0 && held == 0 {
                break;
            }
            world.a_little().await;
        }
    };
    // Those that never end are the checker's to name.
    let _ = tokio::time::timeout(PATIENCE, waiting).await;
    world.done.cancel();
}
