//! The promises of the delegation tree, on the pure core.
#![allow(clippy::unwrap_used)] // helpers are test code outside of test functions

use abi::{AgentId, AgentState, Capability};
use coconut_supervisor::{
    Admission, AdmitError, Attempt, End, Event, GrantError, Limits, Reason, Removal, ResolveError,
    RevokeError, Supervisor,
};
use manifest::{Children, EffectiveRule, Origin, Rule};
use proptest::prelude::*;
use uuid::Uuid;

const SECOND: u64 = 1_000_000_000;

fn rule(text: &str) -> Rule {
    text.parse().unwrap()
}

fn admission(name: &str, parent: Option<AgentId>, rules: &[&str]) -> Admission {
    let line = |(i, text): (usize, &&str)| EffectiveRule {
        rule: rule(text),
        origin: Origin::Line { line: i as u32 + 1, column: 1 },
    };
    Admission {
        uuid: Uuid::now_v7(),
        parent,
        name: name.to_owned(),
        tenant: "maya".to_owned(),
        children: Children::End,
        weight: 100,
        rules: rules.iter().enumerate().map(line).collect(),
    }
}

fn start(s: &mut Supervisor, name: &str, parent: Option<AgentId>, rules: &[&str]) -> AgentId {
    let aid = s.admit(admission(name, parent, rules), 0).unwrap();
    go(s, aid, Event::Attest);
    go(s, aid, Event::Activate);
    aid
}

fn go(s: &mut Supervisor, aid: AgentId, event: Event) {
    s.event(aid, event).unwrap().unwrap();
}

fn held(s: &Supervisor, aid: AgentId) -> Vec<String> {
    s.get(aid).unwrap().held().iter().map(|h| h.rule.to_string()).collect()
}

fn attempt(capability: Capability, object: &str) -> Attempt {
    Attempt {
        time_ns: 1,
        boot_ns: 1,
        capability,
        object: object.to_owned(),
        operation: "file-open".to_owned(),
        program: "cat".to_owned(),
        errno: -13,
        count: 1,
    }
}

#[test]
fn a_child_holds_only_what_its_parent_holds() {
    let mut s = Supervisor::new(Limits::default());
    let top = start(&mut s, "top", None, &["fs.read=/srv", "agent.spawn=3", "fs.write=/srv/out"]);
    let child = start(&mut s, "child", Some(top), &["fs.read=/srv/input", "fs.create=/srv/out/a"]);
    assert_eq!(held(&s, child), ["fs.read=/srv/input", "fs.create=/srv/out/a"]);
    let error = s.admit(admission("x", Some(top), &["fs.read=/etc", "fs.delete=/srv"]), 0);
    let error = error.unwrap_err();
    assert_eq!(error, AdmitError::Amplifies(vec![rule("fs.read=/etc"), rule("fs.delete=/srv")]));
    assert_eq!(error.to_string(), "the parent does not hold `fs.read=/etc`, `fs.delete=/srv`");
    assert_eq!(s.get(top).unwrap().children(), [child], "a refusal leaves nothing behind");
}

#[test]
fn spawning_needs_the_capability_and_a_place() {
    let mut s = Supervisor::new(Limits::default());
    let mute = start(&mut s, "mute", None, &["fs.read=/srv"]);
    assert_eq!(s.admit(admission("x", Some(mute), &[]), 0), Err(AdmitError::MayNotSpawn));
    let one = start(&mut s, "one", None, &["agent.spawn=1"]);
    let child = start(&mut s, "child", Some(one), &[]);
    assert_eq!(s.admit(admission("y", Some(one), &[]), 0), Err(AdmitError::TooManyChildren(1)));
    go(&mut s, child, Event::Terminate(End::Clean));
    assert!(s.admit(admission("z", Some(one), &[]), 0).is_ok(), "an ended child makes room");
    let mut foreign = admission("f", Some(one), &[]);
    foreign.tenant = "otto".to_owned();
    s.grant(one, &rule("agent.spawn=5"), 0).unwrap();
    assert!(matches!(s.admit(foreign, 0), Err(AdmitError::Tenant { .. })));
    go(&mut s, one, Event::Quarantine);
    assert_eq!(s.admit(admission("q", Some(one), &[]), 0), Err(AdmitError::Parent));
}

