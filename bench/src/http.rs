//! One connection that carries one request at a time: as light as a client can be, since it shares the cores with
//! what it measures.

use std::{net::SocketAddr, path::Path};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    client::conn::http1::{SendRequest, handshake},
    header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderName, HeaderValue},
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
};

/// An open connection, and what every request on it carries.
pub(crate) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    host: HeaderValue,
    key: HeaderValue,
}

impl Connection {
    /// To a TCP address; `key` goes out as the bearer token.
    pub(crate) async fn tcp(to: SocketAddr, key: &str) -> Self {
        let stream = TcpStream::connect(to).await.expect("the TCP door is open");
        stream.set_nodelay(true).expect("a socket takes its options");
        Self::over(stream, &to.to_string(), key).await
    }

    /// To a unix socket.
    pub(crate) async fn unix(to: &Path, key: &str) -> Self {
        Self::over(UnixStream::connect(to).await.expect("the unix door is open"), "localhost", key).await
    }

    async fn over(
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        host: &str,
        key: &str,
    ) -> Self {
        let (sender, connection) = handshake(TokioIo::new(stream)).await.expect("the door speaks HTTP");
        // It ends with its sender.
        tokio::spawn(connection);
        let value = |text: &str| HeaderValue::try_from(text).expect("it is made of visible letters");
        Self { sender, host: value(host), key: value(&format!("Bearer {key}")) }
    }

    /// Sends a request, and reads the head of its answer, which must be a good one.
    pub(crate) async fn open(&mut self, method: Method, path: &str, body: Bytes) -> Incoming {
        let answer = self.send(method, path, &[], body).await;
        assert!(answer.status().is_success(), "{answer:?}");
        answer.into_body()
    }

    /// Sends a request, and reads its whole answer.
    pub(crate) async fn call(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(HeaderName, HeaderValue)],
        body: Bytes,
    ) -> (StatusCode, Bytes) {
        let answer = self.send(method, path, headers, body).await;
        let status = answer.status();
        (status, answer.into_body().collect().await.expect("all of the answer comes").to_bytes())
    }

    async fn send(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(HeaderName, HeaderValue)],
        body: Bytes,
    ) -> Response<Incoming> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, &self.host)
            .header(AUTHORIZATION, &self.key)
            .header(CONTENT_TYPE, "application/json");
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let request = request.body(Full::new(body)).expect("it is a request");
        self.sender.ready().await.expect("the connection stands");
        self.sender.send_request(request).await.expect("an answer comes")
    }
}
