//! The coordinator's secret, and the tokens derived from it. No token is stored anywhere.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use hmac::{Hmac, KeyInit as _, Mac as _};
use protocol::{Secret, TaskId, WorkerId};
use sha2::Sha256;

/// Bytes of the secret: one block of SHA-256.
const SECRET_BYTES: usize = 64;

/// Makes tokens, and knows its own again.
pub struct Tokens {
    secret: [u8; SECRET_BYTES],
}

/// A lease that a worker names, after its token was checked. Whether it stands is the task's to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// The attempt that the lease is for.
    pub attempt: u32,
    /// Which of the task's leases it is, from 1; 0 for a token that was not made here.
    pub serial: u64,
}

impl Tokens {
    /// The secret in this file, which is made (0600, flushed) where there is none.
    ///
    /// # Errors
    /// Where the file cannot be read or made, or is not what this program writes.
    pub fn open(path: &Path) -> io::Result<Self> {
        match fs::read_to_string(path) {
            Ok(text) => Self::parse(&text).ok_or_else(|| {
                io::Error::new(
                    io::ErrorKind::InvalidData,
                    "is damaged: restore it, or remove it (workers and leases of before are then refused)",
                )
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::make(path),
            Err(error) => Err(error),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let mut secret = [0; SECRET_BYTES];
        hex::decode_to_slice(text.trim(), &mut secret).ok()?;
        Some(Self { secret })
    }

    fn make(path: &Path) -> io::Result<Self> {
        let mut secret = [0; SECRET_BYTES];
        fs::File::open("/dev/urandom")?.read_exact(&mut secret)?;
        let partial = path.with_extension("partial");
        let mut file =
            fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&partial)?;
        file.write_all(hex::encode(secret).as_bytes())?;
        file.sync_all()?;
        fs::rename(&partial, path)?;
        if let Some(folder) = path.parent() {
            fs::File::open(folder)?.sync_all()?;
        }
        Ok(Self { secret })
    }

    /// A worker's token: `cwt-<worker id>-<mac>`.
    #[must_use]
    pub fn of_worker(&self, worker: &WorkerId) -> Secret {
        Secret::new(format!("cwt-{worker}-{}", self.mac("worker", &[worker.as_str().as_bytes()])))
    }

    /// The worker whose token this is, if it was made here.
    #[must_use]
    pub fn worker(&self, presented: &str) -> Option<WorkerId> {
        let (id, _) = presented.strip_prefix("cwt-")?.rsplit_once('-')?;
        let id: WorkerId = id.parse().ok()?;
        self.of_worker(&id).matches(presented).then_some(id)
    }

    /// A lease's token: `cwl-<serial>-<mac>`.
    #[must_use]
    pub fn of_lease(&self, task: &TaskId, claim: Claim) -> Secret {
        let parts =
            [task.as_str().as_bytes(), b"\0", &claim.attempt.to_be_bytes(), &claim.serial.to_be_bytes()];
        Secret::new(format!("cwl-{}-{}", claim.serial, self.mac("lease", &parts)))
    }

    /// The lease that a worker names. A token that was not made here names one that never stands.
    #[must_use]
    pub fn claim(&self, task: &TaskId, attempt: u32, presented: &str) -> Claim {
        let serial = presented
            .strip_prefix("cwl-")
            .and_then(|rest| rest.split_once('-'))
            .and_then(|(serial, _)| serial.parse().ok());
        let named = Claim { attempt, serial: serial.unwrap_or(0) };
        if self.of_lease(task, named).matches(presented) { named } else { Claim { attempt, serial: 0 } }
    }

    /// Tells this coordinator from others; nothing follows from it.
    #[must_use]
    pub fn coordinator_id(&self) -> String {
        self.mac("coordinator", &[]).chars().take(12).collect()
    }

    fn mac(&self, label: &str, parts: &[&[u8]]) -> String {
        let mut mac = Hmac::<Sha256>::new((&self.secret).into());
        mac.update(label.as_bytes());
        mac.update(b"\0");
        for part in parts {
            mac.update(part);
        }
        hex::encode(mac.finalize().into_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::{Claim, Tokens};
    use protocol::{TaskId, WorkerId};
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn tokens_are_known_again_after_a_restart_and_by_nobody_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        let made = Tokens::open(&path).unwrap();
        let reopened = Tokens::open(&path).unwrap();
        let other = Tokens::open(&folder.path().join("other")).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);

        let worker = WorkerId::generate();
        let token = made.of_worker(&worker);
        assert_eq!(reopened.worker(token.expose()), Some(worker));
        assert_eq!(other.worker(token.expose()), None);
        assert_eq!(made.worker("cwt-w-1-00"), None);

        let task: TaskId = "t".parse().unwrap();
        let claim = Claim { attempt: 2, serial: 3 };
        let lease = made.of_lease(&task, claim);
        assert_eq!(reopened.claim(&task, 2, lease.expose()), claim);
        assert_eq!(reopened.claim(&task, 1, lease.expose()).serial, 0);
        assert_eq!(reopened.claim(&"u".parse().unwrap(), 2, lease.expose()).serial, 0);
        assert_eq!(reopened.claim(&task, 2, "cwl-3-").serial, 0);
    }

    #[test]
    fn a_damaged_secret_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        std::fs::write(&path, "zz").unwrap();
        assert!(Tokens::open(&path).is_err());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "zz");
    }
}
