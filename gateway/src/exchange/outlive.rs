//! What goes on without its client: the model is at work, and only its answer says what it costs.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use super::DRAIN;
use crate::Gateway;

type Work<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Work that its owner polls, and that goes on by itself, for [`DRAIN`] at most, when its owner drops it.
pub(super) struct Outliving<T: 'static> {
    gateway: Arc<Gateway>,
    work: Option<Work<T>>,
}

impl<T: 'static> Outliving<T> {
    pub(super) fn new(gateway: &Arc<Gateway>, work: impl Future<Output = T> + Send + 'static) -> Self {
        Self { gateway: Arc::clone(gateway), work: Some(Box::pin(work)) }
    }
}

impl<T: 'static> Future for Outliving<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let Some(work) = &mut self.work else { return Poll::Pending };
        let polled = work.as_mut().poll(context);
        if polled.is_ready() {
            self.work = None;
        }
        polled
    }
}

impl<T: 'static> Drop for Outliving<T> {
    fn drop(&mut self) {
        if let Some(work) = self.work.take() {
            go_on(&self.gateway, async {
                work.await;
            });
        }
    }
}

/// Lets work go on for [`DRAIN`], or until the gateway ends; then it is dropped.
pub(super) fn go_on(gateway: &Gateway, work: impl Future<Output = ()> + Send + 'static) {
    let cut = gateway.cut.clone();
    gateway.under_way.spawn(async move {
        tokio::select! {
            biased;
            () = cut.cancelled() => {}
            () = work => {}
            () = tokio::time::sleep(DRAIN) => {}
        }
    });
}
