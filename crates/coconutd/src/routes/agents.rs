//! Agents: seen and controlled.

use super::{Asked, Shared, Wanted, blocking, found};
use crate::access::{self, Act};
use crate::error::{Answer, Refusal};
use crate::identity::Caller;
use crate::state::Inner;
use crate::{control, view};
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
    let after = which.after.as_deref().map(Position::parse).transpose()?;
    let limit = which.limit.unwrap_or(PAGE).clamp(1, PAGE);
    Ok(Json(page(&daemon.inner(), &caller, which.all, after, limit)))
}

/// An agent's place in the list: the oldest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Position {
    born_ns: u64,
    uuid: Uuid,
}

impl Position {
    fn of(agent: &supervisor::Agent) -> Self {
        Position { born_ns: agent.born_ns, uuid: agent.uuid }
    }

    fn parse(text: &str) -> Answer<Self> {
        let parts = text.split_once('.').and_then(|(born_ns, uuid)| {
            Some(Position { born_ns: born_ns.parse().ok()?, uuid: uuid.parse().ok()? })
        });
        parts.ok_or_else(|| {
            Refusal::usage(format!("{text:?} is no place in the list of agents"))
                .hint("`after` is the `next` of the page before")
        })
    }

    fn text(self) -> String {
        format!("{}.{}", self.born_ns, self.uuid.simple())
    }
}

/// The agents behind `after` that the caller may see.
fn page(
    inner: &Inner,
    caller: &Caller,
    all: bool,
    after: Option<Position>,
    limit: usize,
) -> AgentList {
    let list = if all { inner.supervisor.all() } else { inner.supervisor.living() };
    let begin = after.map_or(0, |after| list.partition_point(|a| Position::of(a) <= after));
    let mut seen = list[begin..].iter().filter(|agent| access::sees(inner, caller, agent.aid));
    let mut page = AgentList::default();
    for agent in seen.by_ref().take(limit) {
        page.next = Some(Position::of(agent).text());
        page.agents.extend(inner.view(agent));
    }
    if seen.next().is_none() {
        page.next = None;
    }
    page
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
    control::wait(&daemon, aid).await.map(Json)
}

pub async fn signal(
    State(daemon): Shared,
    caller: Caller,
    Path(id): Path<String>,
    Wanted(wanted): Wanted<SignalRequest>,
) -> Answer<StatusCode> {
    let aid = access::agent(&daemon, &caller, &id, Act::Control)?;
    control::signal(&daemon, &caller, aid, wanted.signal)?;
    Ok(StatusCode::NO_CONTENT)
}

pub async fn kill(
    State(daemon): Shared,
    caller: Caller,
    Path(id): Path<String>,
) -> Answer<Json<Exit>> {
    let aid = access::agent(&daemon, &caller, &id, Act::Control)?;
    control::kill(&daemon, &caller, aid).await.map(Json)
}

pub async fn quarantine(
    State(daemon): Shared,
    caller: Caller,
    Path(id): Path<String>,
) -> Answer<Json<Agent>> {
    let aid = access::agent(&daemon, &caller, &id, Act::Control)?;
    let worker = daemon.clone();
    blocking(move || control::quarantine(&worker, &caller, aid)).await?;
    found(view::detail(&daemon, aid).map(|detail| detail.agent))
}

pub async fn release(
    State(daemon): Shared,
    caller: Caller,
    Path(id): Path<String>,
) -> Answer<Json<Agent>> {
    let aid = access::agent(&daemon, &caller, &id, Act::Control)?;
    let worker = daemon.clone();
    blocking(move || control::release(&worker, &caller, aid)).await?;
    found(view::detail(&daemon, aid).map(|detail| detail.agent))
}
