//! The threads that serve agents, one for each core. A connection stays where it was put, and so do the connections to
//! upstreams that its requests use: nothing of a request wakes another thread.

use std::{io, os::unix, sync::Arc, thread};

use tokio::{
    net::{TcpStream, UnixStream},
    runtime::{Builder, Handle},
};
use tokio_util::task::TaskTracker;

use crate::upstream::Wires;

/// All of them.
#[derive(Debug)]
pub struct Lanes(Vec<Lane>);

/// One thread's runtime.
#[derive(Debug, Clone)]
pub(super) struct Lane {
    runtime: Handle,
    connections: TaskTracker,
    pub(super) wires: Arc<Wires>,
}

impl Lanes {
    /// Starts them. They run as long as the program.
    ///
    /// # Errors
    /// What the system said.
    pub fn start() -> io::Result<Self> {
        let count = thread::available_parallelism()?.get();
        let wires = Wires::new();
        let lane = |_| {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            let wires = wires.apart();
            let lane = Lane { runtime: runtime.handle().clone(), connections: TaskTracker::new(), wires };
            let sweep = Arc::clone(&lane.wires).sweep();
            thread::Builder::new().name("lane".to_owned()).spawn(move || runtime.block_on(sweep))?;
            Ok(lane)
        };
        (0..count).map(lane).collect::<io::Result<_>>().map(Self)
    }

    /// The one that has the fewest connections.
    pub(super) fn emptiest(&self) -> Option<&Lane> {
        self.0.iter().min_by_key(|lane| lane.connections.len())
    }

    /// Waits until no connection is left. No other may come.
    pub async fn empty(&self) {
        for lane in &self.0 {
            lane.connections.close();
            lane.connections.wait().await;
        }
    }
}

impl Lane {
    pub(super) fn spawn(&self, serving: impl Future<Output = ()> + Send + 'static) {
        self.connections.spawn_on(serving, &self.runtime);
    }
}

/// A connection that can go to another thread's runtime.
pub trait Moves: Sized {
    /// One that is of no runtime.
    type Loose: Send + 'static;
    /// Takes it from the runtime that it is of.
    ///
    /// # Errors
    /// What the system said.
    fn loosen(self) -> io::Result<Self::Loose>;
    /// Gives it to the runtime of who calls.
    ///
    /// # Errors
    /// What the system said.
    fn join(loose: Self::Loose) -> io::Result<Self>;
}

impl Moves for TcpStream {
    type Loose = std::net::TcpStream;
    fn loosen(self) -> io::Result<Self::Loose> {
        self.into_std()
    }
    fn join(loose: Self::Loose) -> io::Result<Self> {
        Self::from_std(loose)
    }
}

impl Moves for UnixStream {
    type Loose = unix::net::UnixStream;
    fn loosen(self) -> io::Result<Self::Loose> {
        self.into_std()
    }
    fn join(loose: Self::Loose) -> io::Result<Self> {
        Self::from_std(loose)
    }
}
