//! The HTTP front: what is served where, to whom.

use crate::admission::Admission;
use crate::backend::{Backend, ModelCard};
use crate::call::MAX_BODY;
use crate::callers::Callers;
use crate::identity::right::covers;
use crate::identity::{Connection, Identity};
use crate::metrics::Metrics;
use crate::openai::{ApiError, Endpoint};
use crate::usage::UsageLog;
use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, DefaultBodyLimit, Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use std::sync::Arc;

/// Everything that a call needs.
pub struct Broker {
    /// Who calls.
    pub identity: Identity,
    /// Whose turn it is.
    pub admission: Arc<Admission>,
    /// Who answers.
    pub backend: Arc<dyn Backend>,
    /// Where records go.
    pub usage: UsageLog,
    /// What was done.
    pub metrics: Arc<Metrics>,
    /// Who holds how many connections.
    pub callers: Callers,
}

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
                "there is no {} {}",
                request.method(),
                request.uri().path()
            ))
        })
        .method_not_allowed_fallback(|request: Request| async move {
            let message = format!("{} does not take {}", request.uri().path(), request.method());
            ApiError { status: StatusCode::METHOD_NOT_ALLOWED, ..ApiError::invalid(message) }
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
    let mut models = b.backend.models().await?;
    if let Some(limits) = &caller.limits {
        models.retain(|model| covers(limits, &model.id));
    }
    Ok(models)
}

async fn models(
    State(b): State<Arc<Broker>>,
    peer: ConnectInfo<Connection>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let data = served(&b, &peer, &headers).await?;
    Ok(axum::Json(serde_json::json!({ "object": "list", "data": data })).into_response())
}

async fn model(
    State(b): State<Arc<Broker>>,
    peer: ConnectInfo<Connection>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let found = served(&b, &peer, &headers).await?.into_iter().find(|m| m.id == id);
    let missing =
        || ApiError::not_found(format!("there is no model {id:?}")).code("model_not_found");
    Ok(axum::Json(found.ok_or_else(missing)?).into_response())
}

/// Whether a call could be answered now.
async fn health(State(b): State<Arc<Broker>>) -> Response {
    match b.backend.health().await {
        Ok(()) => axum::Json(serde_json::json!({ "status": "ok" })).into_response(),
        Err(error) => ApiError { status: StatusCode::SERVICE_UNAVAILABLE, ..error }.into_response(),
    }
}

async fn metrics(State(b): State<Arc<Broker>>) -> Response {
    let text = b.metrics.render(b.admission.depth()) + &b.backend.metrics();
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4")];
    (kind, Body::from(text)).into_response()
}
