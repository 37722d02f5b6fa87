//! The model's API at the other end: where it is, the real key for it, and the connections to it.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, header};
use http_body_util::Full;
use protocol::Secret;

use crate::{
    body::{NAME_SHOWN, rules::CLOSED_BETAS},
    provider::Provider,
};

mod connect;
mod wire;

pub use wire::{Answer, Failure, Wires};

/// The header that opens what is not open to all yet.
const BETA: &str = "anthropic-beta";

/// One provider's API.
#[derive(Debug, Clone)]
pub struct Upstream {
    /// Whose words it speaks.
    pub provider: Provider,
    /// `http[s]://HOST[:PORT][/PATH]`, without `/v1` and without a slash at its end.
    pub base_url: String,
    /// The real key.
    pub credential: Option<Credential>,
    /// The variable or file that holds the key, for whoever has to set it.
    pub key_name: String,
}

/// How a real key is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// As the provider's API keys are.
    ApiKey(Secret),
    /// As `Authorization: Bearer`, whatever the provider.
    Bearer(Secret),
}

impl Credential {
    /// The key itself.
    #[must_use]
    pub fn secret(&self) -> &Secret {
        match self {
            Self::ApiKey(key) | Self::Bearer(key) => key,
        }
    }

    fn header(&self, provider: Provider) -> (HeaderName, String) {
        match (self, provider) {
            (Self::ApiKey(key), Provider::Anthropic) => {
                (HeaderName::from_static("x-api-key"), key.expose().to_owned())
            }
            (Self::ApiKey(key), Provider::OpenAi) | (Self::Bearer(key), _) => {
                (header::AUTHORIZATION, format!("Bearer {}", key.expose()))
            }
        }
    }
}

/// A provider's upstreams, in the order in which they are tried.
#[derive(Debug)]
pub struct Upstreams {
    first: Arc<Upstream>,
    more: Vec<Arc<Upstream>>,
}

impl Upstreams {
    /// The first, and those that are tried when it cannot be reached.
    #[must_use]
    pub fn new(first: Upstream, more: Vec<Upstream>) -> Self {
        Self { first: Arc::new(first), more: more.into_iter().map(Arc::new).collect() }
    }

    /// The one that is tried first.
    #[must_use]
    pub fn first(&self) -> &Arc<Upstream> {
        &self.first
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Upstream>> {
        std::iter::once(&self.first).chain(&self.more)
    }

    /// Those that can be asked at all.
    pub fn usable(&self) -> impl Iterator<Item = &Arc<Upstream>> {
        self.all().filter(|upstream| upstream.is_usable())
    }
}

impl Upstream {
    /// Whether the server is on this machine: such a one may do without a key.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        let Ok(uri) = self.base_url.parse::<Uri>() else { return false };
        let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }

    /// Whether a request can be sent at all.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        self.credential.is_some() || self.is_loopback()
    }

    /// A request with the real key, and of the client's headers only those that the API knows.
    ///
    /// # Errors
    /// When the key or the path cannot stand in a request.
    pub fn request(
        &self,
        method: Method,
        path: &str,
        sent: &HeaderMap,
        body: Bytes,
    ) -> Result<Request<Full<Bytes>>, http::Error> {
        let base: Uri = self.base_url.parse()?;
        let own_path = base.path().trim_end_matches('/');
        let mut request = Request::builder().method(method).uri(format!("{own_path}{path}"));
        if let Some(host) = host(&base) {
            request = request.header(header::HOST, host);
        }
        for (name, value) in sent {
            if name == BETA {
                if let Some(open) = open_betas(value) {
                    request = request.header(name, open);
                }
            } else if passes_upward(name) {
                request = request.header(name, value);
            }
        }
        if self.provider == Provider::Anthropic && !sent.contains_key("anthropic-version") {
            request = request.header("anthropic-version", "2023-06-01");
        }
        if !body.is_empty() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        request = request
            .header(header::ACCEPT_ENCODING, "identity")
            .header(header::USER_AGENT, concat!("code-workers-gateway/", env!("CARGO_PKG_VERSION")));
        if let Some(credential) = &self.credential {
            let (name, value) = credential.header(self.provider);
            let mut value = HeaderValue::try_from(value)?;
            value.set_sensitive(true);
            request = request.header(name, value);
        }
        request.body(Full::new(body))
    }

    /// The real key, wherever it has one.
    #[must_use]
    pub fn key(&self) -> Option<&Secret> {
        self.credential.as_ref().map(Credential::secret)
    }

    /// Takes the real key out of what the upstream said.
    #[must_use]
    pub fn scrub(&self, text: &[u8]) -> Bytes {
        match self.key() {
            Some(key) if memchr::memmem::find(text, key.expose().as_bytes()).is_some() => {
                String::from_utf8_lossy(text).replace(key.expose(), "[key removed]").into()
            }
            _ => Bytes::copy_from_slice(text),
        }
    }

    /// Of the upstream's headers those that an agent may see: nothing of the account behind the key.
    #[must_use]
    pub fn headers_for_client(&self, from: &HeaderMap) -> HeaderMap {
        let shows_key = |value: &HeaderValue| {
            self.key()
                .is_some_and(|key| memchr::memmem::find(value.as_bytes(), key.expose().as_bytes()).is_some())
        };
        from.iter()
            .filter(|(name, value)| passes_downward(name) && !shows_key(value))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    }
}

