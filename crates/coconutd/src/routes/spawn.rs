//! Spawning.

use super::{Sent, Shared, found};
use crate::authority::access;
use crate::caller::Caller;
use crate::change::spawn as spawning;
use crate::error::{Answer, Refusal};
use crate::view;
use abi::Capability;
use api::AgentDetail;
use api::agent::{SpawnRequest, SpawnSource};
use axum::Json;
use axum::extract::State;

/// Spawn an agent.
#[utoipa::path(
    post,
    path = "/v1/agents",
    request_body = SpawnRequest,
    responses((status = 200, body = AgentDetail, description = "It runs")),
)]
pub async fn spawn(
    State(daemon): Shared,
    caller: Caller,
    Sent(request): Sent<SpawnRequest>,
) -> Answer<Json<AgentDetail>> {
    let what = name(&request);
    let refuse =
        |refusal| access::recorded(&daemon, &caller, Capability::AgentSpawn, &what, refusal);
    if let Caller::Agent { aid, .. } = caller
        && !access::holds(&daemon.inner(), aid, Capability::AgentSpawn)
    {
        let refusal = Refusal::denied("spawning agents needs agent.spawn")
            .hint("in the manifest: \"agent.spawn\" = { count = 1 }");
        return Err(refuse(refusal));
    }
    match spawning::spawn(&daemon, caller, request).await {
        Ok(aid) => found(view::detail(&daemon, aid)),
        Err(refusal) => Err(refuse(refusal)),
    }
}

fn name(request: &SpawnRequest) -> String {
    match &request.source {
        SpawnSource::Manifest { path, .. } => format!("spawn {path}"),
        SpawnSource::AdHoc { .. } => {
            format!("spawn {}", request.args.first().map_or("", String::as_str))
        }
    }
}
