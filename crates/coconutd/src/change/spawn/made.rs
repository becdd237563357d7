//! Making an agent: admission, cgroup and rights; and undoing it.

use super::Plan;
use super::plan::parent_of;
use crate::change::children::{processes, spawn_count};
use crate::change::sets;
use crate::error::{Answer, Refusal};
use crate::owner::Owner;
use crate::rights::launch;
use crate::sink::Durable;
use crate::state::{Daemon, Info};
use crate::tree::Tree;
use crate::{clock, reap};
use abi::{AgentId, AgentState, Capability, Kind};
use manifest::{Digest, Exec, Namespaces};
use std::collections::VecDeque;
use std::sync::Arc;
use supervisor::{Admission, Event};

impl Plan {
    /// Admission, cgroup and rights. The tree's lock is held: from here on, what is taken from the
    /// parent is taken from this agent too. Its records are on their way when this returns.
    pub(super) fn make(
        &self,
        daemon: &Arc<Daemon>,
        tree: &Arc<Tree>,
        room: crate::sink::Room,
    ) -> Answer<(AgentId, Durable)> {
        let aid = self.admit(daemon, tree).map_err(|refusal| refusal.step("attenuation"))?;
        match self.make_in_kernel(daemon, aid) {
            Ok(()) => {
                let due = {
                    let mut inner = daemon.inner();
                    let records = self.records(&mut inner, aid);
                    room.owe(records)
                };
                // The next daemon has to know whom it finds.
                daemon.remember();
                Ok((aid, room.pay(due)))
            }
            Err(refusal) => {
                undo(daemon, aid, &refusal);
                Err(refusal)
            }
        }
    }

    fn admit(&self, daemon: &Daemon, tree: &Arc<Tree>) -> Answer<AgentId> {
        let manifest = &self.prepared.manifest;
        let admission = Admission {
            uuid: self.uuid,
            parent: parent_of(&self.caller),
            name: manifest.agent.name.clone(),
            tenant: manifest.agent.tenant.clone(),
            children: manifest.agent.children,
            weight: manifest.weight,
            memory: manifest.memory,
            denial_limit: manifest.denials,
            sets: self.wanted.sets.iter().map(|set| set.set().clone()).collect(),
        };
        let info = self.info(tree);
        let mut inner = daemon.inner();
        let aid = inner.supervisor.admit(admission, clock::boot_ns()).map_err(|error| {
            Refusal::denied(error.to_string())
                .hint("a child may hold only what its parent holds: `coconut cap ls` shows it")
        })?;
        inner.enter(aid, info);
        inner.admitted += 1;
        Ok(aid)
    }

    fn info(&self, tree: &Arc<Tree>) -> Info {
        let manifest::Agent { namespaces, exec, .. } = self.prepared.manifest.agent;
        let log_file = self.output.as_ref().map(|output| output.path().display().to_string());
        Info {
            uuid: self.uuid,
            command: self.shown.clone(),
            uid: self.run_as.uid,
            owner: self.caller.uid(),
            pid: None,
            pidfd: None,
            tree: tree.clone(),
            kernel: Arc::new(Owner::default()),
            sets: Vec::new(),
            numbers: VecDeque::new(),
            namespaces,
            exec,
            held_with: None,
            launch: launch::given(&self.stdio, namespaces, exec),
            started_ns: clock::wall_ns(),
            ended_ns: None,
            origin: self.prepared.origin.clone(),
            program_digest: Some(Digest(self.program.digest).to_string()),
            log_file,
            ending: None,
            kernel_denials: 0,
            daemon_denials: 0,
            uses: 0,
            last_counters: None,
            tokens: 0,
            calls: 0,
            exited: None,
            exit: None,
            footing: None,
        }
    }

    fn make_in_kernel(&self, daemon: &Daemon, aid: AgentId) -> Answer<()> {
        let manifest = &self.prepared.manifest;
        let (held, weight, children, tenant_weight) = {
            let inner = daemon.inner();
            let agent = inner.supervisor.get(aid)?;
            let children = agent.held_of(Capability::AgentSpawn).filter_map(spawn_count).max();
            let tenant_weight = inner.supervisor.tenant_weight(&agent.tenant);
            (agent.sets().to_vec(), agent.weight, children, tenant_weight)
        };
        let refused = |step: &'static str| move |e: kernel::Error| Refusal::from(e).step(step);
        let sets = sets::kernel_sets(daemon, &held, None).map_err(refused("rights"))?;
        let ids = sets::ids(&sets).map_err(refused("rights"))?;
        let new = kernel::NewAgent {
            aid,
            agent: self.uuid,
            parent: parent_of(&self.caller).unwrap_or(AgentId::NOBODY),
            tenant: manifest.agent.tenant.clone(),
            weight,
            ram_max: manifest.memory.ram,
            swap_max: manifest.memory.ssd,
            pids_max: Some(processes(daemon.config.pids_max, children)),
            may_spawn: children.is_some(),
            strict: manifest.agent.exec == Exec::Strict,
            namespaces: match manifest.agent.namespaces {
                Namespaces::Own => kernel::Namespaces::Own { tmp_size: daemon.config.tmp_size },
                Namespaces::Shared => kernel::Namespaces::Shared,
            },
        };
        daemon.kernel.create_agent(&new, &ids).map_err(refused("cgroup"))?;
        if let Some(info) = daemon.inner().info.get_mut(&aid) {
            sets::remember(info, &held, &sets, &ids);
            info.sets = sets;
        }
        let tenant = &manifest.agent.tenant;
        daemon.kernel.set_tenant_weight(tenant, tenant_weight).map_err(refused("cgroup"))
    }
}

/// Nothing of the agent stays but its records, which say what refused.
pub(super) fn undo(daemon: &Arc<Daemon>, aid: AgentId, refusal: &Refusal) {
    let due = {
        let mut entries = Vec::new();
        let mut inner = daemon.inner();
        let attested = inner.supervisor.get(aid).is_ok_and(|a| a.state() == AgentState::Attested);
        if attested {
            let mut exit = inner.entry(aid, Kind::Exit);
            exit.object = "never started".into();
            let step = refusal.0.step.clone().unwrap_or_default();
            let why = refusal.0.error.clone();
            exit.body = record::body::Exit { step, why, ..Default::default() }.into();
            entries.push(exit);
        }
        let ended = inner.step(aid, Event::Terminate(supervisor::End::Failed));
        entries.extend(ended.filter(|_| attested).map(|(_, entry)| entry));
        daemon.sink.owe(entries)
    };
    daemon.remember();
    daemon.sink.pay(due);
    match reap::remove_now(daemon, aid) {
        Ok(()) => withdraw(daemon, aid),
        Err(error) => {
            tracing::warn!(?aid, %error, "undoing a spawn: the kernel still has it");
            let daemon = daemon.clone();
            tokio::spawn(async move {
                reap::remove(&daemon, aid).await;
                withdraw(&daemon, aid);
            });
        }
    }
}

fn withdraw(daemon: &Daemon, aid: AgentId) {
    let info = {
        let mut inner = daemon.inner();
        if let Err(error) = inner.supervisor.withdraw(aid) {
            tracing::debug!(%error, "undoing a spawn: withdraw");
        }
        inner.forget(aid)
    };
    // Its sets go with it, outside of the lock.
    drop(info);
    daemon.remember();
}
