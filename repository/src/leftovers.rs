//! What a git that was killed leaves in a mirror: lock files that would keep every later one out, and half packs.

use std::fs;
use std::path::Path;

/// Removes them. Only for who holds the mirror's lock: then no git of ours is at work there, and nobody else writes
/// to a mirror. What cannot be removed is met again by the git that follows, which says so.
pub(crate) fn clear(mirror: &Path) {
    remove(mirror, 0, is_lock);
    remove(&mirror.join("refs"), usize::MAX, is_lock);
    remove(&mirror.join("objects/pack"), 0, |name| name.starts_with("tmp_"));
}

/// No ref can end so.
fn is_lock(name: &str) -> bool {
    name.ends_with(".lock")
}

fn remove(folder: &Path, levels: usize, unwanted: fn(&str) -> bool) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if is_folder && levels > 0 {
            remove(&entry.path(), levels - 1, unwanted);
        } else if !is_folder && entry.file_name().to_str().is_some_and(unwanted) {
            let _ = fs::remove_file(entry.path());
        }
    }
}
