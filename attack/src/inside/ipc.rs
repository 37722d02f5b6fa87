//! What processes of one kernel share by a number or a name: System V's memory, semaphores and queues (sysvipc(7)), and
//! POSIX's queues (mq_overview(7)).

use std::io;

use rustix::io::Errno;

use super::syscall::{
    Argument::{self, Number, Text},
    Call, NO_CALLER, made,
};
use crate::{
    attack::{Attack, Category::Network, Finding},
    line::Line,
    target::{Shared, Target},
};

/// A kind of thing that is shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Memory,
    Semaphores,
    Messages,
    PosixQueue,
}

pub(crate) const KINDS: [Kind; 4] = [Kind::Memory, Kind::Semaphores, Kind::Messages, Kind::PosixQueue];

const fn attack(name: &'static str, tries: &'static str, act: fn(&Target) -> Finding) -> Attack {
    Attack { name, category: Network, tries, line: Line::Kernel, act }
}

pub(crate) const ATTACKS: &[Attack] = &[
    attack(
        "sysv-memory",
        "shared memory of the host's or of another sandbox, and some that stays",
        |target| Kind::Memory.attack(target.shared),
    ),
    attack("sysv-semaphores", "the same with semaphores", |target| Kind::Semaphores.attack(target.shared)),
    attack("sysv-messages", "the same with a queue of messages", |target| {
        Kind::Messages.attack(target.shared)
    }),
    attack("posix-queue", "the same with a queue that has a name", |target| {
        Kind::PosixQueue.attack(target.shared)
    }),
];

/// Its owner's to read and write, and everybody's.
const MODE: i64 = 0o666;
/// IPC_CREAT | IPC_EXCL of System V's; IPC_RMID.
const CREATE: i64 = 0o3000;
const REMOVE: i64 = 0;
/// O_RDONLY; O_RDWR | O_CREAT | O_EXCL.
const READ: i64 = 0;
const NEW_QUEUE: i64 = 0o302;
/// Bytes of a piece of memory, and the semaphores of one set.
const BYTES: i64 = 4096;
const SEMAPHORES: i64 = 1;

impl Kind {
    /// Its attack's name.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Memory => "sysv-memory",
            Self::Semaphores => "sysv-semaphores",
            Self::Messages => "sysv-messages",
            Self::PosixQueue => "posix-queue",
        }
    }

    fn attack(self, shared: Shared) -> Finding {
        if shared == Shared::default() {
            return Finding::NotApplicable("the host has made none to be found".to_owned());
        }
        match (self.find(shared.hosts), self.find(shared.left)) {
            (None, _) | (_, None) => Finding::NotApplicable(NO_CALLER.to_owned()),
            (Some(Ok(_)), _) => Finding::Broken("the host's is open".to_owned()),
            (_, Some(Ok(_))) => Finding::Broken("another sandbox's is open".to_owned()),
            // Whether it stays, the host sees.
            (Some(Err(error)), _) => match self.make(shared.left) {
                Some(Ok(_)) => Finding::Held(format!("{error}; one of its own is made")),
                _ => Finding::Held(error.to_string()),
            },
        }
    }

    /// Opens the one with this key; its id, or a descriptor that is gone with its caller.
    pub(crate) fn find(self, key: i32) -> Option<io::Result<i64>> {
        made(&match self {
            Self::Memory => call(29, 194, [key.into(), 0, 0]),
            Self::Semaphores => call(64, 190, [key.into(), 0, 0]),
            Self::Messages => call(68, 186, [key.into(), 0]),
            Self::PosixQueue => queue(240, 180, key, [READ, 0, 0]),
        })
    }

    /// Makes one that was not there.
    pub(crate) fn make(self, key: i32) -> Option<io::Result<i64>> {
        made(&match self {
            Self::Memory => call(29, 194, [key.into(), BYTES, CREATE | MODE]),
            Self::Semaphores => call(64, 190, [key.into(), SEMAPHORES, CREATE | MODE]),
            Self::Messages => call(68, 186, [key.into(), CREATE | MODE]),
            Self::PosixQueue => queue(240, 180, key, [NEW_QUEUE, MODE, 0]),
        })
    }

    /// Removes the one with this key; nothing where there is none.
    pub(crate) fn remove(self, key: i32) -> io::Result<()> {
        let removed = match (self, self.find(key)) {
            (_, None) => return Ok(()),
            (_, Some(Err(error))) => Err(error),
            (Self::Memory, Some(Ok(id))) => finish(&call(31, 195, [id, REMOVE, 0])),
            (Self::Semaphores, Some(Ok(id))) => finish(&call(66, 191, [id, 0, REMOVE, 0])),
            (Self::Messages, Some(Ok(id))) => finish(&call(71, 187, [id, REMOVE, 0])),
            (Self::PosixQueue, Some(Ok(_))) => finish(&queue(241, 181, key, [])),
        };
        match removed {
            Err(error) if error.raw_os_error() == Some(Errno::NOENT.raw_os_error()) => Ok(()),
            removed => removed,
        }
    }
}

fn finish(call: &Call) -> io::Result<()> {
    made(call).map_or(Ok(()), |made| made.map(drop))
}

fn call<const N: usize>(x86_64: u16, aarch64: u16, numbers: [i64; N]) -> Call {
    Call { x86_64, aarch64, arguments: numbers.map(Number).into() }
}

fn queue<const N: usize>(x86_64: u16, aarch64: u16, key: i32, numbers: [i64; N]) -> Call {
    let name = Text(format!("code-workers-attack-{key}"));
    let arguments: Vec<Argument> = [name].into_iter().chain(numbers.map(Number)).collect();
    Call { x86_64, aarch64, arguments }
}
