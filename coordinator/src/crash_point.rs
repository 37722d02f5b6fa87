//! Named places where a crash is worth trying: tests end the program there, by SIGKILL to itself. Nothing else hooks
//! into them.

use std::sync::OnceLock;

static HOOK: OnceLock<fn(&str)> = OnceLock::new();

/// Calls `hook` with the name of each crash point that is passed from now on. The first hook stays.
pub fn on_crash_points(hook: fn(&str)) {
    // An error means that there is one already.
    let _ = HOOK.set(hook);
}

/// Passes a crash point.
pub(crate) fn crash_point(name: &str) {
    if let Some(hook) = HOOK.get() {
        hook(name);
    }
}
