//! Agents: seen and controlled.

use super::{Asked, Sent, Shared, found};
use crate::authority::access::{self, Act};
use crate::caller::Caller;
use crate::change::state;
use crate::error::{Answer, Refusal};
use crate::view;
use api::agent::{ExplanationList, SignalRequest};
use api::{Agent, AgentDetail, AgentList, Exit};
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::Deserialize;
use uuid::Uuid;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Which {
    #[serde(default)]
    all: bool,
    /// `next` of the page before.
    after: Option<String>,
    /// At most so many on a page.
    limit: Option<usize>,
}

/// Agents of one page, at most.
const PAGE: usize = 500;

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

pub async fn show(
    State(daemon): Shared,
    caller: Caller,
    Path(id): Path<String>,
) -> Answer<Json<AgentDetail>> {
    let aid = access::agent(&daemon, &caller, &id, Act::See)?;
    found(view::detail(&daemon, aid))
}

pub async fn denials(
    State(daemon): Shared,
    caller: Caller,
    Path(id): Path<String>,
) -> Answer<Json<ExplanationList>> {
    let aid = access::agent(&daemon, &caller, &id, Act::See)?;
    found(view::explain(&daemon, aid))
}

pub async fn wait(
    State(daemon): Shared,
    caller: Caller,
    Path(id): Path<String>,
) -> Answer<Json<Exit>> {
    let aid = access::agent(&daemon, &caller, &id, Act::See)?;
    state::wait(&daemon, aid).await.map(Json)
}

pub async fn signal(
    State(daemon): Shared,
    caller: Caller,
    Path(id): Path<String>,
    Sent(wanted): Sent<SignalRequest>,
) -> Answer<StatusCode> {
    let aid = access::agent(&daemon, &caller, &id, Act::Control)?;
    state::signal(&daemon, &caller, aid, wanted.signal)?;
    Ok(StatusCode::NO_CONTENT)
}

pub async fn kill(
    State(daemon): Shared,
    caller: Caller,
    Path(id): Path<String>,
) -> Answer<Json<Exit>> {
    let aid = access::agent(&daemon, &caller, &id, Act::Control)?;
    state::kill(&daemon, caller, aid).await.map(Json)
}

pub async fn quarantine(
    State(daemon): Shared,
    caller: Caller,
    Path(id): Path<String>,
) -> Answer<Json<Agent>> {
    let aid = access::agent(&daemon, &caller, &id, Act::Control)?;
    state::quarantine(&daemon, caller, aid).await?;
    found(view::detail(&daemon, aid).map(|detail| detail.agent))
}

pub async fn release(
    State(daemon): Shared,
    caller: Caller,
    Path(id): Path<String>,
) -> Answer<Json<Agent>> {
    let aid = access::agent(&daemon, &caller, &id, Act::Control)?;
    state::release(&daemon, caller, aid).await?;
    found(view::detail(&daemon, aid).map(|detail| detail.agent))
}
