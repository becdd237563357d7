//! The HTTP routes: each asks [`crate::access`] first, then acts. What stands above a handler is where it is served and
//! what the OpenAPI document says of it.

mod agents;
mod audit;
mod broker;
mod caps;
mod document;
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
use axum::{Json, Router};
use futures_util::Stream;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::sync::Arc;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Largest request: a manifest with its signature, or a broker's batch.
const BODY_MAX: usize = 4 << 20;

/// One JSON document a line.
const NDJSON: &str = "application/x-ndjson";

/// Whatever an agent wrote.
const BYTES: &str = "application/octet-stream";

/// What every handler is given.
pub type Shared = axum::extract::State<Arc<Daemon>>;

/// The agent that a route is about.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub struct Of {
    /// UUID, a unique suffix of at least 4 hex digits, or a unique name.
    id: String,
}

/// Every route, as it is served.
pub fn router(daemon: Arc<Daemon>) -> Router {
    let (router, _) = described().split_for_parts();
    router
        .fallback(nowhere)
        .method_not_allowed_fallback(nowhere)
        .layer(axum::extract::DefaultBodyLimit::max(BODY_MAX))
        .with_state(daemon)
}

/// The OpenAPI 3.1 document.
pub fn document() -> serde_json::Value {
    document::whole(described().into_openapi())
}

/// Every route, with what it says of itself. Only `routes` here: what `route` adds is served and not described.
fn described() -> OpenApiRouter<Arc<Daemon>> {
    OpenApiRouter::with_openapi(document::beginning())
        .routes(routes!(status::status))
        .routes(routes!(agents::list, spawn::spawn))
        .routes(routes!(agents::show))
        .routes(routes!(agents::wait))
        .routes(routes!(output::logs))
        .routes(routes!(agents::signal))
        .routes(routes!(agents::kill))
        .routes(routes!(agents::evidence))
        .routes(routes!(agents::quarantine))
        .routes(routes!(agents::release))
        .routes(routes!(caps::list))
        .routes(routes!(caps::grant))
        .routes(routes!(caps::revoke))
        .routes(routes!(agents::denials))
        .routes(routes!(feed::feed))
        .routes(routes!(lanes::list, lanes::set))
        .routes(routes!(audit::records))
        .routes(routes!(audit::head))
        .routes(routes!(broker::lanes))
        .routes(routes!(broker::peer))
        .routes(routes!(broker::usage))
        .routes(routes!(broker::waiting))
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
