//! Rights: seen, given, taken.

use super::{Of, Sent, Shared};
use crate::authority::access::{self, Act};
use crate::authority::source::parse_rule;
use crate::caller::Caller;
use crate::change::rights;
use crate::error::{Answer, Refusal};
use crate::view;
use api::agent::{CapabilityChange, CapabilityList, ChangeReport};
use axum::Json;
use axum::extract::{Path, State};
use std::time::Duration;

/// What an agent may do now.
#[utoipa::path(
    get,
    path = "/v1/agents/{id}/capabilities",
    operation_id = "list_capabilities",
    params(Of),
    responses((status = 200, body = CapabilityList, description = "In order of their rules")),
)]
pub async fn list(
    State(daemon): Shared,
    caller: Caller,
    Path(of): Path<Of>,
) -> Answer<Json<CapabilityList>> {
    let aid = access::agent(&daemon, &caller, &of.id, Act::See)?;
    let inner = daemon.inner();
    let agent = inner.supervisor.get(aid)?;
    let info = inner.info.get(&aid).ok_or_else(|| Refusal::failed("it has been forgotten"))?;
    Ok(Json(CapabilityList { capabilities: view::held(&daemon, agent, info) }))
}

/// Give a capability.
#[utoipa::path(
    post,
    path = "/v1/agents/{id}/grant",
    params(Of),
    request_body = CapabilityChange,
    responses((status = 200, body = ChangeReport, description = "Given, and on record")),
)]
pub async fn grant(
    State(daemon): Shared,
    caller: Caller,
    Path(of): Path<Of>,
    Sent(wanted): Sent<CapabilityChange>,
) -> Answer<Json<ChangeReport>> {
    let aid = access::agent(&daemon, &caller, &of.id, Act::Grant)?;
    let mut rule = parse_rule(&wanted.capability)?;
    if let Some(span) = wanted.expires_ms {
        rule = rule.clipped(Some(Duration::from_millis(span)));
    }
    if let Some(uses) = wanted.uses {
        let most = manifest::limits::USES;
        if !(1..=most).contains(&uses) {
            return Err(Refusal::usage(format!("uses are 1 to {most}, not {uses}")));
        }
        rule = rule.counted(Some(uses)).map_err(|error| Refusal::usage(error.to_string()))?;
    }
    rights::grant(&daemon, caller, aid, rule).await.map(Json)
}

/// Take one away.
#[utoipa::path(
    post,
    path = "/v1/agents/{id}/revoke",
    params(Of),
    request_body = CapabilityChange,
    responses((status = 200, body = ChangeReport, description = "Taken, and on record")),
)]
pub async fn revoke(
    State(daemon): Shared,
    caller: Caller,
    Path(of): Path<Of>,
    Sent(wanted): Sent<CapabilityChange>,
) -> Answer<Json<ChangeReport>> {
    let aid = access::agent(&daemon, &caller, &of.id, Act::Revoke)?;
    if wanted.expires_ms.is_some() || wanted.uses.is_some() {
        return Err(Refusal::usage("a revocation has no expiry and no uses"));
    }
    let rule = parse_rule(&wanted.capability)?;
    rights::revoke(&daemon, caller, aid, rule).await.map(Json)
}
