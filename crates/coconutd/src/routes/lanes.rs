//! Lanes: one weight, in the CPU scheduler and in the broker.

use super::{Sent, Shared};
use crate::authority::access::{self, Act};
use crate::caller::Caller;
use crate::change::weights;
use crate::error::Answer;
use api::lane::{LaneChange, LaneList};
use axum::Json;
use axum::extract::State;

/// Weights and use of tenants and agents.
#[utoipa::path(
    get,
    path = "/v1/lanes",
    operation_id = "list_lanes",
    responses((status = 200, body = LaneList, description = "In order of their names")),
)]
pub async fn list(State(daemon): Shared, caller: Caller) -> Answer<Json<LaneList>> {
    access::operator(&daemon, &caller, "see everybody's lanes")?;
    let lanes = daemon.inner().lanes();
    Ok(Json(lanes))
}

/// Set a weight.
#[utoipa::path(
    put,
    path = "/v1/lanes",
    operation_id = "set_weight",
    request_body = LaneChange,
    responses((status = 200, body = LaneList, description = "As they are now")),
)]
pub async fn set(
    State(daemon): Shared,
    caller: Caller,
    Sent(change): Sent<LaneChange>,
) -> Answer<Json<LaneList>> {
    access::operator(&daemon, &caller, "set weights")?;
    match change {
        LaneChange::Tenant { tenant, weight } => {
            weights::tenant(&daemon, caller, tenant, weight).await?;
        }
        LaneChange::Agent { agent, weight } => {
            let aid = access::agent(&daemon, &caller, &agent, Act::Control)?;
            weights::agent(&daemon, caller, aid, weight).await?;
        }
    }
    let lanes = daemon.inner().lanes();
    Ok(Json(lanes))
}
