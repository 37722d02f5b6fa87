//! Those who only look: how much runs at once, and what happens to a task.

use std::sync::Arc;

use futures_util::StreamExt as _;
use protocol::{Event, EventBody, TaskId, queue::ChangeQueue};

use crate::{
    history::Fact,
    place::{QUEUES, queue},
    world::World,
};

/// Counts all the time what runs, and changes now and then how much may.
pub(crate) async fn counter(world: Arc<World>) {
    let (owner, mut dice) = (world.owner(), world.dice("counter", 0));
    while !world.done.is_cancelled() {
        world.a_little().await;
        let (asked, answer) = world.ask(|| owner.queues()).await;
        match answer {
            Ok(queues) => {
                let live =
                    queues.into_iter().map(|queue| (queue.name, queue.depth.leased + queue.depth.running));
                world.recorder.note(asked, Fact::Live(live.collect()));
            }
            Err(error) => world.odd(asked, "count", &error),
        }
        if dice.u32(0..20) == 0 {
            let (name, max_running) = (queue(QUEUES[dice.usize(0..2)]), dice.u32(0..6));
            let change = ChangeQueue { mode: None, max_running: Some(max_running) };
            let (asked, answer) = world.ask(|| owner.change_queue(&name, &change)).await;
            match answer {
                Ok(_) => world.recorder.note(asked, Fact::Limit { queue: name, max_running }),
                Err(error) => world.odd(asked, "change a queue", &error),
            }
        }
    }
}

/// Follows one task after another to its end, over every crash.
pub(crate) async fn reader(world: Arc<World>, number: u64) {
    let mut dice = world.dice("reader", number);
    while !world.done.is_cancelled() {
        let open = world.known.lock().unwrap().open.iter().cloned().collect::<Vec<_>>();
        match dice.choice(open) {
            Some(task) => follow(&world, task).await,
            None => world.a_little().await,
        }
    }
}

async fn follow(world: &World, task: TaskId) {
    let (owner, asked) = (world.owner(), world.recorder.ask());
    let mut events: Vec<Event> = Vec::new();
    while !events.last().is_some_and(is_end) {
        let after = events.last().map_or(0, |event| event.seq);
        let (asked, stream) = world.ask(|| owner.events(&task, after, true)).await;
        match stream {
            Ok(mut stream) => {
                while let Some(Ok(event)) = stream.next().await {
                    events.push(event);
                }
            }
            Err(error) => return world.odd(asked, "follow", &error),
        }
    }
    world.recorder.note(asked, Fact::Followed { task, events });
}

/// Whether nothing comes after it.
pub(crate) fn is_end(event: &Event) -> bool {
    matches!(event.event.body, EventBody::State { state, .. } if state.is_terminal())
}
