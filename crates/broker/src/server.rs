//! The HTTP front: what is served where, to whom.

use crate::broker::Broker;
use crate::call::MAX_BODY;
use crate::identity::Connection;
use crate::identity::right::covers;
use crate::openai::ApiError;
use crate::route::no_model;
use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, DefaultBodyLimit, Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use ports::{Endpoint, ModelCard};
use serde_json::json;
use std::sync::Arc;

/// What is served, to whoever was let in.
pub(crate) fn routes(broker: Arc<Broker>) -> Router {
    Router::new()
        .route("/v1/chat/completions", post(chat))
        .route("/v1/completions", post(completion))
        .route("/v1/models", get(models))
        .route("/v1/models/{*id}", get(model))
        .route("/health", get(health))
        .route("/metrics", get(metrics))
        .fallback(|request: Request| async move {
            ApiError::not_found(format!(
                "there is no {} {} here",
                request.method(),
                request.uri().path()
            ))
        })
        .method_not_allowed_fallback(|| async {
            ApiError {
                status: StatusCode::METHOD_NOT_ALLOWED,
                ..ApiError::invalid("this method is not served here")
            }
        })
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(broker)
}

async fn chat(
    State(b): State<Arc<Broker>>,
    peer: ConnectInfo<Connection>,
    request: Request,
) -> Response {
    b.answer(Endpoint::Chat, peer.0, request).await
}

async fn completion(
    State(b): State<Arc<Broker>>,
    peer: ConnectInfo<Connection>,
    request: Request,
) -> Response {
    b.answer(Endpoint::Completion, peer.0, request).await
}

/// The models that the caller may ask for.
async fn served(
    b: &Broker,
    peer: &Connection,
    headers: &HeaderMap,
) -> Result<Vec<ModelCard>, ApiError> {
    let caller = b.identity.caller(peer, headers).await?;
    if let Some(denied) = caller.denied {
        return Err(denied);
    }
    let mut models = b.routes.models().await?;
    if let Some(limits) = &caller.limits {
        models.retain(|model| covers(limits, &model.id));
    }
    Ok(models)
}

fn card(model: &ModelCard) -> serde_json::Value {
    let ModelCard { id, created, owned_by } = model;
    json!({ "id": id, "object": "model", "created": created, "owned_by": owned_by })
}

async fn models(
    State(b): State<Arc<Broker>>,
    peer: ConnectInfo<Connection>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let data: Vec<_> = served(&b, &peer, &headers).await?.iter().map(card).collect();
    Ok(axum::Json(json!({ "object": "list", "data": data })).into_response())
}

async fn model(
    State(b): State<Arc<Broker>>,
    peer: ConnectInfo<Connection>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let all = served(&b, &peer, &headers).await?;
    let found = all.iter().find(|model| model.id == id).ok_or_else(|| no_model(&id))?;
    Ok(axum::Json(card(found)).into_response())
}

/// Whether a call could be answered now: by some backend, if not by each.
async fn health(State(b): State<Arc<Broker>>) -> Response {
    let asked = b.routes.health().await;
    let failed: Vec<_> = asked.iter().filter_map(|(_, answer)| answer.as_ref().err()).collect();
    if let Some(first) = failed.first()
        && failed.len() == asked.len()
    {
        let error = (*first).clone();
        return ApiError { status: StatusCode::SERVICE_UNAVAILABLE, ..error }.into_response();
    }
    let status = if failed.is_empty() { "ok" } else { "degraded" };
    let backends: serde_json::Map<_, _> = asked
        .iter()
        .map(|(name, answer)| {
            let said = answer.as_ref().map_or_else(|e| e.message.as_str(), |()| "ok");
            ((*name).to_owned(), said.into())
        })
        .collect();
    axum::Json(json!({ "status": status, "backends": backends })).into_response()
}

/// The text format of OpenMetrics 1.0, which Prometheus reads.
async fn metrics(State(b): State<Arc<Broker>>) -> Response {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], Body::from(b.metrics.render())).into_response()
}
