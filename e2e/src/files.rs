//! Files that appear.

use std::{mem::MaybeUninit, path::Path};

use rustix::fs::inotify::{CreateFlags, Reader, WatchFlags, add_watch, init};

/// Waits until the file is there, whole: it is written under another name and renamed, or is a socket.
pub fn wait_for_file(path: &Path) {
    let notify = init(CreateFlags::CLOEXEC).unwrap();
    add_watch(&notify, path.parent().unwrap(), WatchFlags::MOVED_TO | WatchFlags::CREATE).unwrap();
    let mut buffer = [const { MaybeUninit::uninit() }; 4096];
    let mut changes = Reader::new(notify, &mut buffer);
    while !path.exists() {
        changes.next().unwrap();
    }
}