/// What stands in `host`: the port only where it is not the scheme's own.
fn host(base: &Uri) -> Option<&str> {
    let authority = base.authority()?;
    let usual = if base.scheme_str() == Some("https") { 443 } else { 80 };
    Some(if authority.port_u16() == Some(usual) { authority.host() } else { authority.as_str() })
}

fn is_closed(beta: &str) -> bool {
    let beta = beta.to_ascii_lowercase();
    CLOSED_BETAS.iter().any(|closed| beta.starts_with(closed))
}

fn betas(value: &HeaderValue) -> impl Iterator<Item = &str> {
    value.to_str().unwrap_or_default().split(',').map(str::trim)
}

/// What of a client's headers is taken out.
#[must_use]
pub fn closed_betas(headers: &HeaderMap) -> Vec<String> {
    let closed = headers.get_all(BETA).iter().flat_map(betas).filter(|beta| is_closed(beta));
    closed.map(|beta| beta.chars().take(NAME_SHOWN).collect()).collect()
}

/// The values of the header that are not closed, or nothing where none is left.
fn open_betas(value: &HeaderValue) -> Option<HeaderValue> {
    if !betas(value).any(is_closed) {
        return Some(value.clone());
    }
    let open: Vec<&str> = betas(value).filter(|beta| !is_closed(beta)).collect();
    if open.is_empty() { None } else { HeaderValue::try_from(open.join(",")).ok() }
}

fn passes_upward(name: &HeaderName) -> bool {
    matches!(name.as_str(), "accept" | "anthropic-version" | "openai-beta")
}

fn passes_downward(name: &HeaderName) -> bool {
    let name = name.as_str();
    matches!(
        name,
        "content-type"
            | "cache-control"
            | "request-id"
            | "x-request-id"
            | "retry-after"
            | "retry-after-ms"
            | "x-should-retry"
            | "openai-processing-ms"
            | "openai-version"
    ) || name.starts_with("anthropic-ratelimit-")
        || name.starts_with("x-ratelimit-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closed_betas_are_taken_out_and_named() {
        let headers = |value: &'static str| [(BETA.parse().unwrap(), HeaderValue::from_static(value))];
        let open = |value| {
            open_betas(&HeaderValue::from_static(value)).map(|kept| kept.to_str().unwrap().to_owned())
        };
        assert_eq!(open("a-1, b-2").as_deref(), Some("a-1, b-2"));
        assert_eq!(open("a-1,Skills-2025-10-02, b-2").as_deref(), Some("a-1,b-2"));
        assert_eq!(open("mcp-client-2025-11-20"), None);
        let closed = closed_betas(&HeaderMap::from_iter(headers("a-1, mcp-client-2025-11-20")));
        assert_eq!(closed, ["mcp-client-2025-11-20"]);
    }
}
