//! Problems as responses.

use axum::{
    body::Body,
    extract::Request,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use protocol::{Code, Problem, problem::MEDIA_TYPE};

use crate::queue::StoreError;

/// Seconds after which a refused client may come again.
const RETRY_AFTER: &str = "2";

/// A problem on its way out.
#[derive(Debug)]
pub(super) struct Failure(pub(super) Problem);

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self(error.into())
    }
}

impl Failure {
    pub(super) fn new(code: Code, detail: impl Into<String>) -> Self {
        Self(Problem::new(code, detail))
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self.0).unwrap_or_default();
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        if matches!(self.0.status, 429 | 503 | 507) {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER));
        }
        if self.0.code == Code::NoKey {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response.extensions_mut().insert(self.0);
        response
    }
}

/// Whether a client wants lines instead of JSON.
pub(super) fn wants_text(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    accept.split(',').any(|part| part.split(';').next().is_some_and(|kind| kind.trim() == "text/plain"))
}

/// Tells a problem in lines to those who want lines.
pub(super) fn in_lines(mut response: Response) -> Response {
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(super::text::MEDIA_TYPE));
        headers.remove(header::CONTENT_LENGTH);
        *response.body_mut() = Body::from(super::text::problem(&problem));
    }
    response
}

/// For paths that no route knows.
pub(super) async fn no_route(request: Request) -> Failure {
    Failure::new(Code::NotFound, format!("there is no {} here", request.uri().path()))
}

/// For methods that a route does not know.
pub(super) async fn no_method(request: Request) -> Failure {
    let (method, path) = (request.method(), request.uri().path());
    Failure::new(Code::MethodNotAllowed, format!("{path} does not take {method}"))
}
