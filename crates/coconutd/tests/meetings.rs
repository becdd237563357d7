//! Two changes that meet: a parent loses a right at each step of its child's start.
#![allow(clippy::unwrap_used)] // a test may fall over where it stands

mod fake;

use abi::AgentId;
use api::agent::{CapabilityChange, ChangeReport, SpawnSource};
use api::{AgentDetail, SpawnRequest};
use fake::Running;
use kernel::{Rule, Scope};
use std::os::unix::fs::MetadataExt;
use std::sync::mpsc::channel;
use std::time::Duration;

fn ad_hoc(name: &str, capabilities: &[&str]) -> SpawnRequest {
    SpawnRequest {
        source: SpawnSource::AdHoc {
            tenant: "maya".into(),
            name: Some(name.into()),
            capabilities: capabilities.iter().map(|c| (*c).to_owned()).collect(),
            weight: None,
        },
        args: vec!["/bin/sleep".into(), "600".into()],
        cwd: None,
        env: Vec::new(),
        allow_unsigned: false,
        stdio: None,
    }
}

/// Whether the kernel lets it read `/etc` or what lies below.
fn reads_etc(running: &Running, aid: AgentId) -> bool {
    let there = ["/etc", "/etc/ssl"].map(|path| std::fs::metadata(path).unwrap().ino());
    let on = |rule: &Rule| match &rule.scope {
        Scope::File(handle) => there.contains(&handle.node().ino),
        _ => false,
    };
    running
        .fake
        .rules(aid)
        .iter()
        .any(|rule| rule.capability == abi::Capability::FsRead && on(rule))
}

/// One start with a revocation at step `at`: none if it has no such step, else whether there is a child.
fn meets(running: &Running, at: usize) -> Option<bool> {
    let rights = ["agent.spawn=3", "fs.read=/etc", "fs.exec=/usr/bin"];
    let above: AgentDetail =
        running.client().post("/v1/agents", &ad_hoc("above", &rights)).unwrap();
    let aid = running.daemon.inner().supervisor.by_uuid(above.agent.aid).unwrap().aid;
    running.on(running.daemon.sink.flush());
    running.become_agent(Some(aid));
    let (reached, is_reached) = channel::<()>();
    let mut count = 0;
    *running.fake.watch.lock().unwrap() = Some(Box::new(move |_| {
        count += 1;
        if count == at + 1 {
            reached.send(()).unwrap();
            // Time for the revocation to get as far as it comes; it may wait for this very change.
            std::thread::sleep(Duration::from_millis(30));
        }
        false
    }));
    let (revoked, child) = std::thread::scope(|scope| {
        let path = format!("/v1/agents/{}/revoke", above.agent.aid);
        let revoke = scope.spawn(move || {
            is_reached.recv().ok()?;
            running.become_agent(None);
            let change = CapabilityChange { capability: "fs.read=/etc".into(), expires_s: None };
            Some(running.client().post::<_, ChangeReport>(&path, &change))
        });
        let child = running
            .client()
            .post::<_, AgentDetail>("/v1/agents", &ad_hoc("child", &["fs.read=/etc/ssl"]));
        // No step like that: nobody waits for it any more.
        *running.fake.watch.lock().unwrap() = None;
        (revoke.join().unwrap(), child)
    });
    running.become_agent(None);
    let reached = revoked.map(|revoked| {
        revoked.unwrap();
        assert!(!reads_etc(running, aid), "step {at}: the parent reads on");
        let child = child
            .ok()
            .map(|child| running.daemon.inner().supervisor.by_uuid(child.agent.aid).unwrap().aid);
        if let Some(child) = child {
            assert!(!reads_etc(running, child), "step {at}: the child reads what its parent lost");
        }
        child.is_some()
    });
    let _ =
        running.client().post::<_, api::Exit>(&format!("/v1/agents/{}/kill", above.agent.aid), &());
    reached
}

#[test]
fn a_child_that_is_being_started_loses_what_its_parent_loses() {
    let running = Running::start();
    let mut started = 0;
    let mut steps = 0;
    while let Some(there) = meets(&running, steps) {
        steps += 1;
        started += usize::from(there);
        assert!(steps < 200, "does it end?");
    }
    // Late enough there is a child, early enough there is none that asks for it.
    assert!(started > 0 && started < steps, "{started} of {steps} started");
    running.stop();
}
