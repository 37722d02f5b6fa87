//! How many commits there must be. SQLite takes a WAL whose middle is damaged for one that ends there, and says
//! nothing; so the count of commits stands beside the database too, written after each commit and before its answers.
//!
//! It is not flushed: where it is lost with the machine's memory it says less than the database, and that is no
//! fault. It never says more, unless the database lost what was acknowledged.

use std::{
    fs::{File, OpenOptions},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use rusqlite::Connection;

use super::{sql, store::StoreError};

/// The mark's file.
pub(super) struct Mark(File);

impl Mark {
    /// Opens the mark beside a database, and holds the database against it.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] where commits are missing, and what the disk says.
    pub(super) fn open(database: &Path, connection: &Connection) -> Result<Self, StoreError> {
        let path = beside(database);
        let broken = |error: std::io::Error| StoreError::Storage(format!("{}: {error}", path.display()));
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let file = file.map_err(broken)?;
        let there: u64 = connection.query_row(sql::MARK, [], |row| row.get::<_, i64>(0))?.cast_unsigned();
        let wanted = read(&file).map_err(broken)?;
        if wanted > there {
            return Err(StoreError::Damaged(format!(
                "it ends at commit {there}, and commit {wanted} was acknowledged: the database or its WAL was damaged, \
                 or replaced by an older copy. Restore both from one moment; or, to go on with what there is, remove {}",
                path.display()
            )));
        }
        Ok(Self(file))
    }

    /// So many commits are on disk.
    pub(super) fn set(&self, commits: u64) -> std::io::Result<()> {
        let sum = crc32fast::hash(&commits.to_le_bytes());
        let mut bytes = [0; 12];
        bytes[..8].copy_from_slice(&commits.to_le_bytes());
        bytes[8..].copy_from_slice(&sum.to_le_bytes());
        self.0.write_all_at(&bytes, 0)
    }
}

/// What the file says; 0 where it says nothing that can be believed.
fn read(file: &File) -> std::io::Result<u64> {
    let mut bytes = [0; 12];
    match file.read_exact_at(&mut bytes, 0) {
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(0),
        other => other?,
    }
    let (commits, sum) = bytes.split_at(8);
    let believed = crc32fast::hash(commits).to_le_bytes() == sum;
    Ok(if believed { commits.try_into().map_or(0, u64::from_le_bytes) } else { 0 })
}

fn beside(database: &Path) -> PathBuf {
    database.with_extension("mark")
}
