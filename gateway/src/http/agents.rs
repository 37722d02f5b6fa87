//! The agents' door: the providers' routes that lead to a model, and a key's own balance. All else is 404.

use std::sync::Arc;

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, header, request::Parts};
use http_body_util::Full;
use hyper::body::Incoming;
use jiff::Timestamp;
use protocol::Secret;

use super::uploads;
use crate::{
    Gateway,
    body::Request as Body,
    exchange::{self, Call, Lesson, Metered, Way, Ways},
    ledger::Holder,
    meter::Meter,
    provider::{Api, Provider},
    refusal::Refusal,
    upstream::{self, Upstream, Wires},
};

/// Where a request leads.
enum Route {
    Model(Api),
    Models(Provider),
    Balance,
    Nowhere(Provider),
}

/// The whole list of routes.
fn route(parts: &Parts) -> Route {
    let path = parts.uri.path();
    let (named, path) = if let Some(rest) = path.strip_prefix("/anthropic/") {
        (Some(Provider::Anthropic), rest)
    } else if let Some(rest) = path.strip_prefix("/openai/") {
        (Some(Provider::OpenAi), rest)
    } else {
        (None, path.trim_start_matches('/'))
    };
    let guessed = match parts.headers.contains_key("anthropic-version") || path.starts_with("v1/messages") {
        true => Provider::Anthropic,
        false => Provider::OpenAi,
    };
    let provider = named.unwrap_or(guessed);
    let api = [Api::Messages, Api::CountTokens, Api::Chat, Api::Responses]
        .into_iter()
        .find(|api| api.path().trim_start_matches('/') == path && named.is_none_or(|p| p == api.provider()));
    match (&parts.method, path, api) {
        (&Method::POST, _, Some(api)) => Route::Model(api),
        (&Method::GET, "v1/models", None) => Route::Models(provider),
        (&Method::GET, "v1/key", None) if named.is_none() => Route::Balance,
        _ => Route::Nowhere(provider),
    }
}

/// Answers one request.
pub(super) async fn serve(
    gateway: &Arc<Gateway>,
    wires: &Arc<Wires>,
    request: Request<Incoming>,
) -> Response {
    let (parts, body) = request.into_parts();
    if parts.method == Method::HEAD && parts.uri.path() == "/" {
        // Claude Code asks so whether anyone is there, without a key.
        return StatusCode::OK.into_response();
    }
    let route = route(&parts);
    let provider = match route {
        Route::Model(api) => api.provider(),
        Route::Models(provider) | Route::Nowhere(provider) => provider,
        Route::Balance => Provider::OpenAi,
    };
    let answered = match route {
        Route::Nowhere(_) => Err(Refusal::new(
            StatusCode::NOT_FOUND,
            "not_found",
            format!("the gateway has no {} {}", parts.method, parts.uri.path()),
        )),
        Route::Balance => holder(gateway, &parts.headers)
            .map(|holder| Json(gateway.ledger.balance(&holder)).into_response()),
        Route::Models(provider) => models(gateway, wires, provider, &parts).await,
        Route::Model(api) => model(gateway, wires, api, parts, body).await,
    };
    answered.unwrap_or_else(|refusal| refusal.response(provider))
}

/// Whose key came along: in `x-api-key`, or as a bearer token.
fn holder(gateway: &Gateway, headers: &HeaderMap) -> Result<Holder, Refusal> {
    let text = |name| headers.get(name).and_then(|value: &http::HeaderValue| value.to_str().ok());
    let bearer = || {
        let (scheme, key) = text(header::AUTHORIZATION.as_str())?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(key.trim())
    };
    let key = text(protocol::headers::API_KEY).or_else(bearer).ok_or_else(|| {
        Refusal::new(
            StatusCode::UNAUTHORIZED,
            "no_key",
            "send the task's virtual key in x-api-key or as Authorization: Bearer",
        )
    })?;
    Ok(gateway.ledger.holder(&Secret::new(key), Timestamp::now())?)
}

