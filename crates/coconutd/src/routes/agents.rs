//! Agents: seen and controlled.

use super::{Asked, Of, Sent, Shared, found};
use crate::authority::access::{self, Act};
use crate::caller::Caller;
use crate::change::{quarantine as held, state};
use crate::error::{Answer, Refusal};
use crate::view;
use api::agent::{Evidence, ExplanationList, SignalRequest};
use api::{Agent, AgentDetail, AgentList, Exit};
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::Deserialize;
use utoipa::IntoParams;
use uuid::Uuid;

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct Which {
    /// Also those that have ended.
    #[serde(default)]
    #[param(default = false)]
    all: bool,
    /// `next` of the page before: goes on from there.
    after: Option<String>,
    /// At most so many on a page: 500 if none is said, and never more.
    limit: Option<usize>,
}

/// Agents of one page, at most.
const PAGE: usize = 500;

/// Agents that the caller may see, a page.
#[utoipa::path(
    get,
    path = "/v1/agents",
    operation_id = "list_agents",
    params(Which),
    responses((status = 200, body = AgentList, description = "A page, the oldest first")),
)]
pub async fn list(
    State(daemon): Shared,
    caller: Caller,
    Asked(which): Asked<Which>,
) -> Answer<Json<AgentList>> {
    let after = which.after.as_deref().map(place).transpose()?;
    let limit = which.limit.unwrap_or(PAGE).clamp(1, PAGE);
    Ok(Json(daemon.inner().page(&caller, which.all, after, limit)))
}

/// An agent's place in the list, where the oldest come first, is its UUID.
fn place(text: &str) -> Answer<Uuid> {
    text.parse().map_err(|_| {
        Refusal::usage(format!("{text:?} is no place in the list of agents"))
            .hint("`after` is the `next` of the page before")
    })
}

/// One agent.
#[utoipa::path(
    get,
    path = "/v1/agents/{id}",
    params(Of),
    responses((status = 200, body = AgentDetail, description = "The whole of it")),
)]
pub async fn show(
    State(daemon): Shared,
    caller: Caller,
    Path(of): Path<Of>,
) -> Answer<Json<AgentDetail>> {
    let aid = access::agent(&daemon, &caller, &of.id, Act::See)?;
    found(view::detail(&daemon, aid))
}

/// The last denials, explained.
#[utoipa::path(
    get,
    path = "/v1/agents/{id}/denials",
    params(Of),
    responses((status = 200, body = ExplanationList, description = "The newest first")),
)]
pub async fn denials(
    State(daemon): Shared,
    caller: Caller,
    Path(of): Path<Of>,
) -> Answer<Json<ExplanationList>> {
    let aid = access::agent(&daemon, &caller, &of.id, Act::See)?;
    found(view::explain(&daemon, aid))
}

/// Wait for an agent's end.
#[utoipa::path(
    get,
    path = "/v1/agents/{id}/wait",
    params(Of),
    responses((status = 200, body = Exit, description = "It has ended")),
)]
pub async fn wait(State(daemon): Shared, caller: Caller, Path(of): Path<Of>) -> Answer<Json<Exit>> {
    let aid = access::agent(&daemon, &caller, &of.id, Act::See)?;
    state::wait(&daemon, aid).await.map(Json)
}

/// Signal an agent's first process.
#[utoipa::path(
    post,
    path = "/v1/agents/{id}/signal",
    params(Of),
    request_body = SignalRequest,
    responses((status = 204, description = "Sent")),
)]
pub async fn signal(
    State(daemon): Shared,
    caller: Caller,
    Path(of): Path<Of>,
    Sent(wanted): Sent<SignalRequest>,
) -> Answer<StatusCode> {
    let aid = access::agent(&daemon, &caller, &of.id, Act::Control)?;
    state::signal(&daemon, &caller, aid, wanted.signal)?;
    Ok(StatusCode::NO_CONTENT)
}

/// End an agent and all its processes.
#[utoipa::path(
    post,
    path = "/v1/agents/{id}/kill",
    params(Of),
    responses((status = 200, body = Exit, description = "It has ended")),
)]
pub async fn kill(State(daemon): Shared, caller: Caller, Path(of): Path<Of>) -> Answer<Json<Exit>> {
    let aid = access::agent(&daemon, &caller, &of.id, Act::Control)?;
    state::kill(&daemon, caller, aid).await.map(Json)
}

/// What an agent and all below it are at this moment, their processes included.
#[utoipa::path(
    get,
    path = "/v1/agents/{id}/evidence",
    params(Of),
    responses((status = 200, body = Evidence, description = "Best of agents that stand still")),
)]
pub async fn evidence(
    State(daemon): Shared,
    caller: Caller,
    Path(of): Path<Of>,
) -> Answer<Json<Evidence>> {
    let aid = access::agent(&daemon, &caller, &of.id, Act::Control)?;
    found(tokio::task::block_in_place(|| crate::evidence::of(&daemon, aid)))
}

/// Freeze an agent and all below it, deny them everything, and cut their connections.
#[utoipa::path(
    post,
    path = "/v1/agents/{id}/quarantine",
    params(Of),
    responses((status = 200, body = Agent, description = "As it is now")),
)]
pub async fn quarantine(
    State(daemon): Shared,
    caller: Caller,
    Path(of): Path<Of>,
) -> Answer<Json<Agent>> {
    let aid = access::agent(&daemon, &caller, &of.id, Act::Control)?;
    held::quarantine(&daemon, caller.name(), aid).await?;
    found(view::detail(&daemon, aid).map(|detail| detail.agent))
}

/// End a quarantine.
#[utoipa::path(
    post,
    path = "/v1/agents/{id}/release",
    params(Of),
    responses((status = 200, body = Agent, description = "As it is now")),
)]
pub async fn release(
    State(daemon): Shared,
    caller: Caller,
    Path(of): Path<Of>,
) -> Answer<Json<Agent>> {
    let aid = access::agent(&daemon, &caller, &of.id, Act::Control)?;
    held::release(&daemon, caller.name(), aid).await?;
    found(view::detail(&daemon, aid).map(|detail| detail.agent))
}
