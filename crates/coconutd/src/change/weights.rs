//! Weights, in the CPU scheduler and in the broker.

use super::{blocking, lock, whole};
use crate::caller::Caller;
use crate::error::{Answer, Refusal};
use crate::state::Daemon;
use abi::{AgentId, Kind};
use record::body::Lane;
use std::sync::Arc;
use supervisor::LaneError;

fn wrong(error: LaneError) -> Refusal {
    match error {
        LaneError::Unknown(unknown) => unknown.into(),
        LaneError::Weight { .. } => Refusal::usage(error.to_string()),
        LaneError::AboveParent { .. } => {
            Refusal::usage(error.to_string()).hint("raise the parent's weight first")
        }
    }
}

/// Sets a tenant's weight among tenants.
///
/// # Errors
/// When there can be no such tenant or weight, or the kernel refuses; then nothing has changed.
pub async fn tenant(
    daemon: &Arc<Daemon>,
    caller: Caller,
    tenant: String,
    weight: u32,
) -> Answer<()> {
    if !manifest::is_name(&tenant) {
        return Err(Refusal::usage(format!("`{tenant}` cannot be a tenant")));
    }
    let daemon = daemon.clone();
    whole(&daemon.clone(), async move {
        let room = daemon.sink.room().await?;
        let _one_at_a_time = daemon.weights.lock().await;
        let (before, there) = {
            let inner = daemon.inner();
            let before = inner.supervisor.tenant_weight(&tenant);
            (before, inner.supervisor.paying(&tenant).next().is_some())
        };
        let due = {
            let mut inner = daemon.inner();
            inner.supervisor.set_tenant_weight(&tenant, weight).map_err(wrong)?;
            let mut entry = crate::sink::own(Kind::Lane, format!("tenant {tenant}"), "");
            entry.body = Lane { weight: Some(weight.into()), by: caller.name() }.into();
            entry.tenant.clone_from(&tenant);
            room.owe(vec![entry])
        };
        // A tenant without agents has no cgroup yet; it gets its weight with its first one.
        if there && let Err(error) = blocking(|| daemon.kernel.set_tenant_weight(&tenant, weight)) {
            daemon.inner().supervisor.set_tenant_weight(&tenant, before).map_err(wrong)?;
            return Err(error.into());
        }
        blocking(|| daemon.remember_all());
        let records = room.pay(due);
        drop(_one_at_a_time);
        records.written().await?;
        Ok(())
    })
    .await
}

/// Sets an agent's weight within its tenant; who is below it is not heavier.
///
/// # Errors
/// When there can be no such weight, it is above the parent's, or the kernel refuses; then nothing
/// has changed.
pub async fn agent(daemon: &Arc<Daemon>, caller: Caller, aid: AgentId, weight: u32) -> Answer<()> {
    let daemon = daemon.clone();
    whole(&daemon.clone(), async move {
        let room = daemon.sink.room().await?;
        let records = {
            let _tree = lock(&daemon, aid).await?;
            blocking(|| -> Answer<_> {
                let planned = daemon.inner().supervisor.plan_weight(aid, weight).map_err(wrong)?;
                weigh(&daemon, &planned)?;
                let mut inner = daemon.inner();
                inner.supervisor.commit_weights(&planned);
                let by = caller.name();
                let entry = |(aid, weight): &(AgentId, u32)| {
                    let mut entry = inner.entry(*aid, Kind::Lane);
                    entry.object = "weight".into();
                    entry.body = Lane { weight: Some((*weight).into()), by: by.clone() }.into();
                    entry
                };
                let due = room.owe(planned.iter().map(entry).collect());
                drop(inner);
                daemon.remember();
                Ok(room.pay(due))
            })?
        };
        records.written().await?;
        Ok(())
    })
    .await
}

/// All of them, or none.
fn weigh(daemon: &Daemon, planned: &[(AgentId, u32)]) -> Answer<()> {
    for (done, (aid, weight)) in planned.iter().enumerate() {
        let Err(error) = daemon.kernel.set_weight(*aid, *weight) else { continue };
        // The one that failed, too: it may have taken a part of it.
        for (aid, _) in &planned[..=done] {
            let before = daemon.inner().supervisor.get(*aid).map(|agent| agent.weight);
            if let Ok(before) = before
                && let Err(error) = daemon.kernel.set_weight(*aid, before)
            {
                tracing::error!(?aid, %error, "cannot give an agent its weight back");
            }
        }
        return Err(error.into());
    }
    Ok(())
}
