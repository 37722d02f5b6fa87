//! What comes with a request, read so that every fault is a problem document.

use axum::{
    body::{Body, to_bytes},
    extract::{FromRequest, FromRequestParts, Path, Query, Request},
    http::{HeaderMap, header, request::Parts},
};
use bytes::Bytes;
use protocol::{Code, headers, limits};
use serde::de::DeserializeOwned;

use super::error::Failure;

/// Parts of the path.
pub(super) struct Params<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Params<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        match Path::<T>::from_request_parts(parts, state).await {
            Ok(Path(params)) => Ok(Self(params)),
            Err(rejection) => Err(Failure::new(Code::Invalid, rejection.body_text())),
        }
    }
}

/// The query.
pub(super) struct Queries<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Queries<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        match Query::<T>::from_request_parts(parts, state).await {
            Ok(Query(query)) => Ok(Self(query)),
            Err(rejection) => Err(Failure::new(Code::Invalid, rejection.body_text())),
        }
    }
}

/// A JSON body.
pub(super) struct Json<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, _: &S) -> Result<Self, Failure> {
        let kind = media_type(request.headers());
        if kind != "application/json" {
            return Err(Failure::new(
                Code::BadRequest,
                format!("the body is {kind:?}; send JSON, with Content-Type: application/json"),
            ));
        }
        parse(&whole(request.into_body()).await?).map(Self)
    }
}

/// A media type without its parameters, in lower case.
pub(super) fn media_type(headers: &HeaderMap) -> String {
    let text = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// A body within the limit.
pub(super) async fn whole(body: Body) -> Result<Bytes, Failure> {
    to_bytes(body, limits::BODY_BYTES).await.map_err(|error| {
        // axum gives no type to tell the two apart.
        if std::error::Error::source(&error).is_some_and(|why| why.to_string().contains("limit")) {
            Failure::new(Code::TooLarge, format!("the body is over {} bytes", limits::BODY_BYTES))
        } else {
            Failure::new(Code::BadRequest, format!("the body broke off: {error}"))
        }
    })
}

/// JSON of a shape.
pub(super) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(body).map_err(|error| {
        Failure::new(Code::BadRequest, format!("the body is not JSON of the expected shape: {error}"))
    })
}

/// The lease that a worker names in its headers: attempt and token.
pub(super) struct LeaseHeaders {
    pub(super) attempt: u32,
    pub(super) token: String,
}

impl<S: Send + Sync> FromRequestParts<S> for LeaseHeaders {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        let text = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
        let attempt = text(headers::ATTEMPT).and_then(|attempt| attempt.parse().ok());
        match (attempt, text(headers::LEASE)) {
            (Some(attempt), Some(token)) => Ok(Self { attempt, token: token.to_owned() }),
            _ => Err(Failure::new(
                Code::BadRequest,
                "the headers Code-Workers-Lease (the token) and Code-Workers-Attempt (a number) must name the lease",
            )),
        }
    }
}
