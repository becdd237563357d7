//! Lanes: one weight, in the CPU scheduler and in the broker.

use super::{Sent, Shared};
use crate::authority::access::{self, Act};
use crate::caller::Caller;
use crate::change::weights;
use crate::error::Answer;
use api::lane::{LaneChange, LaneList};
use axum::Json;
use axum::extract::State;

pub async fn list(State(daemon): Shared, caller: Caller) -> Answer<Json<LaneList>> {
    access::operator(&daemon, &caller, "see everybody's lanes")?;
    let lanes = daemon.inner().lanes();
    Ok(Json(lanes))
}

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
