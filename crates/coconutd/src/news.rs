//! What has changed behind the daemon's lock is told before anybody else has the lock.

use crate::clock;
use crate::feed::{About, Change, Ended, Row, Told};
use crate::state::Inner;
use abi::AgentId;
use api::broker::{Lane, LaneEvent};
use api::feed::{Delta, Snapshot};
use std::collections::BTreeSet;
use tokio::sync::watch;

/// About what it takes to keep a delta beside its texts.
const DELTA: usize = 256;

impl Inner {
    /// Tells what has changed since the last time. Nothing here waits.
    pub fn tell_news(&mut self) {
        let news = self.supervisor.take_news();
        // First: who is forgotten has a name until then.
        news.lanes.into_iter().for_each(|aid| self.tell_lane(aid));
        for aid in news.agents {
            self.tell_agent(aid);
        }
        for tenant in BTreeSet::from_iter(news.tenants) {
            let weight = self.supervisor.tenant_weight(&tenant);
            let bytes = DELTA + tenant.len();
            let delta = Delta::Tenant { tenant, weight };
            self.feed.changes.tell(Change { delta, about: About::Tenant }, bytes);
        }
    }

    fn tell_agent(&mut self, aid: AgentId) {
        let Some(now) = self.now(aid) else {
            if let Some(told) = self.feed.forget(aid) {
                self.tell(aid, &told, Delta::Gone { aid: told.uuid }, DELTA);
            }
            return;
        };
        let before = self.feed.tell(aid, now);
        if before.is_some_and(|before| before.row == now.row) {
            return;
        }
        let ended = now.row.ended && before.is_none_or(|before| !before.row.ended);
        let exit = self.info.get(&aid).and_then(|info| info.exit.clone()).filter(|_| ended);
        if let Some(exit) = &exit {
            self.feed.end(aid, exit);
        }
        if self.feed.changes.is_heard() {
            let told = self.delta(aid, &now, before.is_none(), exit);
            told.into_iter().for_each(|(delta, bytes)| self.tell(aid, &now, delta, bytes));
        }
    }

    /// How an agent is now, as far as it is told; none for one that is not known any more.
    fn now(&self, aid: AgentId) -> Option<Told> {
        let (agent, info) = (self.supervisor.get(aid).ok()?, self.info.get(&aid)?);
        let row = Row {
            state: agent.state(),
            pid: info.pid,
            parent: agent.parent.filter(|parent| self.supervisor.get(*parent).is_ok()),
            weight: agent.weight,
            ended_ns: info.ended_ns,
            ended: info.exit.is_some(),
        };
        Some(Told { uuid: agent.uuid, owner: info.owner, row })
    }

    /// What there is to say of an agent, and about what that takes to keep.
    fn delta(
        &self,
        aid: AgentId,
        now: &Told,
        new: bool,
        exit: Option<api::Exit>,
    ) -> Option<(Delta, usize)> {
        let Row { state, pid, parent, weight, ended_ns, .. } = now.row;
        if new {
            let agent = self.view(self.supervisor.get(aid).ok()?)?;
            let text: usize = agent.command.iter().map(|word| word.len() + 32).sum();
            let bytes = 2 * DELTA + agent.name.len() + agent.tenant.len() + text;
            return Some((Delta::Added { agent }, bytes));
        }
        let aid = now.uuid;
        let delta = match exit {
            Some(exit) => Delta::Ended { aid, state, ended_ns, exit },
            None => {
                let parent = parent.and_then(|parent| self.supervisor.get(parent).ok());
                let parent = parent.map(|parent| parent.uuid);
                Delta::Changed { aid, state, pid, parent, weight, ended_ns }
            }
        };
        Some((delta, DELTA))
    }

    fn tell(&mut self, aid: AgentId, told: &Told, delta: Delta, bytes: usize) {
        let mut above = Vec::new();
        let mut at = told.row.parent;
        while let Some(parent) = at.filter(|_| self.feed.changes.is_heard()) {
            above.push(parent);
            at = self.supervisor.get(parent).ok().and_then(|agent| agent.parent);
        }
        let about = About::Agent { aid, uuid: told.uuid, owner: told.owner, above };
        self.feed.changes.tell(Change { delta, about }, bytes);
    }

    fn tell_lane(&mut self, aid: AgentId) {
        if !self.feed.lanes.is_heard() {
            return;
        }
        let known = self.supervisor.get(aid).map(|agent| agent.uuid).ok();
        let Some(agent) = known.or_else(|| Some(self.feed.told(aid)?.uuid)) else { return };
        let lane = self.lane(aid, clock::boot_ns());
        let bytes = DELTA + lane.as_ref().map_or(0, size);
        let event = lane.map_or(LaneEvent::Gone { agent }, |lane| LaneEvent::Set { lane });
        self.feed.lanes.tell(event, bytes);
    }

    /// One who waits for an agent's end, whether that was, is or is to come; none where it is not known.
    pub fn end_of(&mut self, aid: AgentId) -> Option<Ended> {
        let exit = self.info.get(&aid)?.exit.clone();
        Some(match exit {
            Some(exit) => watch::channel(Some(exit)).1,
            None => self.feed.await_end(aid),
        })
    }

    /// What the deltas from now on change.
    pub fn snapshot(&self, caller: &crate::caller::Caller, all: bool) -> Snapshot {
        let agents = self.page(caller, all, None, usize::MAX - 1).agents;
        let weighed = self.supervisor.weighed().filter(|_| caller.is_operator());
        let tenants = weighed.map(|(name, weight)| (name.to_owned(), weight)).collect();
        Snapshot { agents, tenants }
    }
}

/// Bytes of a lane's texts.
fn size(lane: &Lane) -> usize {
    let models = lane.infer.iter().flat_map(|infer| &infer.models);
    let models: usize = models.map(|model| model.len() + 32).sum();
    lane.name.len() + lane.tenant.len() + 32 * lane.above.len() + models
}
