//! No sequence of steps gives a child what its parent lacks; what is kept beside the agents stays
//! in step with them; and it makes no difference when what is written down of them is taken up anew.
#![allow(clippy::unwrap_used)] // helpers are test code outside of test functions

use abi::AgentId;
use coconut_supervisor::{
    Admission, Attempt, End, Event, Inode, Limits, Place, RuleSet, SavedAgent, SavedSet, SetKeys,
    SetRule, Supervisor, absolute,
};
use manifest::{Children, Memory, Origin, Rule};
use proptest::prelude::*;
use std::collections::HashMap;
use std::sync::Arc;
use uuid::Uuid;

const SECOND: u64 = 1_000_000_000;

/// The tree's invariant: every living agent is a subset of its parent.
fn is_sound(s: &Supervisor, now: u64) -> bool {
    s.living().all(|agent| {
        let Some(parent) = agent.parent.and_then(|p| s.get(p).ok()) else { return true };
        agent.held().filter(|own| own.rule.is_alive(now)).all(|own| {
            parent.held().any(|above| {
                let long_enough = match (above.rule.expires_ns, own.rule.expires_ns) {
                    (None, _) => true,
                    (Some(a), Some(b)) => a >= b,
                    (Some(_), None) => false,
                };
                above.rule.covers(own.rule) && long_enough
            })
        })
    })
}

/// What is counted and indexed is what a look at all of them gives.
fn is_in_step(s: &Supervisor) -> bool {
    let living: Vec<_> = s.living().collect();
    let below = living.iter().all(|a| {
        let found = living.iter().filter(|b| s.is_descendant(b.aid, a.aid)).count();
        a.below() as usize == found
    });
    let children = living.iter().all(|a| {
        let found = living.iter().filter(|b| b.parent == Some(a.aid)).count();
        a.children().count() == found
    });
    let first = living.iter().flat_map(|a| a.held()).filter_map(|h| h.rule.expires_ns).min();
    let names = living.iter().all(|a| s.resolve(&a.uuid.simple().to_string()[8..]) == Ok(a.aid));
    let birth = living.windows(2).all(|two| two[0].uuid < two[1].uuid);
    below
        && children
        && names
        && birth
        && first == s.next_expiry()
        && s.living_count() == living.len()
}

#[derive(Clone, Debug)]
enum Step {
    Spawn(usize, Vec<(usize, u64)>, bool),
    Grant(usize, (usize, u64)),
    Revoke(usize, usize),
    End(usize),
    Wait(u64),
    Deny(usize, usize),
    Restart,
}

const RULES: [&str; 10] = [
    "agent.spawn=4",
    "fs.read=/",
    "fs.read=/a",
    "fs.read=/a/b",
    "fs.exec=/a",
    "fs.write=/a/b",
    "fs.create=/a",
    "net.connect=*:443",
    "fs.read=/a;expires=3s",
    "fs.exec=/;expires=4s",
];

/// Few files, so that a name leads to one, then to another.
fn choice() -> impl Strategy<Value = (usize, u64)> {
    (0..RULES.len(), 0_u64..2)
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0_usize..8, prop::collection::vec(choice(), 0..5), any::<bool>())
            .prop_map(|(p, r, k)| Step::Spawn(p, r, k)),
        3 => (0_usize..8, choice()).prop_map(|(a, r)| Step::Grant(a, r)),
        2 => (0_usize..8, 0..RULES.len()).prop_map(|(a, r)| Step::Revoke(a, r)),
        1 => (0_usize..8).prop_map(Step::End),
        1 => (1_u64..3).prop_map(Step::Wait),
        1 => (0_usize..8, 0..RULES.len()).prop_map(|(a, r)| Step::Deny(a, r)),
        1 => Just(Step::Restart),
    ]
}

fn limits() -> Limits {
    Limits { ended: 4, ..Limits::default() }
}

/// An agent as it is written down, and its sets without their keys, which are each daemon's own. Nobody asks for a
/// parent that has been forgotten.
fn written(s: &Supervisor, aid: AgentId) -> (SavedAgent, Vec<SavedSet>) {
    let mut agent = s.saved(aid).unwrap();
    agent.sets.iter_mut().for_each(|held| held.key = 0);
    agent.parent = agent.parent.filter(|parent| s.get(AgentId(*parent)).is_ok());
    let sets = s.get(aid).unwrap().sets().iter().map(|held| held.set.saved());
    (agent, sets.map(|set| SavedSet { key: 0, from: None, ..set }).collect())
}

