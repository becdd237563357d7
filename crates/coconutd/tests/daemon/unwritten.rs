//! What is done while nothing can be written to the registry: nobody gets a right back from the next daemon.

use crate::fake::{Running, requests};
use abi::{AgentId, Capability, Kind};
use api::agent::CapabilityChange;
use api::{AgentDetail, Exit, Status};
use kernel::{KernelRule, KernelScope};
use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

fn change(running: &Running, what: &str, aid: AgentId, rule: &str) {
    let uuid = running.daemon.uuid_of(aid).unwrap();
    let body = CapabilityChange { capability: rule.into(), expires_ms: None, uses: None };
    let _: Value = running.client().post(&format!("/v1/agents/{uuid}/{what}"), &body).unwrap();
}

fn shown(running: &Running, aid: AgentId) -> AgentDetail {
    let uuid = running.daemon.uuid_of(aid).unwrap();
    running.client().get(&format!("/v1/agents/{uuid}")).unwrap()
}

fn end_of(running: &Running, aid: AgentId) -> Option<Exit> {
    for _ in 0..4_000 {
        if let Some(exit) = shown(running, aid).agent.exit {
            return Some(exit);
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    None
}

fn stuck(running: &Running) -> Option<String> {
    running.client().get::<Status>("/v1/status").unwrap().registry_stuck
}

/// This daemon can write nothing; the first is 0.
fn writes_nothing(running: &Running, number: u64) {
    running.fake.unwritable.store(number, Ordering::SeqCst);
}

fn writes_again(running: &Running) {
    writes_nothing(running, u64::MAX);
    running.daemon.remember();
    assert_eq!((stuck(running), marks(running)), (None, 0));
}

/// What the kernel has of an agent's rights, but for the sockets of the daemon, which each makes anew.
fn held(running: &Running, aid: AgentId) -> Vec<String> {
    let one = |rule: &KernelRule| match &rule.scope {
        // Its descriptor is each daemon's own.
        KernelScope::File(handle) => format!("{:?} {:?}", rule.capability, handle.node()),
        other => format!("{:?} {other:?}", rule.capability),
    };
    let rules = running.fake.rules(aid);
    let lasting = rules.iter().filter(|rule| rule.capability != Capability::IpcUnix);
    let mut all: Vec<String> = lasting.map(one).collect();
    all.sort();
    all
}

/// How many agents are noted for the next daemon.
fn marks(running: &Running) -> usize {
    let kept = running.fake.kept.lock().unwrap();
    let length = rustix::fs::fstat(&kept["unwritten"]).unwrap().st_size;
    usize::try_from(length).unwrap() / size_of::<AgentId>()
}

/// What is kept open for the next daemon.
fn kept(running: &Running) -> BTreeSet<String> {
    running.fake.kept.lock().unwrap().keys().cloned().collect()
}

/// An agent, a parent and its child; of those two a right is taken while nothing can be written.
fn revoked(read: &str) -> (Running, [AgentId; 3]) {
    let running = Running::start();
    let other = running.spawned("other", &[read]);
    let parent = running.spawned("parent", &["agent.spawn=1", read]);
    running.become_agent(Some(parent));
    let child = running.spawned("child", &[read]);
    running.become_agent(None);
    assert_eq!(stuck(&running), None);
    let (files, before) = (kept(&running), [parent, child].map(|aid| held(&running, aid)));
    writes_nothing(&running, 0);
    change(&running, "revoke", parent, read);
    let after = [parent, child].map(|aid| held(&running, aid));
    assert!(before[0] != after[0] && before[1] != after[1], "nothing was taken");
    assert!(stuck(&running).is_some());
    // Tried again, it marks nobody else.
    running.daemon.remember();
    running.daemon.remember();
    assert_eq!(marks(&running), 2, "the parent and its child");
    assert!(kept(&running).is_superset(&files), "what is written down names what is not kept");
    (running, [other, parent, child])
}

#[test]
fn who_was_changed_and_not_written_down_is_ended_by_the_next_daemon_and_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    let read = format!("fs.read={}", dir.path().display());
    let (running, [other, parent, child]) = revoked(&read);
    let mut said = Vec::new();
    let each = |record: api::audit::Record| {
        said.push((record.kind, record.object));
        std::ops::ControlFlow::Continue(())
    };
    running.client().lines("/v1/audit/records?kind=degraded", each).unwrap();
    let [(kind, object)] = said.as_slice() else { panic!("{said:?}") };
    assert!(*kind == Kind::Degraded && object.contains("cannot be written down"), "{object}");

    // Killed before it could be written after all.
    let before = held(&running, other);
    let running = running.followed();
    for gone in [parent, child] {
        let exit = end_of(&running, gone).expect("it goes on");
        assert!(exit.reason.unwrap().contains("could not be written down"));
    }
    assert_eq!(shown(&running, other).agent.exit, None, "it was not changed");
    assert_eq!(held(&running, other), before);
    assert_eq!((stuck(&running), marks(&running)), (None, 0));
    running.stop();
}

#[test]
fn who_was_only_refused_something_meanwhile_goes_on() {
    let running = Running::start();
    let agent = running.spawned("agent", &[]);
    running.daemon.remember();
    writes_nothing(&running, 0);
    running.fake.deny(agent, requests::denial(agent, 1));
    for _ in 0..2_000 {
        if shown(&running, agent).counters.log_kernel_denials == 1 {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    running.daemon.remember();
    assert!(stuck(&running).is_some());
    let running = running.followed();
    assert_eq!(shown(&running, agent).agent.exit, None);
    assert_eq!(shown(&running, agent).counters.log_kernel_denials, 1);
    running.stop();
}

#[test]
fn what_is_written_after_all_is_as_it_was_made() {
    let dir = tempfile::tempdir().unwrap();
    let read = format!("fs.read={}", dir.path().display());
    let (running, all) = revoked(&read);
    writes_again(&running);
    let before = all.map(|aid| held(&running, aid));
    let running = running.followed();
    assert_eq!(all.map(|aid| held(&running, aid)), before);
    for aid in all {
        assert_eq!(shown(&running, aid).agent.exit, None);
    }
    running.stop();
}

#[test]
fn a_daemon_that_can_write_nothing_takes_everybody_over_and_so_does_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let read = format!("fs.read={}", dir.path().display());
    let mut running = Running::start();
    let all = ["one", "two"].map(|name| running.spawned(name, &[&read]));
    let before = all.map(|aid| held(&running, aid));
    for number in [1, 2] {
        writes_nothing(&running, number);
        running = running.followed();
        running.daemon.remember_all();
        assert!(stuck(&running).is_some(), "{number}");
        assert_eq!(marks(&running), 0, "nobody was changed");
        assert_eq!(all.map(|aid| held(&running, aid)), before);
    }
    writes_again(&running);
    running = running.followed();
    assert_eq!(all.map(|aid| held(&running, aid)), before);
    assert!(all.iter().all(|aid| shown(&running, *aid).agent.exit.is_none()));
    running.stop();
}