#[test]
fn revoking_from_a_parent_revokes_from_all_its_descendants() {
    let mut s = Supervisor::new(Limits::default());
    let top = start(&mut s, "top", None, &["fs.read=/srv", "fs.read=/opt", "agent.spawn=3"]);
    let mid = start(&mut s, "mid", Some(top), &["fs.read=/srv/a", "fs.read=/opt", "agent.spawn=1"]);
    let leaf = start(&mut s, "leaf", Some(mid), &["fs.read=/srv/a/b", "fs.read=/opt/x"]);
    let other = start(&mut s, "other", Some(top), &["fs.read=/opt"]);
    let done = s.revoke(top, &rule("fs.read=/srv"), 7).unwrap();
    let changed: Vec<AgentId> = done.changes.iter().map(|c| c.aid).collect();
    assert_eq!(changed, [top, mid, leaf]);
    assert_eq!(done.changes[2].removal, Removal::RevokedAbove);
    assert_eq!(held(&s, leaf), ["fs.read=/opt/x"]);
    assert_eq!(held(&s, other), ["fs.read=/opt"]);
    assert!(done.still.is_empty());
}

#[test]
fn a_revocation_takes_what_lies_below_and_names_what_is_left() {
    let mut s = Supervisor::new(Limits::default());
    let a = start(&mut s, "a", None, &["fs.read=/srv", "fs.read=/srv/x", "fs.exec=/srv/bin"]);
    let part = s.revoke(a, &rule("fs.read=/srv/x/y"), 0).unwrap_err();
    assert!(matches!(part, RevokeError::PartOf { .. }), "{part}");
    let done = s.revoke(a, &rule("fs.read=/srv"), 0).unwrap();
    assert_eq!(done.changes[0].removed.len(), 2);
    assert_eq!(done.still, [rule("fs.exec=/srv/bin")], "executing also reads");
    assert!(matches!(s.revoke(a, &rule("fs.read=/srv"), 0), Err(RevokeError::NotHeld(_))));
}

#[test]
fn spawn_passes_the_same_checks_as_grant() {
    let mut s = Supervisor::new(Limits::default());
    let top = start(&mut s, "top", None, &["fs.read=/srv", "agent.spawn=3"]);
    let child = start(&mut s, "child", Some(top), &[]);
    let wide = rule("fs.read=/etc");
    assert_eq!(s.grant(child, &wide, 0), Err(GrantError::Amplifies(wide.clone())));
    assert!(matches!(
        s.admit(admission("x", Some(top), &["fs.read=/etc"]), 0),
        Err(AdmitError::Amplifies(_))
    ));
    s.grant(top, &wide, 0).unwrap();
    s.grant(child, &wide, 0).unwrap();
    assert_eq!(held(&s, child), ["fs.read=/etc"]);
}

#[test]
fn a_child_never_outlives_its_parents_right() {
    let mut s = Supervisor::new(Limits::default());
    let top = start(&mut s, "top", None, &["fs.read=/srv;expires=10s", "agent.spawn=3"]);
    let child = start(&mut s, "child", Some(top), &["fs.read=/srv/a", "fs.read=/srv/b;expires=5s"]);
    let ends: Vec<_> = s.get(child).unwrap().held().iter().map(|h| h.expires_ns).collect();
    assert_eq!(ends, [Some(10 * SECOND), Some(5 * SECOND)]);
    assert_eq!(s.next_expiry(), Some(5 * SECOND));
    assert_eq!(s.expire(5 * SECOND).len(), 1);
    assert_eq!(s.expire(10 * SECOND - 1).len(), 0);
    assert_eq!(s.expire(10 * SECOND).len(), 2);
    assert_eq!(s.next_expiry(), None);
    assert!(matches!(
        s.grant(child, &rule("fs.read=/srv/a"), 11 * SECOND),
        Err(GrantError::Amplifies(_))
    ));
}

#[test]
fn ending_a_parent_ends_or_reparents_its_children() {
    let mut s = Supervisor::new(Limits::default());
    let top = start(&mut s, "top", None, &["agent.spawn=9"]);
    let mut keeps = admission("keeps", Some(top), &["agent.spawn=9"]);
    keeps.children = Children::Reparent;
    let keeps = s.admit(keeps, 0).unwrap();
    go(&mut s, keeps, Event::Attest);
    go(&mut s, keeps, Event::Activate);
    let leaf = start(&mut s, "leaf", Some(keeps), &[]);
    let plan = s.plan_end(keeps).unwrap();
    assert_eq!(
        (plan.end.as_slice(), plan.reparented.as_slice()),
        (&[keeps][..], &[(leaf, Some(top))][..])
    );
    s.reparent(&plan).unwrap();
    go(&mut s, keeps, Event::Terminate(End::Clean));
    assert_eq!(s.get(leaf).unwrap().parent, Some(top));
    assert_eq!(s.get(top).unwrap().children(), [leaf]);
    let plan = s.plan_end(top).unwrap();
    assert_eq!((plan.end, plan.reparented), (vec![leaf, top], vec![]));
    assert!(s.is_descendant(leaf, top) && !s.is_descendant(top, leaf));
}

