//! Ends what a sandbox left running when nobody waited for it.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, getpid, pidfd_open, pidfd_send_signal};

/// How long the kernel may take to end a killed process.
const GONE_WITHIN: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };

/// Kills every process that was started with `state` as an argument, and those in `also`, and waits until they
/// are gone. runsc's own processes (`run`, `boot`, `gofer`) all carry the folder of their state, and that
/// folder belongs to one sandbox alone. Blocks.
pub(crate) fn end(state: &Path, also: &[i32]) {
    let Ok(processes) = fs::read_dir("/proc") else { return };
    let pids = processes.filter_map(|entry| Pid::from_raw(entry.ok()?.file_name().to_str()?.parse().ok()?));
    let is_ours = |pid: Pid| also.contains(&pid.as_raw_nonzero().get()) || carries(pid, state);
    let held: Vec<_> =
        pids.filter(|pid| *pid != getpid() && is_ours(*pid)).filter_map(|pid| stop(pid, &is_ours)).collect();
    // Nobody sees another's end and makes a result of it: the numbers do not say who watches whom.
    for process in &held {
        let _ = pidfd_send_signal(process, Signal::KILL);
    }
    for process in held {
        // Readable when the process has ended.
        let _ = poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&GONE_WITHIN));
    }
}

/// A number may have been given to another process since it was read: look again once it is held.
fn stop(pid: Pid, is_ours: &impl Fn(Pid) -> bool) -> Option<OwnedFd> {
    let process = pidfd_open(pid, PidfdFlags::empty()).ok()?;
    (is_ours(pid) && pidfd_send_signal(&process, Signal::STOP).is_ok()).then_some(process)
}

fn carries(pid: Pid, state: &Path) -> bool {
    let state = state.as_os_str().as_bytes();
    let Ok(line) = fs::read(format!("/proc/{pid}/cmdline")) else { return false };
    let arguments: Vec<_> = line.split(|byte| *byte == 0).collect();
    let apart = arguments.windows(2).any(|pair| pair == [b"--root".as_slice(), state]);
    apart || arguments.iter().any(|argument| argument.strip_prefix(b"--root=") == Some(state))
}
