//! Lanes: one weight, in the CPU scheduler and in the broker.

use super::{Shared, Wanted};
use crate::access::{self, Act};
use crate::clock;
use crate::error::{Answer, Refusal};
use crate::identity::Caller;
use crate::state::Daemon;
use abi::{AgentId, Kind};
use api::broker::LaneEvent;
use api::lane::{LaneChange, LaneList};
use axum::Json;
use axum::extract::State;
use supervisor::LaneError;

pub async fn list(State(daemon): Shared, caller: Caller) -> Answer<Json<LaneList>> {
    access::operator(&daemon, &caller, "see everybody's lanes")?;
    let lanes = daemon.inner().lanes();
    Ok(Json(lanes))
}

pub async fn set(
    State(daemon): Shared,
    caller: Caller,
    Wanted(change): Wanted<LaneChange>,
) -> Answer<Json<LaneList>> {
    access::operator(&daemon, &caller, "set weights")?;
    match change {
        LaneChange::Tenant { tenant, weight } => set_tenant(&daemon, &caller, &tenant, weight)?,
        LaneChange::Agent { agent, weight } => {
            let aid = access::agent(&daemon, &caller, &agent, Act::Control)?;
            set_agent(&daemon, &caller, aid, weight)?;
        }
    }
    let lanes = daemon.inner().lanes();
    Ok(Json(lanes))
}

fn wrong(error: LaneError) -> Refusal {
    match error {
        LaneError::Unknown(unknown) => unknown.into(),
        LaneError::Weight { .. } => Refusal::usage(error.to_string()),
    }
}

fn set_tenant(daemon: &Daemon, caller: &Caller, tenant: &str, weight: u32) -> Answer<()> {
    if !manifest::is_name(tenant) {
        return Err(Refusal::usage(format!("`{tenant}` cannot be a tenant")));
    }
    let changed = daemon.inner().supervisor.set_tenant_weight(tenant, weight).map_err(wrong)?;
    // A tenant without agents has no cgroup yet; it gets its weight with its first one.
    if !changed.is_empty() {
        daemon.kernel.set_tenant_weight(tenant, weight)?;
    }
    let mut entry = crate::sink::own(Kind::Lane, format!("tenant {tenant}"), "");
    tenant.clone_into(&mut entry.tenant);
    entry.detail = format!("weight={weight} by={}", crate::translate::word(&caller.name()));
    daemon.sink.record(entry);
    tell(daemon, &changed);
    Ok(())
}

fn set_agent(daemon: &Daemon, caller: &Caller, aid: AgentId, weight: u32) -> Answer<()> {
    daemon.inner().supervisor.set_weight(aid, weight).map_err(wrong)?;
    daemon.kernel.set_weight(aid, weight)?;
    let mut entry = daemon.inner().entry(aid, Kind::Lane);
    entry.object = "weight".into();
    entry.detail = format!("weight={weight} by={}", crate::translate::word(&caller.name()));
    daemon.sink.record(entry);
    tell(daemon, &[aid]);
    Ok(())
}

fn tell(daemon: &Daemon, agents: &[AgentId]) {
    let inner = daemon.inner();
    let lanes: Vec<_> =
        agents.iter().filter_map(|aid| inner.lane(*aid, clock::boot_ns())).collect();
    drop(inner);
    lanes.into_iter().for_each(|lane| daemon.lanes.tell(LaneEvent::Set { lane }));
}
