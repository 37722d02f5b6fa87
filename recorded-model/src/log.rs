//! The record of what arrived: one JSON line a request.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use http::{HeaderMap, Method, Uri};
use serde_json::{Map, Value, json};

/// Headers whose values are never written down.
const CREDENTIALS: [&str; 5] = ["authorization", "x-api-key", "api-key", "proxy-authorization", "cookie"];

/// Where requests are written down; nowhere by default.
#[derive(Debug, Default)]
pub struct RequestLog(Option<Target>);

#[derive(Debug)]
struct Target {
    file: Mutex<File>,
    path: PathBuf,
    bodies: bool,
}

impl RequestLog {
    /// Appends to `path`; with `bodies`, whole bodies too.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn open(path: &Path, bodies: bool) -> Result<Self, String> {
        let file = OpenOptions::new().create(true).append(true).open(path);
        let file = file.map_err(|error| format!("cannot open the log {}: {error}", path.display()))?;
        Ok(Self(Some(Target { file: Mutex::new(file), path: path.to_owned(), bodies })))
    }

    /// Writes one line: `method`, `route`, `query`, `headers` (of a credential only that it was there),
    /// `model`, `stream`, `body_bytes`, and `body` where bodies are kept.
    pub fn record(&self, method: &Method, uri: &Uri, headers: &HeaderMap, body: &[u8]) {
        let Some(target) = &self.0 else { return };
        let parsed: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
        let mut line = json!({
            "method": method.as_str(),
            "route": uri.path(),
            "query": uri.query(),
            "headers": names_and_values(headers),
            "model": parsed["model"],
            "stream": parsed["stream"],
            "body_bytes": body.len(),
        });
        if target.bodies {
            line["body"] = match parsed {
                Value::Null => json!(String::from_utf8_lossy(body)),
                parsed => parsed,
            };
        }
        let mut file = target.file.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = file.write_all(format!("{line}\n").as_bytes()) {
            tracing::error!("cannot write to the log {}: {error}", target.path.display());
        }
    }
}

fn names_and_values(headers: &HeaderMap) -> Map<String, Value> {
    let entries = headers.iter().map(|(name, value)| {
        let value = if CREDENTIALS.contains(&name.as_str()) {
            "(credential)".into()
        } else {
            String::from_utf8_lossy(value.as_bytes()).into_owned()
        };
        (name.as_str().to_owned(), Value::String(value))
    });
    entries.collect()
}
