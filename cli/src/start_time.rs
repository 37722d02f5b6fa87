//! Times as they are typed.

use jiff::{SignedDuration, Span, SpanRelativeTo, Timestamp};

/// A time of RFC 3339 with its zone, or a duration after `now` such as `90m`, `2h 30m` or `1d` (of 24 hours).
pub(crate) fn parse(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    let bad = || format!("{text:?} is neither a time such as 2030-01-31T18:00:00Z nor a duration such as 2h");
    let span: Span = text.parse().map_err(|_| bad())?;
    let after = span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|_| bad())?;
    if after < SignedDuration::ZERO {
        return Err(format!("{text:?} is in the past; a duration counts from now on"));
    }
    now.checked_add(after).map_err(|_| bad())
}

#[cfg(test)]
mod tests {
    use super::parse;
    use jiff::Timestamp;

    fn told(text: &str) -> Result<String, String> {
        parse(text, Timestamp::UNIX_EPOCH).map(|time| time.to_string())
    }

    #[test]
    fn a_time_is_itself_and_a_duration_counts_from_now() {
        for (text, wanted) in [
            ("2030-01-31T18:00:00Z", "2030-01-31T18:00:00Z"),
            ("2030-01-31T18:00:00+02:00", "2030-01-31T16:00:00Z"),
            ("1960-01-01T00:00:00Z", "1960-01-01T00:00:00Z"),
            ("2h", "1970-01-01T02:00:00Z"),
            ("30m", "1970-01-01T00:30:00Z"),
            ("2h 30m", "1970-01-01T02:30:00Z"),
            ("1d", "1970-01-02T00:00:00Z"),
            ("1 week", "1970-01-08T00:00:00Z"),
            ("PT90S", "1970-01-01T00:01:30Z"),
        ] {
            assert_eq!(told(text).as_deref(), Ok(wanted), "{text}");
        }
    }

    #[test]
    fn what_is_no_certain_time_is_refused_with_a_remedy() {
        // A month has no certain length, and a time without a zone is not one.
        for text in ["", "2", "soon", "1 month", "2030-01-31T18:00:00", "18:00", "99999999 h"] {
            assert!(told(text).unwrap_err().contains("such as 2h"), "{text}");
        }
        for text in ["-2h", "2h ago"] {
            assert!(told(text).unwrap_err().contains("in the past"), "{text}");
        }
    }
}
