//! Money: whole nano-dollars, never floating point; on the wire a decimal string.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// US dollars, as a count of nano-dollars (1e-9 USD). Never negative.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Usd(u64);

/// Why a sum was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a sum in USD: write a decimal such as \"2.50\", at most 9 digits after the point")]
pub struct BadUsd(String);

const NANOS: u64 = 1_000_000_000;

impl Usd {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// From a count of nano-dollars.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// The count of nano-dollars.
    #[must_use]
    pub const fn nanos(self) -> u64 {
        self.0
    }

    /// The sum, or the largest there is.
    #[must_use]
    pub const fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// What is left, or nothing.
    #[must_use]
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl fmt::Display for Usd {
    /// At least two digits after the point, and no trailing zeros beyond them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fraction = format!("{:09}", self.0 % NANOS);
        let kept = fraction.trim_end_matches('0').len().max(2);
        write!(f, "{}.{}", self.0 / NANOS, &fraction[..kept])
    }
}

impl FromStr for Usd {
    type Err = BadUsd;

    fn from_str(text: &str) -> Result<Self, BadUsd> {
        let bad = || BadUsd(text.chars().take(40).collect());
        let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
        if !digits(whole) || !digits(fraction) || fraction.len() > 9 {
            return Err(bad());
        }
        let whole: u64 = whole.parse().map_err(|_| bad())?;
        let fraction: u64 = format!("{fraction:0<9}").parse().map_err(|_| bad())?;
        whole.checked_mul(NANOS).and_then(|n| n.checked_add(fraction)).map(Self).ok_or_else(bad)
    }
}

impl TryFrom<String> for Usd {
    type Error = BadUsd;
    fn try_from(text: String) -> Result<Self, BadUsd> {
        text.parse()
    }
}

impl From<Usd> for String {
    fn from(sum: Usd) -> String {
        sum.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::Usd;
    use proptest::prelude::{any, prop_assert_eq, proptest};

    proptest! {
        #[test]
        fn text_round_trips(nanos in any::<u64>()) {
            let sum = Usd::from_nanos(nanos);
            prop_assert_eq!(sum.to_string().parse::<Usd>().unwrap(), sum);
        }
    }

    #[test]
    fn reads_and_refuses() {
        assert_eq!("2.5".parse::<Usd>().unwrap().to_string(), "2.50");
        assert_eq!("0.000000001".parse::<Usd>().unwrap().nanos(), 1);
        for bad in ["", "-1", "1.", ".5", "1e3", "1.0000000001", "99999999999999999999", "$1"] {
            assert!(bad.parse::<Usd>().is_err(), "{bad}");
        }
    }
}
