//! The service manager: the socket that it hands over, and what it wants to hear (sd_listen_fds(3), sd_notify(3)).

use std::io;
use std::os::fd::OwnedFd;

use listenfd::ListenFd;
use rustix::net::{AddressFamily, SocketType};
use sd_notify::NotifyState;

/// The one socket that was handed over. Call it before there are threads: it takes the variables out of the
/// environment.
///
/// # Errors
/// When there is none, or more than one, or it is no stream socket of a family that is relayed.
pub(crate) fn inherited() -> io::Result<OwnedFd> {
    let mut handed = ListenFd::from_env();
    if handed.len() != 1 {
        let what = format!(
            "--listen systemd takes one socket, and {} were handed over: start the socket unit, with one ListenStream=",
            handed.len()
        );
        return Err(io::Error::other(what));
    }
    let mut last = None;
    for family in [AddressFamily::UNIX, AddressFamily::INET, AddressFamily::VSOCK] {
        let (family, stream) = (i32::from(family.as_raw()), SocketType::STREAM.as_raw());
        match handed.take_custom(0, family, stream.cast_signed(), "stream socket over TCP, unix or vsock") {
            Ok(socket) => return socket.ok_or_else(|| io::Error::other("the socket was taken already")),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| io::ErrorKind::InvalidInput.into()))
}

/// Tells the manager, when there is one.
pub(crate) async fn tell(state: NotifyState<'static>) {
    // On a thread of its own: a manager that does not read must not hold up what is relayed.
    let told = tokio::task::spawn_blocking(move || sd_notify::notify(&[state])).await;
    if let Ok(Err(error)) = told {
        tracing::warn!("cannot tell the service manager: {error}");
    }
}

/// Says that the relay lives, twice as often as the manager wants to hear it, for as long as this is polled.
pub(crate) async fn tell_of_life() {
    let Some(within) = sd_notify::watchdog_enabled() else {
        return std::future::pending().await;
    };
    let mut ticks = tokio::time::interval(within / 2);
    loop {
        ticks.tick().await;
        tell(NotifyState::Watchdog).await;
    }
}
