//! The promises of the delegation tree, on the pure core.
#![allow(clippy::unwrap_used)] // helpers are test code outside of test functions

mod world;

use abi::{AgentId, AgentState, Capability};
use coconut_supervisor::{
    AdmitError, Attempt, End, Event, GrantError, Limits, Reason, Removal, ResolveError,
    RevokeError, SetRule,
};
use manifest::Children;
use world::{World, file, go, held, rule, set_rule, start, world};

const SECOND: u64 = 1_000_000_000;

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
    let mut s = world(Limits::default());
    let top = start(&mut s, "top", None, &["fs.read=/srv", "agent.spawn=3", "fs.write=/srv/out"]);
    let child = start(&mut s, "child", Some(top), &["fs.read=/srv/input", "fs.create=/srv/out/a"]);
    assert_eq!(held(&s, child), ["fs.read=/srv/input", "fs.create=/srv/out/a"]);
    let error = s.try_admit("x", Some(top), &["fs.read=/etc", "fs.delete=/srv"]);
    let error = error.unwrap_err();
    assert_eq!(error, AdmitError::Amplifies(vec![rule("fs.read=/etc"), rule("fs.delete=/srv")]));
    assert_eq!(error.to_string(), "the parent does not hold `fs.read=/etc`, `fs.delete=/srv`");
    assert_eq!(
        s.get(top).unwrap().children().collect::<Vec<_>>(),
        [child],
        "a refusal leaves nothing behind"
    );
}

#[test]
fn spawning_needs_the_capability_and_a_place() {
    let mut s = world(Limits::default());
    let mute = start(&mut s, "mute", None, &["fs.read=/srv"]);
    assert_eq!(s.try_admit("x", Some(mute), &[]), Err(AdmitError::MayNotSpawn));
    let one = start(&mut s, "one", None, &["agent.spawn=1"]);
    let child = start(&mut s, "child", Some(one), &[]);
    assert_eq!(
        s.try_admit("y", Some(one), &[]),
        Err(AdmitError::TooManyBelow { name: "one".into(), count: 1 })
    );
    go(&mut s, child, Event::Terminate(End::Clean));
    assert!(s.try_admit("z", Some(one), &[]).is_ok(), "an ended child makes room");
    let mut foreign = s.admission("f", Some(one), &[]);
    foreign.tenant = "otto".to_owned();
    s.grant(one, "agent.spawn=5", 0).unwrap();
    assert!(matches!(s.admit(foreign, 0), Err(AdmitError::Tenant { .. })));
    go(&mut s, one, Event::Quarantine);
    assert_eq!(s.try_admit("q", Some(one), &[]), Err(AdmitError::Parent));
}

#[test]
fn revoking_from_a_parent_revokes_from_all_its_descendants() {
    let mut s = world(Limits::default());
    let top = start(&mut s, "top", None, &["fs.read=/srv", "fs.read=/opt", "agent.spawn=3"]);
    let mid = start(&mut s, "mid", Some(top), &["fs.read=/srv/a", "fs.read=/opt", "agent.spawn=1"]);
    let leaf = start(&mut s, "leaf", Some(mid), &["fs.read=/srv/a/b", "fs.read=/opt/x"]);
    let other = start(&mut s, "other", Some(top), &["fs.read=/opt"]);
    let done = s.revoke(top, "fs.read=/srv", 7).unwrap();
    let changed: Vec<AgentId> = done.changes.iter().map(|c| c.aid).collect();
    assert_eq!(changed, [top, mid, leaf]);
    assert_eq!(done.changes[2].removed[0].removal, Removal::RevokedAbove);
    assert_eq!(held(&s, leaf), ["fs.read=/opt/x"]);
    assert_eq!(held(&s, other), ["fs.read=/opt"]);
    assert!(done.still.is_empty());
}

#[test]
fn a_revocation_takes_what_lies_below_and_names_what_is_left() {
    let mut s = world(Limits::default());
    let a = start(&mut s, "a", None, &["fs.read=/srv", "fs.read=/srv/x", "fs.exec=/srv/bin"]);
    let part = s.revoke(a, "fs.read=/srv/x/y", 0).unwrap_err();
    assert!(matches!(part, RevokeError::PartOf { .. }), "{part}");
    let done = s.revoke(a, "fs.read=/srv", 0).unwrap();
    assert_eq!(done.changes[0].removed.len(), 2);
    assert_eq!(done.still, [rule("fs.exec=/srv/bin")], "executing also reads");
    assert!(matches!(s.revoke(a, "fs.read=/srv", 0), Err(RevokeError::NotHeld(_))));
}

#[test]
fn spawn_passes_the_same_checks_as_grant() {
    let mut s = world(Limits::default());
    let top = start(&mut s, "top", None, &["fs.read=/srv", "agent.spawn=3"]);
    let child = start(&mut s, "child", Some(top), &[]);
    let wide = rule("fs.read=/etc");
    assert_eq!(s.grant(child, "fs.read=/etc", 0), Err(GrantError::Amplifies(wide.clone())));
    assert!(matches!(
        s.try_admit("x", Some(top), &["fs.read=/etc"]),
        Err(AdmitError::Amplifies(_))
    ));
    s.grant(top, "fs.read=/etc", 0).unwrap();
    s.grant(child, "fs.read=/etc", 0).unwrap();
    assert_eq!(held(&s, child), ["fs.read=/etc"]);
}

