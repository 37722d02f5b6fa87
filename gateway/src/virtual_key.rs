//! Virtual keys: derived, so that the same attempt always gets the same key, and kept as hashes.

use hmac::{Hmac, KeyInit as _, Mac as _};
use protocol::{Secret, TaskId};
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

    /// An attempt's key: the prefix and 64 hex digits.
    #[must_use]
    pub fn make(&self, task: &TaskId, attempt: u32) -> Secret {
        let mut mac = self.0.clone();
        // A task's id holds no NUL, so no two attempts read alike.
        mac.update(task.as_str().as_bytes());
        mac.update(&[0]);
        mac.update(&attempt.to_be_bytes());
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
        let key = |task: &str, attempt| maker.make(&task.parse().unwrap(), attempt).expose().to_owned();
        assert_eq!(key("a", 1), key("a", 1));
        assert_ne!(key("a", 1), key("a", 2));
        assert_ne!(key("a", 1), key("b", 1));
        assert!(key("a", 1).starts_with(PREFIX));
        assert_ne!(KeyMaker::new([8; 32]).make(&"a".parse().unwrap(), 1).expose(), key("a", 1));
    }
}
