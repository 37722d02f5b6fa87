//! New connections to upstreams: names, TCP, TLS.

use std::{
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use hickory_resolver::TokioResolver;
use http::Uri;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::{
    client::legacy::connect::{HttpConnector, dns::Name},
    rt::TokioIo,
};
use tokio::net::TcpStream;
use tower_service::Service as _;

/// Time to connect, name resolution and TLS included.
const CONNECT: Duration = Duration::from_secs(15);

/// A connection's bytes.
pub(super) type Io = MaybeHttpsStream<TokioIo<TcpStream>>;
/// Why there is no connection.
pub(super) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Connects to upstreams.
#[derive(Debug, Clone)]
pub(super) struct Connector(HttpsConnector<HttpConnector<Resolver>>);

impl Connector {
    /// Certificates are checked against the system's, or, where it has none, against Mozilla's. A proxy of the
    /// environment is not used: name its address as the base URL where there must be one.
    pub(super) fn new() -> Self {
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
        Self(builder.https_or_http().enable_http1().wrap_connector(tcp))
    }

    /// A connection that is ready to be spoken on.
    pub(super) async fn connect(&self, to: Uri) -> Result<Io, BoxError> {
        in_time(CONNECT, self.0.clone().call(to)).await
    }
}

/// Gives up a connection that is not ready in time: a server that accepts and then says nothing is not reached.
async fn in_time<T>(
    time: Duration,
    connecting: impl Future<Output = Result<T, BoxError>>,
) -> Result<T, BoxError> {
    let late = || format!("no connection within {} s", time.as_secs());
    tokio::time::timeout(time, connecting).await.unwrap_or_else(|_| Err(late().into()))
}

/// Names to addresses without the C library, which a static program cannot ask safely.
#[derive(Debug, Clone)]
struct Resolver(Option<Arc<TokioResolver>>);

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
    use super::*;

    #[tokio::test]
    async fn a_server_that_says_nothing_is_given_up() {
        let connected = in_time(Duration::from_millis(1), std::future::pending::<Result<(), _>>()).await;
        assert!(connected.unwrap_err().to_string().contains("no connection within"));
    }
}
