//! What an agent is to be told: typed as one argument, or read from stdin.

use std::io::Read;

use protocol::limits;

use crate::failure::{Exit, Failure};

/// The argument as it is, or for `-` all of stdin. `what` names it in errors.
pub(crate) fn or_stdin(word: String, what: &str) -> Result<String, Failure> {
    if word != "-" {
        return Ok(word);
    }
    let usage = |text: String| Failure::new(Exit::Usage, text);
    let mut read = Vec::new();
    let most = limits::BODY_BYTES as u64;
    std::io::stdin()
        .lock()
        .take(most)
        .read_to_end(&mut read)
        .map_err(|error| usage(format!("the {what} cannot be read from stdin: {error}")))?;
    String::from_utf8(read).map_err(|_| usage(format!("the {what} on stdin is not UTF-8, or has no end")))
}
