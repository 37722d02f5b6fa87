//! Virtual keys: derived, so that the same attempt always gets the same key, and kept as hashes.

use hmac::{Hmac, KeyInit as _, Mac as _};
use jiff::Timestamp;
use protocol::{Secret, TaskId, ids::KeyName};
use sha2::{Digest as _, Sha256};

/// What every virtual key begins with.
pub const PREFIX: &str = "sk-cw-";

/// Makes keys from the gateway's own secret.
pub struct KeyMaker(Hmac<Sha256>);

impl std::fmt::Debug for KeyMaker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyMaker(…)")
    }
}

impl KeyMaker {
    /// A maker with this secret.
    #[must_use]
    pub fn new(secret: [u8; 32]) -> Self {
        // HMAC itself fills a key up with zeros to the hash's block.
        let mut block = [0; 64];
        block[..secret.len()].copy_from_slice(&secret);
        Self(Hmac::new(&block.into()))
    }

    /// An attempt's key: the prefix and 64 hex digits. A task's id that is used again is another birth.
    #[must_use]
    pub fn of_attempt(&self, task: &TaskId, attempt: u32, born: Option<Timestamp>) -> Secret {
        let born = born.map(|born| born.as_microsecond().to_be_bytes());
        // A task's id holds no NUL, so no two attempts read alike.
        self.make(&[
            task.as_str().as_bytes(),
            &[0],
            &attempt.to_be_bytes(),
            born.as_ref().map_or(&[], |born| born.as_slice()),
        ])
    }

    /// The key of the owner's with this name.
    #[must_use]
    pub fn of_owner(&self, name: &KeyName) -> Secret {
        // No task's id begins so.
        self.make(&[&[0xff], name.as_str().as_bytes()])
    }

    fn make(&self, parts: &[&[u8]]) -> Secret {
        let mut mac = self.0.clone();
        for part in parts {
            mac.update(part);
        }
        Secret::new(format!("{PREFIX}{}", hex::encode(mac.finalize().into_bytes())))
    }
}

/// A key's SHA-256. Keys are random, so nothing slower is needed; looking one up tells of its hash at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyHash([u8; 32]);

impl KeyHash {
    /// Of a key.
    #[must_use]
    pub fn of(key: &str) -> Self {
        Self(Sha256::digest(key).into())
    }

    pub(crate) fn stored(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub(crate) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_the_same_for_the_same_attempt_only() {
        let maker = KeyMaker::new([7; 32]);
        let key = |task: &str, attempt, born: Option<i64>| {
            let born = born.map(|second| Timestamp::from_second(second).unwrap());
            maker.of_attempt(&task.parse().unwrap(), attempt, born).expose().to_owned()
        };
        assert_eq!(key("a", 1, None), key("a", 1, None));
        assert!(key("a", 1, None).starts_with(PREFIX));
        let other = KeyMaker::new([8; 32]).of_attempt(&"a".parse().unwrap(), 1, None).expose().to_owned();
        let owners = maker.of_owner(&"a".parse().unwrap()).expose().to_owned();
        let all = [
            key("a", 1, None),
            key("a", 2, None),
            key("b", 1, None),
            key("a", 1, Some(1)),
            key("a", 1, Some(2)),
            other,
            owners,
        ];
        assert_eq!(all.iter().collect::<std::collections::HashSet<_>>().len(), all.len());
    }
}