#[test]
fn an_agent_is_found_by_what_people_type() {
    let mut s = Supervisor::new(Limits::default());
    let a = start(&mut s, "alpha", None, &[]);
    let b = start(&mut s, "beta", None, &[]);
    let uuid = s.get(a).unwrap().uuid;
    let text = uuid.simple().to_string();
    assert_eq!(s.resolve(&uuid.to_string()), Ok(a));
    assert_eq!(s.resolve(&text[24..].to_uppercase()), Ok(a));
    assert_eq!(s.resolve("beta"), Ok(b));
    assert!(matches!(s.resolve(&text[29..]), Err(ResolveError::NotFound(_))), "three digits");
    let c = start(&mut s, "beta", None, &[]);
    let error = s.resolve("beta").unwrap_err();
    assert!(matches!(&error, ResolveError::Ambiguous { candidates, .. } if candidates.len() == 2));
    go(&mut s, b, Event::Terminate(End::Clean));
    assert_eq!(s.resolve("beta"), Ok(c), "the living go first");
    go(&mut s, c, Event::Terminate(End::Failed));
    assert!(s.resolve("beta").is_err());
}

#[test]
fn denials_are_counted_and_explained_with_the_line_that_would_allow_them() {
    let mut s = Supervisor::new(Limits::default());
    let a = start(
        &mut s,
        "a",
        None,
        &["fs.read=/srv/input", "fs.read=/opt", "net.connect=a.example:80"],
    );
    let first = s.deny(a, attempt(Capability::FsRead, "/etc/shadow")).unwrap();
    assert_eq!(first.transition.unwrap().to, AgentState::CapDenied);
    let second = s.deny(a, attempt(Capability::FsRead, "/etc/shadow")).unwrap();
    assert_eq!((second.transition, second.total), (None, 2));
    s.deny(a, attempt(Capability::FsWrite, "/srv/input/x")).unwrap();
    s.deny(a, attempt(Capability::NetConnect, "10.0.0.1:443")).unwrap();
    s.deny(a, attempt(Capability::Forbidden, "ptrace")).unwrap();
    s.deny(a, attempt(Capability::FsRead, "/opt/x")).unwrap();
    s.revoke(a, &rule("fs.read=/opt"), 9).unwrap();
    let list = s.explain(a).unwrap();
    assert_eq!(list.len(), 5);
    assert_eq!(list[4].attempt.count, 2);
    assert_eq!(list[4].manifest_line.as_deref(), Some("\"fs.read\" = [\"/etc/shadow\"]"));
    assert_eq!(list[3].reason, Reason::NotHeld { nearest: Some(rule("fs.read=/srv/input")) });
    assert_eq!(list[2].manifest_line.as_deref(), Some("\"net.connect\" = [\"10.0.0.1:443\"]"));
    assert_eq!((&list[1].reason, &list[1].allow), (&Reason::Forbidden, &None));
    assert_eq!(list[0].reason.to_string(), "fs.read=/opt was revoked");
    assert_eq!(s.get(a).unwrap().denials().total(), 6);
}

#[test]
fn what_explain_proposes_would_allow_it() {
    let mut s = Supervisor::new(Limits::default());
    let a = start(&mut s, "a", None, &[]);
    for (capability, object) in [
        (Capability::FsRead, "/etc/shadow"),
        (Capability::NetConnect, "[2001:db8::1]:443"),
        (Capability::IpcUnix, "@bus"),
        (Capability::Infer, "some/model"),
        (Capability::AuditRead, "all"),
    ] {
        s.deny(a, attempt(capability, object)).unwrap();
    }
    for explanation in s.explain(a).unwrap() {
        let line = explanation.manifest_line.unwrap();
        let text = format!(
            "[agent]\nname = \"a\"\ntenant = \"t\"\ncommand = [\"/bin/a\"]\n[capabilities]\n{line}\n"
        );
        let manifest = manifest::Manifest::parse("x", &text).map_err(|e| e.render()).unwrap();
        assert_eq!(manifest.rules[0].rule, explanation.allow.unwrap(), "{line}");
    }
}

#[test]
fn what_is_not_there_yet_is_allowed_by_its_folder() {
    let mut s = Supervisor::new(Limits::default());
    let a = start(&mut s, "a", None, &[]);
    s.deny(a, attempt(Capability::FsCreate, "/srv/out/new")).unwrap();
    assert_eq!(s.explain(a).unwrap()[0].allow, Some(rule("fs.create=/srv/out")));
}

