//! Weights, counts and memory: what is below an agent is part of what it has.
#![allow(clippy::unwrap_used)] // helpers are test code outside of test functions

mod world;

use abi::AgentId;
use coconut_supervisor::{AdmitError, End, Event, LaneError, Limits};
use manifest::Children;
use world::{World, go, start, world};

#[test]
fn weights_are_bounded_and_inherited_by_the_tenant() {
    let mut s = world(Limits::default());
    let a = start(&mut s, "a", None, &[]);
    assert_eq!(s.lane(a).unwrap().tenant_weight, 100);
    assert_eq!(s.set_tenant_weight("maya", 300).unwrap(), [a]);
    assert!(s.set_tenant_weight("maya", 0).is_err() && s.plan_weight(a, 10_001).is_err());
    let plan = s.plan_weight(a, 7).unwrap();
    s.commit_weights(&plan);
    let lane = s.lane(a).unwrap();
    assert_eq!((lane.tenant_weight, lane.weight), (300, 7));
    assert_eq!(s.tenants().get("maya"), Some(&300));
}

#[test]
fn a_count_is_one_for_all_who_live_below() {
    let mut s = world(Limits::default());
    let top = start(&mut s, "top", None, &["agent.spawn=2"]);
    let child = start(&mut s, "child", Some(top), &["agent.spawn=2"]);
    let leaf = start(&mut s, "leaf", Some(child), &[]);
    let full = AdmitError::TooManyBelow { name: "top".into(), count: 2 };
    assert_eq!(s.try_admit("x", Some(child), &[]), Err(full), "the child's own count has room");
    assert_eq!((s.get(top).unwrap().below(), s.get(child).unwrap().below()), (2, 1));
    go(&mut s, leaf, Event::Terminate(End::Clean));
    let last = start(&mut s, "last", Some(child), &[]);
    // An ended agent in between changes nothing, not even when it is forgotten.
    go(&mut s, child, Event::Terminate(End::Clean));
    assert_eq!(s.get(top).unwrap().below(), 1);
    s.withdraw(child).unwrap();
    assert_eq!(s.get(last).unwrap().parent, Some(top));
    go(&mut s, last, Event::Terminate(End::Clean));
    assert_eq!(s.get(top).unwrap().below(), 0);
}

#[test]
fn a_childs_memory_and_weight_fit_into_its_parents() {
    let mut s = world(Limits::default());
    let mut top = s.admission("top", None, &["agent.spawn=9"]);
    (top.memory.ram, top.weight) = (Some(64 << 20), 50);
    let top = s.admit(top, 0).unwrap();
    go(&mut s, top, Event::Attest);
    go(&mut s, top, Event::Activate);
    let mut greedy = s.admission("greedy", Some(top), &[]);
    greedy.memory.ram = Some(65 << 20);
    assert!(matches!(s.admit(greedy, 0), Err(AdmitError::Memory { tier: "ram", .. })));
    let mut heavy = s.admission("heavy", Some(top), &[]);
    heavy.weight = 51;
    assert_eq!(s.admit(heavy, 0), Err(AdmitError::Weight { parent: 50, wanted: 51 }));
    let child = s.try_admit("child", Some(top), &[]).unwrap();
    let agent = s.get(child).unwrap();
    assert_eq!((agent.memory.ram, agent.weight), (Some(64 << 20), 50), "silence is no way out");
    assert!(matches!(s.plan_weight(child, 51), Err(LaneError::AboveParent { .. })));
    assert_eq!(s.plan_weight(top, 10).unwrap(), [(top, 10), (child, 10)]);
}

/// A family of a parent (40) with two children, of which one has a child, beside another agent (100).
fn family(s: &mut World) -> [AgentId; 5] {
    let beside = start(s, "beside", None, &[]);
    let mut parent = s.admission("parent", None, &["agent.spawn=9"]);
    (parent.weight, parent.children) = (40, Children::Reparent);
    let parent = s.admit(parent, 0).unwrap();
    go(s, parent, Event::Attest);
    go(s, parent, Event::Activate);
    let one = start(s, "one", Some(parent), &["agent.spawn=9"]);
    let two = start(s, "two", Some(parent), &[]);
    let deep = start(s, "deep", Some(one), &[]);
    [beside, parent, one, two, deep]
}

fn weights_above(s: &World, aid: AgentId) -> Vec<u32> {
    s.lane(aid).unwrap().above.iter().map(|above| above.weight).collect()
}

#[test]
fn a_lane_says_whose_part_it_is_of() {
    let mut s = world(Limits::default());
    let [beside, parent, one, two, deep] = family(&mut s);
    assert!(weights_above(&s, beside).is_empty() && weights_above(&s, parent).is_empty());
    assert_eq!((weights_above(&s, two), weights_above(&s, deep)), (vec![40], vec![40, 40]));
    let plan = s.plan_weight(one, 30).unwrap();
    let changed = s.commit_weights(&plan);
    assert_eq!(changed, [one, deep], "whoever is below must be told");
    assert_eq!(weights_above(&s, deep), [40, 30]);
    assert_eq!(s.get(deep).unwrap().weight, 30, "and is not heavier");
    // Its parent ends and leaves it to nobody: its part is what it was.
    let plan = s.plan_end(parent).unwrap();
    go(&mut s, parent, Event::Terminate(End::Clean));
    s.reparent(&plan).unwrap();
    s.withdraw(parent).unwrap();
    assert_eq!((s.get(one).unwrap().parent, weights_above(&s, deep)), (None, vec![40, 30]));
}

#[test]
fn nobody_gets_more_by_having_children() {
    let mut s = world(Limits::default());
    let [beside, parent, one, two, deep] = family(&mut s);
    let of = |s: &World| -> Vec<(AgentId, u32, i64)> {
        let parts = s.parts("maya").into_iter();
        parts.map(|part| (part.aid, part.depth, (part.share * 2100.0).round() as i64)).collect()
    };
    // 100 to 40, of which the parent's own work and each child have a third.
    let all = [(beside, 0, 1500), (parent, 0, 200), (one, 1, 100), (deep, 2, 100), (two, 1, 200)];
    assert_eq!(of(&s), all);
    let plan = s.plan_end(parent).unwrap();
    go(&mut s, parent, Event::Terminate(End::Clean));
    s.reparent(&plan).unwrap();
    // The order of what is left is the same; what the parent did itself falls to its children.
    let left = [(beside, 0, 1500), (one, 0, 150), (deep, 1, 150), (two, 0, 300)];
    assert_eq!(of(&s), left, "orphans have together what they had");
}
