//! What a disk may do to a coordinator's files, on copies of them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use fastrand::Rng;
use protocol::folders::Folders;

use crate::{child::folders, place::Place};

/// Bytes that a disk writes at once, or not at all.
const SECTOR: usize = 512;
/// Bytes before a WAL's frames, and before the page in each (<https://sqlite.org/fileformat2.html#walformat>).
const WAL_HEADER: usize = 32;
const FRAME_HEADER: usize = 24;

/// A place's database as it lay there when its coordinator was killed.
pub(crate) struct Files {
    pub(crate) database: Vec<u8>,
    pub(crate) wal: Vec<u8>,
    pub(crate) mark: Vec<u8>,
    secret: Vec<u8>,
    /// Bytes of the WAL that are flushed.
    pub(crate) flushed: usize,
}

/// A copy of them, to be opened.
pub(crate) struct Copy {
    pub(crate) folders: Folders,
    _base: tempfile::TempDir,
}

fn wal_of(database: &Path) -> PathBuf {
    database.with_extension("db-wal")
}

impl Files {
    /// Nobody may have them open. `flushed` is the file in which the coordinator noted how much is.
    pub(crate) fn of(place: &Place, flushed: &Path) -> Self {
        let database = place.folders.coordinator_db();
        let noted = fs::read(flushed).unwrap();
        Self {
            wal: fs::read(wal_of(&database)).unwrap_or_default(),
            mark: fs::read(database.with_extension("mark")).unwrap_or_default(),
            secret: fs::read(place.folders.data.join("coordinator.secret")).unwrap(),
            flushed: usize::try_from(u64::from_le_bytes(noted.try_into().unwrap())).unwrap(),
            database: fs::read(database).unwrap(),
        }
    }

    pub(crate) fn copy(&self) -> Copy {
        let base = tempfile::tempdir().unwrap();
        let folders = folders(base.path());
        fs::create_dir_all(folders.output()).unwrap();
        let database = folders.coordinator_db();
        fs::write(wal_of(&database), &self.wal).unwrap();
        fs::write(database.with_extension("mark"), &self.mark).unwrap();
        fs::write(folders.data.join("coordinator.secret"), &self.secret).unwrap();
        fs::write(&database, &self.database).unwrap();
        Copy { folders, _base: base }
    }

    fn page(&self) -> usize {
        match u16::from_be_bytes([self.database[16], self.database[17]]) {
            1 => 65_536,
            size => size.into(),
        }
    }

    /// Pages of the database that stand in the flushed part of the WAL too, but the first.
    fn pages_in_wal(&self) -> Vec<usize> {
        let frames = self.wal[..self.flushed.min(self.wal.len())].get(WAL_HEADER..).unwrap_or_default();
        let numbers = frames.chunks_exact(FRAME_HEADER + self.page()).map(|frame| {
            usize::try_from(u32::from_be_bytes([frame[0], frame[1], frame[2], frame[3]])).unwrap()
        });
        numbers.filter(|number| *number > 1).collect()
    }
}

/// What may become of what was not flushed. Each says its name.
pub(crate) const LOSSES: [&str; 8] = [
    "nothing lost",
    "all of the tail lost",
    "the tail cut off anywhere",
    "the tail cut off in or after a frame's header",
    "garbage from anywhere in the tail on",
    "some sectors of the tail not written",
    "the mark not written",
    "pages torn that the WAL was about to bring into the database",
];

/// Loses what was not flushed, in the way of this number.
pub(crate) fn lose(files: &mut Files, how: usize, dice: &mut Rng) {
    let (flushed, end) = (files.flushed.min(files.wal.len()), files.wal.len());
    let anywhere = if flushed < end { dice.usize(flushed..end) } else { end };
    match LOSSES[how] {
        "all of the tail lost" => files.wal.truncate(flushed),
        "the tail cut off anywhere" => files.wal.truncate(anywhere),
        "the tail cut off in or after a frame's header" => {
            let frame = FRAME_HEADER + files.page();
            let frames = (end - flushed) / frame;
            let within = [0, 1, FRAME_HEADER - 1, FRAME_HEADER, FRAME_HEADER + 1][dice.usize(0..5)];
            files.wal.truncate((flushed + dice.usize(0..=frames) * frame + within).min(end));
        }
        "garbage from anywhere in the tail on" => {
            let length = files.wal.len() + dice.usize(0..9_000);
            files.wal.resize(length, 0);
            dice.fill(&mut files.wal[anywhere..]);
        }
        "some sectors of the tail not written" => {
            for sector in files.wal[flushed..].chunks_mut(SECTOR) {
                match dice.u32(0..3) {
                    0 => sector.fill(0),
                    1 => dice.fill(sector),
                    _ => {}
                }
            }
        }
        "the mark not written" => files.mark.truncate(dice.usize(0..=files.mark.len())),
        "pages torn that the WAL was about to bring into the database" => {
            let size = files.page();
            for number in files.pages_in_wal() {
                let at = (number - 1) * size;
                if dice.bool() && at + size <= files.database.len() {
                    let torn = dice.usize(0..size);
                    dice.fill(&mut files.database[at + torn..at + size]);
                }
            }
        }
        _ => {}
    }
}

/// Damages what was flushed, in one place; what was done.
pub(crate) fn hurt(files: &mut Files, dice: &mut Rng) -> String {
    let flushed = files.flushed.min(files.wal.len());
    let (name, bytes) = match dice.u32(0..20) {
        0 => ("mark", &mut files.mark[..]),
        1..10 if flushed > 0 => ("WAL", &mut files.wal[..flushed]),
        _ => ("database", &mut files.database[..]),
    };
    if bytes.is_empty() {
        return "nothing: there is no mark".to_owned();
    }
    let at = dice.usize(0..bytes.len());
    if dice.u32(0..4) == 0 {
        let start = at - at % SECTOR;
        let end = (start + SECTOR).min(bytes.len());
        bytes[start..end].fill(0);
        return format!("the sector at {start} of the {name} zeroed");
    }
    let bit = dice.u32(0..8);
    bytes[at] ^= 1 << bit;
    format!("bit {bit} of byte {at} of the {name} flipped")
}
