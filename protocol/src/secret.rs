//! A string that does not show itself.

use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;

/// A key or token. `Debug` hides it, `==` takes the same time wherever two of one length differ;
/// only [`Secret::expose`] gives it out.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps a key.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The key itself, for the one place that sends or stores it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether a string that a client sent is this key, in constant time.
    #[must_use]
    pub fn matches(&self, candidate: &str) -> bool {
        self.0.as_bytes().ct_eq(candidate.as_bytes()).into()
    }
}

impl std::str::FromStr for Secret {
    type Err = std::convert::Infallible;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self::new(text))
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.matches(other.expose())
    }
}

impl Eq for Secret {}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::Secret;

    #[test]
    fn debug_hides_and_equality_compares() {
        let key = Secret::new("sk-cw-1");
        assert!(!format!("{key:?}").contains("sk-cw"));
        assert!(key.matches("sk-cw-1"));
        assert!(!key.matches("sk-cw-2"));
        assert!(!key.matches("sk-cw-11"));
    }
}