#[test]
fn slots_come_back_and_the_ended_are_remembered_for_a_while() {
    let mut s = Supervisor::new(Limits { agents: 1, ended: 1 });
    let a = start(&mut s, "a", None, &[]);
    assert_eq!(s.admit(admission("b", None, &[]), 0), Err(AdmitError::Full(1)));
    s.release_slot(a).unwrap();
    assert!(s.admit(admission("b", None, &[]), 0).is_err(), "a living agent keeps its slot");
    go(&mut s, a, Event::Terminate(End::Clean));
    s.release_slot(a).unwrap();
    let b = start(&mut s, "b", None, &[]);
    assert_eq!(b.slot(), a.slot());
    assert!(s.get(a).is_ok(), "still visible");
    go(&mut s, b, Event::Terminate(End::Clean));
    s.release_slot(b).unwrap();
    assert!(s.get(a).is_err() && s.get(b).is_ok());
    let c = s.admit(admission("c", None, &[]), 0).unwrap();
    s.withdraw(c).unwrap();
    assert!(s.get(c).is_err());
    assert!(s.admit(admission("d", None, &[]), 0).is_ok(), "a withdrawn slot is free");
}

#[test]
fn weights_are_bounded_and_inherited_by_the_tenant() {
    let mut s = Supervisor::new(Limits::default());
    let a = start(&mut s, "a", None, &[]);
    assert_eq!(s.lane(a).unwrap().tenant_weight, 100);
    assert_eq!(s.set_tenant_weight("maya", 300).unwrap(), [a]);
    assert!(s.set_tenant_weight("maya", 0).is_err() && s.set_weight(a, 10_001).is_err());
    s.set_weight(a, 7).unwrap();
    let lane = s.lane(a).unwrap();
    assert_eq!((lane.tenant_weight, lane.weight), (300, 7));
    assert_eq!(s.tenants().get("maya"), Some(&300));
}

/// The tree's invariant: every living agent is a subset of its parent.
fn tree_is_sound(s: &Supervisor) -> bool {
    s.living().iter().all(|agent| {
        let Some(parent) = agent.parent.and_then(|p| s.get(p).ok()) else { return true };
        agent.held().iter().all(|own| {
            parent.held().iter().any(|above| {
                let long_enough = match (above.expires_ns, own.expires_ns) {
                    (None, _) => true,
                    (Some(a), Some(b)) => a >= b,
                    (Some(_), None) => false,
                };
                above.rule.scope.covers(&own.rule.scope) && long_enough
            })
        })
    })
}

#[derive(Clone, Debug)]
enum Step {
    Spawn(usize, Vec<usize>),
    Grant(usize, usize),
    Revoke(usize, usize),
    End(usize),
    Wait(u64),
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

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0_usize..8, prop::collection::vec(0..RULES.len(), 0..5)).prop_map(|(p, r)| Step::Spawn(p, r)),
        3 => (0_usize..8, 0..RULES.len()).prop_map(|(a, r)| Step::Grant(a, r)),
        2 => (0_usize..8, 0..RULES.len()).prop_map(|(a, r)| Step::Revoke(a, r)),
        1 => (0_usize..8).prop_map(Step::End),
        1 => (1_u64..3).prop_map(Step::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_sequence_of_steps_amplifies(steps in prop::collection::vec(step(), 0..60)) {
        let mut s = Supervisor::new(Limits::default());
        start(&mut s, "top", None, &RULES[..8]);
        let mut now = 0;
        for step in steps {
            let living: Vec<AgentId> = s.living().iter().map(|a| a.aid).collect();
            let pick = |i: usize| living.get(i % living.len().max(1)).copied();
            match step {
                Step::Spawn(parent, rules) => {
                    let rules: Vec<&str> = rules.iter().map(|i| RULES[*i]).collect();
                    if let Ok(aid) = s.admit(admission("n", pick(parent), &rules), now)
                        && s.get(aid).unwrap().parent.is_some() {
                        go(&mut s, aid, Event::Attest);
                        go(&mut s, aid, Event::Activate);
                    }
                }
                Step::Grant(a, r) => { if let Some(a) = pick(a) { let _ = s.grant(a, &rule(RULES[r]), now); } }
                Step::Revoke(a, r) => { if let Some(a) = pick(a) { let _ = s.revoke(a, &rule(RULES[r]), now); } }
                Step::End(a) => if let Some(a) = pick(a) {
                    let plan = s.plan_end(a).unwrap();
                    s.reparent(&plan).unwrap();
                    for aid in plan.end { go(&mut s, aid, Event::Terminate(End::Clean)); }
                },
                Step::Wait(seconds) => { now += seconds * SECOND; s.expire(now); }
            }
            prop_assert!(tree_is_sound(&s));
        }
    }
}
