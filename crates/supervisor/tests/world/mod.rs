//! What tests need of a supervisor and its keys.
#![allow(dead_code, clippy::unwrap_used)] // each test program uses a part

use abi::AgentId;
use coconut_supervisor::{
    Admission, AdmitError, Counter, Event, GrantError, Inode, Limits, Place, Revocation,
    RevokeError, RuleSet, SetKeys, SetRule, Supervisor, absolute,
};
use manifest::{Children, Memory, Origin, Rule};
use std::sync::Arc;
use uuid::Uuid;

pub fn rule(text: &str) -> Rule {
    text.parse().unwrap()
}

/// What tests need of a supervisor and its keys.
pub struct World {
    pub s: Supervisor,
    pub keys: Arc<SetKeys>,
}

impl std::ops::Deref for World {
    type Target = Supervisor;
    fn deref(&self) -> &Supervisor {
        &self.s
    }
}

impl std::ops::DerefMut for World {
    fn deref_mut(&mut self) -> &mut Supervisor {
        &mut self.s
    }
}

pub fn world(limits: Limits) -> World {
    let keys = Arc::new(SetKeys::default());
    World { s: Supervisor::new(limits, keys.clone()), keys }
}

pub fn set_rule(text: &str, now: u64) -> SetRule {
    let rule = rule(text);
    SetRule {
        expires_ns: absolute(&rule, now),
        // Each has a counter of its own: no two texts of these tests have the same length and uses.
        counter: rule.uses.map(|uses| Counter { key: text.len() as u64 + 1, uses: uses.into() }),
        rule: Rule::new(rule.scope),
        origin: Origin::Command,
        place: Place::Free,
        granted_ns: 0,
    }
}

pub fn file(ino: u64) -> Place {
    Place::File { nodes: [Inode { dev: 1, ino }].into(), follows: false }
}

impl World {
    pub fn admission(&self, name: &str, parent: Option<AgentId>, rules: &[&str]) -> Admission {
        let rules: Vec<SetRule> = rules.iter().map(|text| set_rule(text, 0)).collect();
        Admission {
            uuid: Uuid::now_v7(),
            parent,
            name: name.to_owned(),
            tenant: "maya".to_owned(),
            children: Children::End,
            weight: 100,
            memory: Memory::default(),
            denial_limit: None,
            sets: vec![RuleSet::new(self.keys.fresh(), rules)],
        }
    }

    pub fn try_admit(
        &mut self,
        name: &str,
        parent: Option<AgentId>,
        rules: &[&str],
    ) -> Result<AgentId, AdmitError> {
        let admission = self.admission(name, parent, rules);
        self.s.admit(admission, 0)
    }

    pub fn grant(&mut self, aid: AgentId, text: &str, now: u64) -> Result<u32, GrantError> {
        self.grant_at(aid, SetRule { granted_ns: now, ..set_rule(text, now) }, now)
    }

    pub fn grant_at(&mut self, aid: AgentId, rule: SetRule, now: u64) -> Result<u32, GrantError> {
        let plan = self.s.plan_grant(aid, rule, now)?;
        self.s.commit(&plan.changes, now);
        Ok(plan.id)
    }

    pub fn revoke(
        &mut self,
        aid: AgentId,
        text: &str,
        now: u64,
    ) -> Result<Revocation, RevokeError> {
        let plan = self.s.plan_revoke(aid, &rule(text), now)?;
        self.s.commit(&plan.changes, now);
        Ok(plan)
    }

    pub fn expire(&mut self, now: u64) -> usize {
        let due = self.s.due(now);
        for aid in &due {
            let change = self.s.plan_expire(*aid, now).unwrap();
            self.s.commit(&Vec::from_iter(change), now);
        }
        due.len()
    }
}

pub fn start(s: &mut World, name: &str, parent: Option<AgentId>, rules: &[&str]) -> AgentId {
    let admission = s.admission(name, parent, rules);
    let aid = s.admit(admission, 0).unwrap();
    go(s, aid, Event::Attest);
    go(s, aid, Event::Activate);
    aid
}

pub fn go(s: &mut Supervisor, aid: AgentId, event: Event) {
    s.event(aid, event).unwrap().unwrap();
}

pub fn held(s: &Supervisor, aid: AgentId) -> Vec<String> {
    s.get(aid).unwrap().held().map(|h| h.rule.rule.to_string()).collect()
}
