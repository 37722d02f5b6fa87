//! Root file systems that sandboxes can be given instead of the host's toolchain.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// What a name stands for: the content of `images/NAME.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// Which root file system.
    pub digest: Digest,
    /// Where programs are looked for in it, as its maker said; `None` for the usual places.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

/// The SHA-256 of an image's tar, uncompressed: `sha256-` and 64 hex digits in small letters, a plain file name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(String);

/// Why a text is no digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not sha256- and 64 hex digits")]
pub struct BadDigest(String);

const PREFIX: &str = "sha256-";

impl Digest {
    /// Of these 32 bytes.
    #[must_use]
    pub fn of_sha256(bytes: [u8; 32]) -> Self {
        Self(bytes.iter().fold(PREFIX.to_owned(), |text, byte| format!("{text}{byte:02x}")))
    }
}

impl FromStr for Digest {
    type Err = BadDigest;

    fn from_str(text: &str) -> Result<Self, BadDigest> {
        let is_digit = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
        match text.strip_prefix(PREFIX) {
            Some(digits) if digits.len() == 64 && digits.chars().all(is_digit) => Ok(Self(text.to_owned())),
            _ => Err(BadDigest(text.to_owned())),
        }
    }
}

impl TryFrom<String> for Digest {
    type Error = BadDigest;

    fn try_from(text: String) -> Result<Self, BadDigest> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::Digest;

    #[test]
    fn a_digest_is_a_plain_file_name() {
        let digest = Digest::of_sha256([0xab; 32]);
        assert_eq!(digest.to_string(), format!("sha256-{}", "ab".repeat(32)));
        assert_eq!(digest.to_string().parse(), Ok(digest));
        for bad in ["", "sha256-", "sha256-../..", &format!("sha256-{}", "AB".repeat(32)), &"a".repeat(71)] {
            assert!(bad.parse::<Digest>().is_err(), "{bad}");
        }
    }
}
