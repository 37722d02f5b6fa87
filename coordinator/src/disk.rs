//! Room on the data folder's disk. New work is taken only while there is some to spare: what was taken must be able
//! to end, and its results to be stored.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
};

use protocol::{Code, Problem, limits};

/// The disk that holds the data folder.
#[derive(Debug)]
pub struct Disk {
    folder: PathBuf,
    full: AtomicBool,
}

impl Disk {
    /// Of this folder.
    #[must_use]
    pub fn of(folder: PathBuf) -> Self {
        let disk = Self { folder, full: AtomicBool::new(false) };
        disk.look();
        disk
    }

    /// Looks how much room there is; whether that has changed what is taken.
    pub fn look(&self) -> bool {
        let full = match rustix::fs::statvfs(&self.folder) {
            Ok(disk) => {
                let reserve = limits::DISK_RESERVE.min(disk.f_blocks.saturating_mul(disk.f_frsize) / 20);
                // Some file systems count no files.
                let no_files = disk.f_files > 0 && disk.f_favail == 0;
                disk.f_bavail.saturating_mul(disk.f_frsize) < reserve || no_files
            }
            Err(error) => {
                tracing::error!(%error, folder = %self.folder.display(), "the disk does not say how full it is");
                true
            }
        };
        let changed = self.full.swap(full, Ordering::Relaxed) != full;
        if changed {
            let folder = self.folder.display();
            if full {
                tracing::error!(%folder, "the disk is full: no new work is taken, and what runs may end");
            } else {
                tracing::info!(%folder, "the disk has room again");
            }
        }
        changed
    }

    /// Whether new work is refused.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }

    /// Refuses new work where there is no room.
    ///
    /// # Errors
    /// `storage_unavailable`.
    pub fn require_room(&self) -> Result<(), Problem> {
        if !self.is_full() {
            return Ok(());
        }
        let why = format!(
            "the disk of {} is nearly full, and what runs needs the rest: make room; nothing was lost",
            self.folder.display()
        );
        Err(Problem::new(Code::StorageUnavailable, why))
    }
}
