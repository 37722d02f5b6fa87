//! The way to the real API.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use hickory_resolver::TokioResolver;
use http::{HeaderMap, Method, Request, Response, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::rt::TokioExecutor;

/// A provider's API.
#[derive(Debug)]
pub struct Upstream {
    base: String,
    client: Client<HttpsConnector<HttpConnector<Resolver>>, Full<Bytes>>,
}

impl Upstream {
    /// The API at this URL, with or without the `/v1` at its end. Nothing is connected yet.
    ///
    /// # Errors
    /// When it is no URL, or no name can be looked up here.
    pub fn new(url: &str) -> Result<Self, String> {
        let base = url.trim_end_matches('/').trim_end_matches("/v1").trim_end_matches('/');
        let parsed: Uri = base.parse().map_err(|error| format!("--upstream {url}: {error}"))?;
        if !matches!(parsed.scheme_str(), Some("http" | "https")) || parsed.query().is_some() {
            return Err(format!(
                "--upstream {url} is not of the form http://HOST[:PORT][/PATH] or https://…"
            ));
        }
        let resolver = TokioResolver::builder_tokio().and_then(hickory_resolver::ResolverBuilder::build);
        let resolver = resolver.map_err(|error| format!("/etc/resolv.conf is not usable: {error}"))?;
        let mut tcp = HttpConnector::new_with_resolver(Resolver(Arc::new(resolver)));
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        let builder = HttpsConnectorBuilder::new();
        let builder = builder.with_native_roots().unwrap_or_else(|error| {
            tracing::warn!("the system's certificates are not usable ({error}): using Mozilla's");
            HttpsConnectorBuilder::new().with_webpki_roots()
        });
        let connector = builder.https_or_http().enable_http1().wrap_connector(tcp);
        Ok(Self { base: base.to_owned(), client: Client::builder(TokioExecutor::new()).build(connector) })
    }

    /// Sends a request there, and returns when the answer's head is here.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn send(
        &self,
        method: Method,
        uri: &Uri,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Response<Incoming>, String> {
        let path = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() =
            format!("{}{path}", self.base).parse().map_err(|error| format!("{path}: {error}"))?;
        *request.headers_mut() = headers;
        self.client.request(request).await.map_err(|error| {
            let mut why: &dyn std::error::Error = &error;
            while let Some(source) = why.source() {
                why = source;
            }
            format!("{} cannot be reached: {why}", self.base)
        })
    }
}

/// Names to addresses without the C library, which a static program cannot ask safely.
#[derive(Debug, Clone)]
struct Resolver(Arc<TokioResolver>);

impl tower_service::Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = hickory_resolver::net::NetError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let resolver = Arc::clone(&self.0);
        Box::pin(async move {
            let found = resolver.lookup_ip(name.as_str()).await?;
            Ok(found.iter().map(|address| SocketAddr::new(address, 0)).collect::<Vec<_>>().into_iter())
        })
    }
}
