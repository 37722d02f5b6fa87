//! Room on the disks.

use std::path::Path;

use protocol::{folders::Folders, limits};

use super::check::Check;

/// Under this a warning is due: one sandbox's `/work` may take as much by default.
const LITTLE: u64 = 10 << 30;
/// An outbox of one task may take so much of the run folder.
const LITTLE_RUN: u64 = 1 << 30;

/// The disk of the database, the artifacts and every `/work`.
pub(super) fn data(folders: &Folders) -> Check {
    room("disk", &folders.data, LITTLE, "tasks' work, output and artifacts go there")
}

/// The disk of the outboxes.
pub(super) fn run(folders: &Folders) -> Check {
    room("run folder", &folders.run, LITTLE_RUN, "what a task hands over passes through it")
}

fn room(name: &'static str, folder: &Path, little: u64, what_for: &str) -> Check {
    // It may not be there before the first start.
    let there = folder.ancestors().find(|folder| folder.exists()).unwrap_or(folder);
    let stat = match rustix::fs::statvfs(there) {
        Ok(stat) => stat,
        Err(error) => {
            return Check::failed(name, format!("{}: {error}", there.display()), "make the folder readable");
        }
    };
    let (free, inodes) = (stat.f_bavail.saturating_mul(stat.f_frsize), stat.f_favail);
    judge(name, &folder.display().to_string(), free, (stat.f_files > 0).then_some(inodes), little, what_for)
}

/// Whether that is enough: under the reserve the coordinator takes no new task.
fn judge(
    name: &'static str,
    folder: &str,
    free: u64,
    inodes: Option<u64>,
    little: u64,
    what_for: &str,
) -> Check {
    let found = format!("{:.1} GiB free for {folder}", gib(free));
    let remedy = format!("make room: {what_for}");
    match (free, inodes) {
        (_, Some(0)) => Check::failed(name, format!("no inode is free for {folder}"), remedy),
        (free, _) if free < limits::DISK_RESERVE => Check::failed(name, found, remedy),
        (free, _) if free < little => Check::warning(name, found, remedy),
        _ => Check::ok(name, found),
    }
}

#[expect(clippy::cast_precision_loss, reason = "shown with one decimal")]
fn gib(bytes: u64) -> f64 {
    bytes as f64 / (1u64 << 30) as f64
}

#[cfg(test)]
mod tests {
    use super::{super::check::Status, judge};
    use protocol::limits;

    #[test]
    fn little_room_is_a_warning_and_none_a_failure() {
        let status = |free, inodes| judge("disk", "/d", free, inodes, 10 << 30, "x").status;
        assert_eq!(status(10 << 30, Some(1)), Status::Ok);
        assert_eq!(status(10 << 30, None), Status::Ok);
        assert_eq!(status((10 << 30) - 1, Some(1)), Status::Warning);
        assert_eq!(status(limits::DISK_RESERVE - 1, Some(1)), Status::Failed);
        assert_eq!(status(10 << 30, Some(0)), Status::Failed);
    }
}
