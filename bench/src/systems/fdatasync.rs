//! The disk alone: a file that is appended to and flushed, four times a cycle.

use std::{
    fs::{File, OpenOptions},
    io::Write as _,
    path::Path,
};

use super::BODY_BYTES;
use crate::load::Client;

/// Steps of a cycle of ours that must be on disk: submit, lease, start, result.
pub(crate) const STEPS: u32 = 4;

/// A file that one client appends to.
pub(crate) struct Append(File);

impl Append {
    /// A new file in this folder.
    pub(crate) fn new(inside: &Path) -> Self {
        let path = inside.join("appended");
        Self(OpenOptions::new().append(true).create(true).open(path).expect("a file"))
    }
}

impl Client for Append {
    async fn cycle(&mut self) {
        for _ in 0..STEPS {
            self.0.write_all(&[b'x'; BODY_BYTES]).expect("there is room");
            self.0.sync_data().expect("the disk takes it");
        }
    }
}