#[test]
fn a_child_never_outlives_its_parents_right() {
    let mut s = world(Limits::default());
    let top = start(&mut s, "top", None, &["fs.read=/srv;expires=10s", "agent.spawn=3"]);
    let child = start(&mut s, "child", Some(top), &["fs.read=/srv/a", "fs.read=/srv/b;expires=5s"]);
    let ends: Vec<_> = s.get(child).unwrap().held().map(|h| h.rule.expires_ns).collect();
    assert_eq!(ends, [Some(10 * SECOND), Some(5 * SECOND)]);
    assert_eq!(s.next_expiry(), Some(5 * SECOND));
    assert_eq!(s.expire(5 * SECOND), 1);
    assert_eq!(s.expire(10 * SECOND - 1), 0);
    assert_eq!(s.expire(10 * SECOND), 2);
    assert_eq!(s.next_expiry(), None);
    assert!(matches!(s.grant(child, "fs.read=/srv/a", 11 * SECOND), Err(GrantError::Amplifies(_))));
}

#[test]
fn ending_a_parent_ends_or_reparents_its_children() {
    let mut s = world(Limits::default());
    let top = start(&mut s, "top", None, &["agent.spawn=9"]);
    let mut keeps = s.admission("keeps", Some(top), &["agent.spawn=9"]);
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
    assert_eq!(s.get(top).unwrap().children().collect::<Vec<_>>(), [leaf]);
    let plan = s.plan_end(top).unwrap();
    assert_eq!((plan.end, plan.reparented), (vec![leaf, top], vec![]));
    assert!(s.is_descendant(leaf, top) && !s.is_descendant(top, leaf));
}

#[test]
fn an_agent_is_found_by_what_people_type() {
    let mut s = world(Limits::default());
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
    let mut s = world(Limits::default());
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
    s.revoke(a, "fs.read=/opt", 9).unwrap();
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
    let mut s = world(Limits::default());
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
    let mut s = world(Limits::default());
    let a = start(&mut s, "a", None, &[]);
    s.deny(a, attempt(Capability::FsCreate, "/srv/out/new")).unwrap();
    assert_eq!(s.explain(a).unwrap()[0].allow, Some(rule("fs.create=/srv/out")));
}

#[test]
fn slots_come_back_and_the_ended_are_remembered_for_a_while() {
    let mut s = world(Limits { agents: 1, ended: 1, ..Limits::default() });
    let a = start(&mut s, "a", None, &[]);
    assert_eq!(s.try_admit("b", None, &[]), Err(AdmitError::Full(1)));
    s.release_slot(a).unwrap();
    assert!(s.try_admit("b", None, &[]).is_err(), "a living agent keeps its slot");
    go(&mut s, a, Event::Terminate(End::Clean));
    s.release_slot(a).unwrap();
    let b = start(&mut s, "b", None, &[]);
    assert_eq!(b.slot(), a.slot());
    assert!(s.get(a).is_ok(), "still visible");
    go(&mut s, b, Event::Terminate(End::Clean));
    s.release_slot(b).unwrap();
    assert!(s.get(a).is_err() && s.get(b).is_ok());
    let c = s.try_admit("c", None, &[]).unwrap();
    s.withdraw(c).unwrap();
    assert!(s.get(c).is_err());
    assert!(s.try_admit("d", None, &[]).is_ok(), "a withdrawn slot is free");
}

#[test]
fn equal_children_share_what_a_revocation_leaves() {
    let mut s = world(Limits::default());
    let top = start(&mut s, "top", None, &["fs.read=/srv", "fs.read=/opt", "agent.spawn=99"]);
    let set = s.admission("x", Some(top), &["fs.read=/srv/a", "fs.read=/opt/b"]).sets;
    for _ in 0..20 {
        let mut new = s.admission("n", Some(top), &[]);
        new.sets.clone_from(&set);
        s.admit(new, 0).unwrap();
    }
    let done = s.revoke(top, "fs.read=/opt", 0).unwrap();
    assert_eq!(done.changes.len(), 21);
    let keys: Vec<_> = done.changes[1..].iter().map(|change| change.sets[0].set.key()).collect();
    assert!(keys.windows(2).all(|two| two[0] == two[1]), "{keys:?}");
    assert_eq!(done.changes[1].sets[0].set.from(), Some(set[0].key()));
}

