//! The model's API at the other end: where it is, the real key for it, and the client that calls it.

use std::{
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use hickory_resolver::TokioResolver;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, header};
use http_body_util::Full;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{
        Client,
        connect::{HttpConnector, dns::Name},
    },
    rt::{TokioExecutor, TokioTimer},
};
use protocol::Secret;

use crate::{
    body::{NAME_SHOWN, rules::CLOSED_BETAS},
    provider::Provider,
};

/// Time to connect, name resolution and TLS included.
const CONNECT: Duration = Duration::from_secs(15);
/// An idle connection is dropped before the far end does it, which would race with a request.
const IDLE: Duration = Duration::from_secs(30);

/// The header that opens what is not open to all yet.
const BETA: &str = "anthropic-beta";
/// Bytes of an answer that are read at once.
const READ_BYTES: usize = 2 * 1024;

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
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.base_url));
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

/// Calls upstreams over HTTP/1.1, with connections kept.
pub type UpstreamClient = Client<Timed<HttpsConnector<HttpConnector<Resolver>>>, Full<Bytes>>;

/// The client of all upstreams. Certificates are checked against the system's, or, where it has none, against
/// Mozilla's. A proxy of the environment is not used: name its address as the base URL where there must be one.
#[must_use]
pub fn client() -> UpstreamClient {
    let mut tcp = HttpConnector::new_with_resolver(Resolver::from_system());
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT));
    let builder = match HttpsConnectorBuilder::new().with_native_roots() {
        Ok(builder) => builder,
        Err(error) => {
            tracing::warn!("the system's certificates are not usable ({error}): using Mozilla's");
            HttpsConnectorBuilder::new().with_webpki_roots()
        }
    };
    let connector = builder.https_or_http().enable_http1().wrap_connector(tcp);
    Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE)
        // Answers mostly trickle; with many open a large buffer for each is what the memory goes to.
        .http1_read_buf_exact_size(READ_BYTES)
        .build(Timed(connector, CONNECT))
}

/// Gives up a connection that is not ready in time: a server that accepts and then says nothing is not reached.
#[derive(Debug, Clone)]
pub struct Timed<C>(C, Duration);

type BoxError = Box<dyn std::error::Error + Send + Sync>;

impl<C> tower_service::Service<Uri> for Timed<C>
where
    C: tower_service::Service<Uri, Error = BoxError>,
    C::Future: Send + 'static,
{
    type Response = C::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<C::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let (connecting, time) = (self.0.call(uri), self.1);
        Box::pin(async move {
            let late = || format!("no connection within {} s", time.as_secs());
            tokio::time::timeout(time, connecting).await.unwrap_or_else(|_| Err(late().into()))
        })
    }
}

/// Names to addresses without the C library, which a static program cannot ask safely.
#[derive(Debug, Clone)]
pub struct Resolver(Option<Arc<TokioResolver>>);

impl Resolver {
    fn from_system() -> Self {
        let built = TokioResolver::builder_tokio().and_then(hickory_resolver::ResolverBuilder::build);
        if let Err(error) = &built {
            tracing::warn!("names cannot be resolved: /etc/resolv.conf is not usable: {error}");
        }
        Self(built.ok().map(Arc::new))
    }
}

impl tower_service::Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let resolver = self.0.clone();
        Box::pin(async move {
            let resolver = resolver.ok_or_else(|| std::io::Error::other("/etc/resolv.conf is not usable"))?;
            let found = resolver.lookup_ip(name.as_str()).await.map_err(std::io::Error::other)?;
            Ok(found.iter().map(|ip| SocketAddr::new(ip, 0)).collect::<Vec<_>>().into_iter())
        })
    }
}

#[cfg(test)]
mod tests {
    use tower_service::Service as _;

    use super::*;

    #[derive(Clone)]
    struct Mute;

    impl tower_service::Service<Uri> for Mute {
        type Response = ();
        type Error = BoxError;
        type Future = std::future::Pending<Result<(), BoxError>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: Uri) -> Self::Future {
            std::future::pending()
        }
    }

    #[tokio::test]
    async fn a_server_that_says_nothing_is_given_up() {
        let connected = Timed(Mute, Duration::from_millis(1)).call(Uri::from_static("https://x")).await;
        assert!(connected.unwrap_err().to_string().contains("no connection within"));
    }

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