/// Another supervisor that knows no more than what is written down, as text.
fn restarted(s: &Supervisor, keys: &Arc<SetKeys>) -> Supervisor {
    let mut next = Supervisor::new(limits(), keys.clone());
    next.reserve_generations(s.generation());
    let mut sets = HashMap::new();
    let agents: Vec<_> = s.all_since(None).collect();
    for held in agents.iter().flat_map(|agent| agent.sets()) {
        sets.entry(held.set.key().0).or_insert_with(|| {
            let text = serde_json::to_string(&held.set.saved()).unwrap();
            RuleSet::restored(keys.fresh(), None, serde_json::from_str(&text).unwrap())
        });
    }
    for agent in agents {
        let text = serde_json::to_string(&s.saved(agent.aid).unwrap()).unwrap();
        let aid = next.restore(serde_json::from_str(&text).unwrap(), &sets).unwrap();
        assert_eq!(written(&next, aid), written(s, agent.aid));
    }
    assert_eq!(next.all_since(None).count(), s.all_since(None).count());
    assert_eq!(next.living_count(), s.living_count());
    next
}

fn set_rule((text, version): (usize, u64), now: u64) -> SetRule {
    let rule: Rule = RULES[text].parse().unwrap();
    let node = |name: u64| Inode { dev: 1, ino: name * 10 + version };
    let place = match rule.value().split(';').next().unwrap() {
        "/" => Place::File { nodes: [node(1)].into(), follows: false },
        "/a" => Place::File { nodes: [node(2), node(1)].into(), follows: false },
        "/a/b" => Place::File { nodes: [node(3), node(2), node(1)].into(), follows: false },
        _ => Place::Free,
    };
    let expires_ns = absolute(&rule, now);
    let rule = Rule::new(rule.scope);
    SetRule { rule, origin: Origin::Command, expires_ns, counter: None, place, granted_ns: now }
}

fn attempt(text: &str, now: u64) -> Attempt {
    let rule: Rule = text.parse().unwrap();
    Attempt {
        time_ns: now,
        boot_ns: now,
        capability: rule.capability(),
        object: rule.value().to_owned(),
        operation: "file_open".into(),
        program: "cat".into(),
        errno: 13,
        count: 1,
    }
}

fn admit(
    s: &mut Supervisor,
    keys: &SetKeys,
    parent: Option<AgentId>,
    rules: Vec<SetRule>,
    keep: bool,
    now: u64,
) -> Option<AgentId> {
    let children = if keep { Children::Reparent } else { Children::End };
    let aid = s
        .admit(
            Admission {
                uuid: Uuid::now_v7(),
                parent,
                name: "n".into(),
                tenant: "maya".into(),
                children,
                weight: 100,
                memory: Memory::default(),
                denial_limit: None,
                sets: vec![RuleSet::new(keys.fresh(), rules)],
            },
            now,
        )
        .ok()?;
    for event in [Event::Attest, Event::Activate] {
        s.event(aid, event).unwrap().unwrap();
    }
    Some(aid)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_sequence_of_steps_amplifies(steps in prop::collection::vec(step(), 0..60)) {
        let keys = Arc::new(SetKeys::default());
        let mut s = Supervisor::new(limits(), keys.clone());
        admit(&mut s, &keys, None, (0..8).map(|r| set_rule((r, 0), 0)).collect(), false, 0).unwrap();
        let mut now = 0;
        for step in steps {
            let living: Vec<AgentId> = s.living().map(|a| a.aid).collect();
            let pick = |i: usize| living.get(i % living.len().max(1)).copied();
            match step {
                Step::Spawn(parent, rules, keep) => {
                    let rules = rules.iter().map(|rule| set_rule(*rule, now)).collect();
                    if let Some(parent) = pick(parent) {
                        admit(&mut s, &keys, Some(parent), rules, keep, now);
                    }
                }
                Step::Grant(a, r) => if let Some(a) = pick(a)
                    && let Ok(plan) = s.plan_grant(a, set_rule(r, now), now) {
                    s.commit(&plan.changes, now);
                }
                Step::Revoke(a, r) => if let Some(a) = pick(a)
                    && let Ok(plan) = s.plan_revoke(a, &RULES[r].parse().unwrap(), now) {
                    s.commit(&plan.changes, now);
                }
                Step::End(a) => if let Some(a) = pick(a) {
                    let plan = s.plan_end(a).unwrap();
                    s.reparent(&plan).unwrap();
                    for aid in plan.end {
                        s.event(aid, Event::Terminate(End::Clean)).unwrap().unwrap();
                        s.release_slot(aid).unwrap();
                    }
                },
                Step::Deny(a, r) => if let Some(a) = pick(a) {
                    s.deny(a, attempt(RULES[r], now)).unwrap();
                }
                Step::Restart => s = restarted(&s, &keys),
                Step::Wait(seconds) => {
                    now += seconds * SECOND;
                    for aid in s.due(now) {
                        let change = s.plan_expire(aid, now).unwrap();
                        s.commit(&Vec::from_iter(change), now);
                    }
                }
            }
            prop_assert!(is_sound(&s, now));
            prop_assert!(is_in_step(&s));
        }
    }
}
