//! Rights: seen, given, taken.

use super::{Sent, Shared};
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

pub async fn list(
    State(daemon): Shared,
    caller: Caller,
    Path(id): Path<String>,
) -> Answer<Json<CapabilityList>> {
    let aid = access::agent(&daemon, &caller, &id, Act::See)?;
    let inner = daemon.inner();
    let agent = inner.supervisor.get(aid)?;
    let info = inner.info.get(&aid).ok_or_else(|| Refusal::failed("it has been forgotten"))?;
    Ok(Json(CapabilityList { capabilities: view::held(agent, info) }))
}

pub async fn grant(
    State(daemon): Shared,
    caller: Caller,
    Path(id): Path<String>,
    Sent(wanted): Sent<CapabilityChange>,
) -> Answer<Json<ChangeReport>> {
    let aid = access::agent(&daemon, &caller, &id, Act::Grant)?;
    let mut rule = parse_rule(&wanted.capability)?;
    if let Some(seconds) = wanted.expires_s {
        rule = rule.clipped(Some(Duration::from_secs(seconds)));
    }
    rights::grant(&daemon, caller, aid, rule).await.map(Json)
}

pub async fn revoke(
    State(daemon): Shared,
    caller: Caller,
    Path(id): Path<String>,
    Sent(wanted): Sent<CapabilityChange>,
) -> Answer<Json<ChangeReport>> {
    let aid = access::agent(&daemon, &caller, &id, Act::Revoke)?;
    if wanted.expires_s.is_some() {
        return Err(Refusal::usage("a revocation has no expiry"));
    }
    let rule = parse_rule(&wanted.capability)?;
    rights::revoke(&daemon, caller, aid, rule).await.map(Json)
}
