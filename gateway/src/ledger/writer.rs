//! One thread writes the ledger: all that waits goes into one transaction.

use std::{
    sync::{
        Mutex, PoisonError,
        mpsc::{self, Receiver, Sender},
    },
    thread,
};

use tokio::sync::oneshot;

use super::{Row, Store, StoreError};

/// Rows in one transaction, so that none waits long.
const BATCH: usize = 1_000;

type Ack = oneshot::Sender<Result<(), String>>;

#[derive(Debug)]
pub(super) struct Writer {
    queue: Mutex<Sender<(Vec<Row>, Ack)>>,
}

/// Comes true when the rows are on disk. Dropped, the rows are written all the same.
pub(super) struct Written(oneshot::Receiver<Result<(), String>>);

impl Future for Written {
    type Output = Result<(), String>;

    fn poll(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Self::Output> {
        let stopped = |_| Err("its writer has stopped".to_owned());
        std::pin::Pin::new(&mut self.0).poll(context).map(|answer| answer.unwrap_or_else(stopped))
    }
}

impl Writer {
    pub(super) fn start(store: Store) -> Result<Self, StoreError> {
        let (queue, waiting) = mpsc::channel();
        thread::Builder::new()
            .name("ledger".to_owned())
            .spawn(move || work(store, &waiting))
            .map_err(|error| StoreError::Thread(error.to_string()))?;
        Ok(Self { queue: Mutex::new(queue) })
    }

    /// Hands rows over. Called while the ledger's state is locked, so that rows are written in the order of
    /// the decisions that made them.
    pub(super) fn write(&self, rows: Vec<Row>) -> Written {
        let (ack, written) = oneshot::channel();
        // A writer that is gone has dropped the other end, and `Written` says so.
        let _ = self.queue.lock().unwrap_or_else(PoisonError::into_inner).send((rows, ack));
        Written(written)
    }
}

fn work(mut store: Store, waiting: &Receiver<(Vec<Row>, Ack)>) {
    while let Ok((mut rows, ack)) = waiting.recv() {
        let mut acks = vec![ack];
        while rows.len() < BATCH
            && let Ok((more, ack)) = waiting.try_recv()
        {
            rows.extend(more);
            acks.push(ack);
        }
        let result = store.write(&rows).map_err(|error| error.to_string());
        if let Err(why) = &result {
            tracing::error!("the ledger cannot be written: {why}");
        }
        for ack in acks {
            // Whoever does not wait any more has dropped its end.
            let _ = ack.send(result.clone());
        }
    }
}
