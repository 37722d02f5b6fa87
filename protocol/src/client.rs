//! The HTTP client of every door, over TCP and over unix sockets.

use std::{fmt, path::PathBuf, str::FromStr, time::Duration};

use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    headers,
    problem::{Code, Problem},
    secret::Secret,
};

mod admin;
mod owner;
mod worker;

pub use admin::AdminClient;
pub use owner::{EventStream, OwnerClient};
pub use worker::{Download, LeasedClient, WorkerClient};

/// Where a server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// `http://HOST:PORT`, without a path.
    Http(String),
    /// A unix socket.
    Unix(PathBuf),
}

/// Why an address was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not http://HOST:PORT or unix:///PATH")]
pub struct BadEndpoint(String);

impl FromStr for Endpoint {
    type Err = BadEndpoint;

    fn from_str(text: &str) -> Result<Self, BadEndpoint> {
        let bad = || BadEndpoint(text.to_owned());
        if let Some(path) = text.strip_prefix("unix://") {
            return if path.starts_with('/') { Ok(Self::Unix(path.into())) } else { Err(bad()) };
        }
        let base = text.trim_end_matches('/');
        let rest = base.strip_prefix("http://").ok_or_else(bad)?;
        match rest.contains('/') || rest.is_empty() || reqwest::Url::parse(base).is_err() {
            true => Err(bad()),
            false => Ok(Self::Http(base.to_owned())),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(base) => f.write_str(base),
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
        }
    }
}

/// Why a call brought no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nothing listens there, or the connection broke. The server may or may not have acted.
    #[error("{server} is not reachable: {why}")]
    Unreachable {
        /// The address.
        server: String,
        /// The innermost cause.
        why: String,
    },
    /// The server refused.
    #[error("{0}")]
    Refused(Problem),
    /// The server answered something that is not of this protocol.
    #[error("{server} answered {status} with what is not of this protocol: {why}")]
    Malformed {
        /// The address.
        server: String,
        /// The HTTP status.
        status: u16,
        /// What was wrong with it.
        why: String,
    },
    /// A local file that was to be sent or written.
    #[error("{path}: {why}")]
    File {
        /// The file.
        path: String,
        /// What the system said.
        why: String,
    },
}

impl ClientError {
    /// The server's code, where it refused.
    #[must_use]
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::Refused(problem) => Some(problem.code),
            _ => None,
        }
    }

    /// Whether the same call may do better later: nothing was reached, or the server was at fault.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Refused(problem) => passes(problem.status),
            Self::Malformed { status, .. } => passes(*status),
            Self::File { .. } => false,
        }
    }
}

/// Who is at an address, by its answer to `HEAD /` without a key: the coordinator's doors want one (401), the
/// gateway's is open (200). The HTTP status.
///
/// # Errors
/// [`ClientError::Unreachable`].
pub async fn knock(endpoint: Endpoint) -> Result<u16, ClientError> {
    let connection = Connection::new(endpoint, None)?;
    let answer = connection.request(Method::HEAD, "/").timeout(CONNECT).send().await;
    answer.map(|answer| answer.status().as_u16()).map_err(|error| connection.unreachable(&error))
}

/// Whether the same request may be answered otherwise later: the server is at fault, or was too busy.
const fn passes(status: u16) -> bool {
    status >= 500 || matches!(status, 408 | 429)
}

/// A connection pool to one server, with the key that goes along.
#[derive(Clone)]
struct Connection {
    http: reqwest::Client,
    endpoint: Endpoint,
    key: Option<Secret>,
}

/// Time to connect; a local socket answers at once or not at all.
const CONNECT: Duration = Duration::from_secs(5);
/// Time for an answer, beside what the call itself asks to wait.
const ANSWER: Duration = Duration::from_secs(30);

impl Connection {
    fn new(endpoint: Endpoint, key: Option<Secret>) -> Result<Self, ClientError> {
        let mut builder = reqwest::Client::builder().connect_timeout(CONNECT).no_proxy();
        if let Endpoint::Unix(path) = &endpoint {
            builder = builder.unix_socket(path.clone());
        }
        let http = builder.build().map_err(|error| ClientError::Unreachable {
            server: endpoint.to_string(),
            why: innermost(&error),
        })?;
        Ok(Self { http, endpoint, key })
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let base = match &self.endpoint {
            Endpoint::Http(base) => base.as_str(),
            Endpoint::Unix(_) => "http://localhost",
        };
        let request = self.http.request(method, format!("{base}{path}")).timeout(ANSWER);
        let request = request.header(headers::PROTOCOL, crate::limits::PROTOCOL_VERSION);
        match &self.key {
            Some(key) => request.bearer_auth(key.expose()),
            None => request,
        }
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, ClientError> {
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status().as_u16();
        let body = response.bytes().await.map_err(|error| self.unreachable(&error))?;
        match serde_json::from_slice::<Problem>(&body) {
            Ok(problem) => Err(ClientError::Refused(problem)),
            Err(error) => Err(self.malformed(status, &error.to_string())),
        }
    }

    async fn json<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, ClientError> {
        let response = self.send(request).await?;
        self.read(response).await
    }

    async fn json_unless_empty<T: DeserializeOwned>(
        &self,
        request: RequestBuilder,
    ) -> Result<Option<T>, ClientError> {
        let response = self.send(request).await?;
        if response.status() == StatusCode::NO_CONTENT {
            Ok(None)
        } else {
            self.read(response).await.map(Some)
        }
    }

    async fn read<T: DeserializeOwned>(&self, response: Response) -> Result<T, ClientError> {
        let status = response.status().as_u16();
        let body = response.bytes().await.map_err(|error| self.unreachable(&error))?;
        serde_json::from_slice(&body).map_err(|error| self.malformed(status, &error.to_string()))
    }

    async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, ClientError> {
        self.json(self.request(Method::POST, path).json(body)).await
    }

    fn unreachable(&self, error: &reqwest::Error) -> ClientError {
        ClientError::Unreachable { server: self.endpoint.to_string(), why: innermost(error) }
    }

    fn malformed(&self, status: u16, why: &str) -> ClientError {
        ClientError::Malformed { server: self.endpoint.to_string(), status, why: why.to_owned() }
    }
}

fn innermost(error: &dyn std::error::Error) -> String {
    let mut at = error;
    while let Some(source) = at.source() {
        at = source;
    }
    at.to_string()
}

#[cfg(test)]
mod tests {
    use super::{ClientError, Code, Endpoint, Problem};

    #[test]
    fn endpoints() {
        for good in ["http://127.0.0.1:7222", "http://localhost:1/", "unix:///run/x.sock"] {
            assert!(good.parse::<Endpoint>().is_ok(), "{good}");
        }
        for bad in ["", "127.0.0.1:7222", "https://x", "http://", "http://a/b", "unix://x"] {
            assert!(bad.parse::<Endpoint>().is_err(), "{bad}");
        }
    }

    #[test]
    fn only_an_answer_that_may_be_another_later_is_asked_for_again() {
        let refused = |status| ClientError::Refused(Problem { status, ..Problem::new(Code::Internal, "") });
        let again: Vec<_> = (400..600).filter(|status| refused(*status).is_passing()).collect();
        assert_eq!(again[..3], [408, 429, 500]);
        assert_eq!(again.len(), 102, "and all over 500");
    }
}
