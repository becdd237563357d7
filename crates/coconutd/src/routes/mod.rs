//! The HTTP routes: each asks [`crate::access`] first, then acts. `api::route::ROUTES` lists them.

mod agents;
mod audit;
mod broker;
mod caps;
mod feed;
mod lanes;
mod output;
mod spawn;
mod status;

use crate::caller::Caller;
use crate::error::{Answer, Refusal};
use crate::state::Daemon;
use api::ErrorCode;
use axum::body::{Body, Bytes};
use axum::extract::{ConnectInfo, FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Json, Router};
use futures_util::Stream;
use serde::de::DeserializeOwned;
use std::sync::Arc;

/// Largest request: a manifest with its signature, or a broker's batch.
const BODY_MAX: usize = 4 << 20;

/// What every handler is given.
pub type Shared = axum::extract::State<Arc<Daemon>>;

/// Every route.
pub fn router(daemon: Arc<Daemon>) -> Router {
    Router::new()
        .route("/v1/status", get(status::status))
        .route("/v1/agents", get(agents::list).post(spawn::spawn))
        .route("/v1/agents/{id}", get(agents::show))
        .route("/v1/agents/{id}/wait", get(agents::wait))
        .route("/v1/agents/{id}/logs", get(output::logs))
        .route("/v1/agents/{id}/signal", post(agents::signal))
        .route("/v1/agents/{id}/kill", post(agents::kill))
        .route("/v1/agents/{id}/quarantine", post(agents::quarantine))
        .route("/v1/agents/{id}/release", post(agents::release))
        .route("/v1/agents/{id}/capabilities", get(caps::list))
        .route("/v1/agents/{id}/grant", post(caps::grant))
        .route("/v1/agents/{id}/revoke", post(caps::revoke))
        .route("/v1/agents/{id}/denials", get(agents::denials))
        .route("/v1/feed", get(feed::feed))
        .route("/v1/lanes", get(lanes::list).put(lanes::set))
        .route("/v1/audit/records", get(audit::records))
        .route("/v1/audit/head", get(audit::head))
        .route("/v1/broker/lanes", get(broker::lanes))
        .route("/v1/broker/peer", get(broker::peer))
        .route("/v1/broker/usage", post(broker::usage))
        .fallback(nowhere)
        .method_not_allowed_fallback(nowhere)
        .layer(axum::extract::DefaultBodyLimit::max(BODY_MAX))
        .with_state(daemon)
}

async fn nowhere(request: Request) -> Refusal {
    let text = format!("there is no {} {}", request.method(), request.uri().path());
    Refusal::usage(text).hint("are coconut and coconutd of one version? `coconut --version`")
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Answer<Self> {
        let known = ConnectInfo::<Caller>::from_request_parts(parts, state).await;
        let ConnectInfo(caller) = known.map_err(|e| {
            Refusal::denied(format!("it cannot be told who calls: {}", e.body_text()))
        })?;
        Ok(caller)
    }
}

/// A JSON body whose errors are refusals like all others.
pub struct Sent<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Sent<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Answer<Self> {
        let body = Bytes::from_request(request, state).await;
        let body = body.map_err(|error| Refusal::usage(error.body_text()))?;
        let wanted = serde_json::from_slice(&body);
        wanted.map(Sent).map_err(|e| Refusal::usage(format!("the request does not fit: {e}")))
    }
}

/// A query string whose errors are refusals like all others.
pub struct Asked<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Asked<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Answer<Self> {
        let query = axum::extract::Query::<T>::from_request_parts(parts, state).await;
        let query = query
            .map_err(|e| Refusal::usage(format!("the query does not fit: {}", e.body_text())))?;
        Ok(Asked(query.0))
    }
}

/// Runs what may wait for the kernel, away from the connections.
async fn blocking<T: Send + 'static>(
    act: impl FnOnce() -> Answer<T> + Send + 'static,
) -> Answer<T> {
    tokio::task::spawn_blocking(act)
        .await
        .unwrap_or_else(|e| Err(Refusal::failed(format!("the daemon's own code failed: {e}"))))
}

/// An answer that goes on.
fn streamed<E>(
    kind: &'static str,
    stream: impl Stream<Item = Result<Bytes, E>> + Send + 'static,
) -> Answer<Response>
where
    E: Into<Box<dyn std::error::Error + Send + Sync>> + 'static,
{
    let answer = Response::builder().header("content-type", kind).body(Body::from_stream(stream));
    answer.map_err(|error| Refusal::failed(error.to_string()))
}

/// One JSON document and the end of its line.
fn line<T: serde::Serialize>(item: &T) -> Bytes {
    let mut text = serde_json::to_vec(item).unwrap_or_default();
    text.push(b'\n');
    text.into()
}

/// A document of something that may have been forgotten meanwhile.
fn found<T>(item: Option<T>) -> Answer<Json<T>> {
    item.map(Json).ok_or_else(|| Refusal::new(ErrorCode::NotFound, "the agent has been forgotten"))
}