/// The same request to each upstream that can be asked, in their order.
fn ways(
    gateway: &Gateway,
    provider: Provider,
    make: impl Fn(&Upstream) -> Result<Request<Full<Bytes>>, http::Error>,
) -> Result<Ways, Refusal> {
    let way = |upstream: &Arc<Upstream>| {
        let request = make(upstream).map_err(|error| internal(&error))?;
        Ok(Way { upstream: Arc::clone(upstream), request })
    };
    let mut usable = gateway.upstreams(provider).usable();
    let first = usable.next().ok_or_else(|| no_key(gateway, provider)).and_then(way)?;
    Ok(Ways { first, others: usable.map(way).collect::<Result<_, Refusal>>()? })
}

fn no_key(gateway: &Gateway, provider: Provider) -> Refusal {
    // 400, for that is what makes every agent stop at once.
    Refusal::new(
        StatusCode::BAD_REQUEST,
        "no_upstream_key",
        format!(
            "the gateway has no key for {}: set {} in its environment or .env and start it again",
            provider.name(),
            gateway.upstreams(provider).first().key_name
        ),
    )
}

fn usable(gateway: &Gateway, provider: Provider) -> Result<(), Refusal> {
    gateway.upstreams(provider).usable().next().map(|_| ()).ok_or_else(|| no_key(gateway, provider))
}

async fn models(
    gateway: &Arc<Gateway>,
    wires: &Arc<Wires>,
    provider: Provider,
    parts: &Parts,
) -> Result<Response, Refusal> {
    holder(gateway, &parts.headers)?;
    let ways = ways(gateway, provider, |upstream| {
        upstream.request(Method::GET, "/v1/models", &parts.headers, Bytes::new())
    })?;
    exchange::start(gateway, wires, Call { ways, upload: None, metered: None }).await
}

async fn model(
    gateway: &Arc<Gateway>,
    wires: &Arc<Wires>,
    api: Api,
    parts: Parts,
    body: Incoming,
) -> Result<Response, Refusal> {
    let provider = api.provider();
    let holder = holder(gateway, &parts.headers)?;
    usable(gateway, provider)?;
    let headers = parts.headers;
    let path = match parts.uri.query() {
        Some("beta=true") => format!("{}?beta=true", api.path()),
        _ => api.path().to_owned(),
    };
    let (sent, upload) = uploads::read(
        &gateway.uploads,
        &holder.name,
        &headers,
        axum::body::Body::new(body),
        uploads::ARRIVAL,
    )
    .await?;
    let mut body = Body::read(api, &sent, gateway.counted.hashes())?;
    body.removed.extend(upstream::closed_betas(&headers));
    if !body.removed.is_empty() {
        tracing::info!(key = %holder.name, removed = ?body.removed, "taken out of a request");
        gateway.ledger.count_removed(&holder, &body.removed);
    }
    let (body, metered) = if api == Api::CountTokens {
        (body.unbounded().map_err(|error| internal(&error))?, None)
    } else {
        let found = gateway.prices.find(provider, &body.model).await;
        let price = found.map_err(|error| internal(&error))?.ok_or_else(|| unpriced(&body.model))?;
        let (bound, lesson) = Lesson::before(gateway, &holder.name, &body, &headers);
        let ask = body.ask(&price, bound);
        let reservation = gateway.ledger.reserve(&holder, &body.model, &ask).await?;
        let drop_usage = body.usage_is_ours;
        let body = body.bounded(reservation.grant().output_tokens).map_err(|error| internal(&error))?;
        let metered = Metered::new(reservation, price, lesson, Meter::new(api), drop_usage);
        (body, Some(metered))
    };
    let ways =
        ways(gateway, provider, |upstream| upstream.request(Method::POST, &path, &headers, body.clone()))?;
    exchange::start(gateway, wires, Call { ways, upload: Some(upload), metered }).await
}

fn unpriced(model: &str) -> Refusal {
    let model: String = model.chars().take(100).collect();
    Refusal::new(
        StatusCode::BAD_REQUEST,
        "unknown_model",
        format!(
            "no price is known for the model {model:?}, and none is free: use another, or add \
             [price.{model:?}] with input_usd and output_usd (USD for a million tokens) to config.toml \
             and start the gateway again"
        ),
    )
}

fn internal(error: &dyn std::fmt::Display) -> Refusal {
    Refusal::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "internal",
        format!("the request cannot be made: {error}"),
    )
}