#[test]
fn numbers_stay_and_never_come_back() {
    let mut s = world(Limits::default());
    let a = start(&mut s, "a", None, &["fs.read=/a", "fs.read=/b", "fs.read=/c"]);
    let numbers = |s: &World| s.get(a).unwrap().held().map(|held| held.id).collect::<Vec<_>>();
    assert_eq!(s.grant(a, "fs.read=/d", 0), Ok(4));
    s.revoke(a, "fs.read=/b", 0).unwrap();
    assert_eq!(numbers(&s), [1, 3, 4]);
    s.revoke(a, "fs.read=/d", 0).unwrap();
    assert_eq!(s.grant(a, "fs.read=/b", 0), Ok(5));
    assert_eq!(s.grant(a, "fs.read=/e", 0), Ok(6));
    assert_eq!(numbers(&s), [1, 3, 5, 6]);
    assert_eq!(s.get(a).unwrap().sets().len(), 2, "grants go into one set");
}

#[test]
fn what_is_counted_is_a_right_of_its_own_and_nobody_elses() {
    let mut s = world(Limits::default());
    let top = start(&mut s, "top", None, &["agent.spawn=9"]);
    assert_eq!(s.grant(top, "fs.read=/c;uses=3", 1), Ok(2));
    // More of the same goes to the counter that it has, and what has another end lives as long as the longer one.
    let counter = |s: &World| {
        let held = s.get(top).unwrap().held().find(|held| held.id == 2).unwrap();
        (held.rule.counter.unwrap(), held.rule.expires_ns)
    };
    let first = counter(&s);
    let more = s.s.plan_grant(top, set_rule("fs.read=/c;uses=40", 2), 2).unwrap();
    assert_eq!((more.id, more.changes.len()), (2, 0));
    let more = more.more.unwrap();
    assert_eq!((more.key, more.uses), (first.0.key, 40));
    assert_eq!(counter(&s), first);
    // One that is not counted is another rule.
    let child = start(&mut s, "child", Some(top), &[]);
    assert!(matches!(s.grant(child, "fs.read=/c", 3), Err(GrantError::Amplifies(_))));
    assert!(matches!(s.grant(child, "fs.read=/c;uses=1", 3), Err(GrantError::Amplifies(_))));
    assert_eq!(s.grant(top, "fs.read=/c", 4), Ok(3));
    assert_eq!(s.grant(child, "fs.read=/c;uses=1", 5), Ok(1), "out of what is not counted");
    // Both go by one name.
    s.revoke(top, "fs.read=/c", 6).unwrap();
    assert_eq!(held(&s, top), ["agent.spawn=9"]);
    assert!(held(&s, child).is_empty());
}

#[test]
fn a_use_too_many_is_explained() {
    let mut s = world(Limits::default());
    let a = start(&mut s, "a", None, &["fs.read=/c;uses=1"]);
    s.deny(a, Attempt { boot_ns: 5, ..attempt(Capability::FsRead, "/c/d") }).unwrap();
    let told = &s.explain(a).unwrap()[0];
    assert_eq!(told.reason, Reason::UsedUp(rule("fs.read=/c")));
    assert_eq!(told.allow, Some(rule("fs.read=/c/d")));
    // What is no use of it does not say that there is none left.
    let watch = Attempt { boot_ns: 6, ..attempt(Capability::FsRead, "/c/e") };
    s.deny(a, Attempt { operation: "path_notify".to_owned(), ..watch }).unwrap();
    assert_eq!(s.explain(a).unwrap()[0].reason, Reason::NoUse(rule("fs.read=/c")));
    // What is not counted was looked at first.
    s.grant(a, "fs.read=/", 9).unwrap();
    assert!(matches!(s.explain(a).unwrap()[0].reason, Reason::HeldNow(_)));
}

#[test]
fn a_replaced_file_is_granted_anew_and_taken_from_below() {
    let mut s = world(Limits::default());
    let top = start(&mut s, "top", None, &["agent.spawn=9"]);
    let conf =
        |ino, now| SetRule { place: file(ino), granted_ns: now, ..set_rule("fs.read=/c", now) };
    assert_eq!(s.grant_at(top, conf(7, 1), 1), Ok(2));
    assert_eq!(s.grant_at(top, conf(7, 2), 2), Ok(2), "the same file is the same right");
    let child = start(&mut s, "child", Some(top), &[]);
    s.grant_at(child, conf(7, 3), 3).unwrap();
    assert!(matches!(s.grant_at(child, conf(8, 3), 3), Err(GrantError::Amplifies(_))));
    // Held, and refused all the same: the name leads elsewhere.
    let refused = Attempt { boot_ns: 5, ..attempt(Capability::FsRead, "/c") };
    s.deny(top, refused).unwrap();
    let told = &s.explain(top).unwrap()[0];
    assert_eq!(told.reason, Reason::Replaced(rule("fs.read=/c")));
    assert_eq!(told.allow, Some(rule("fs.read=/c")));
    assert_eq!(s.grant_at(top, conf(8, 9), 9), Ok(3));
    assert_eq!(held(&s, top), ["agent.spawn=9", "fs.read=/c"]);
    assert!(held(&s, child).is_empty(), "its file is not its parent's any more");
    assert!(matches!(s.explain(top).unwrap()[0].reason, Reason::HeldNow(_)));
}
