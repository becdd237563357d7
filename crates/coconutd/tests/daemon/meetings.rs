//! Two changes that meet: a parent loses a right at each step of its child's start.

use crate::fake::requests::ad_hoc;
use crate::fake::{Meeting, Running};
use abi::AgentId;
use api::AgentDetail;
use api::agent::{CapabilityChange, ChangeReport};
use kernel::{KernelRule, KernelScope};
use std::os::unix::fs::MetadataExt;
use std::sync::mpsc::channel;
use std::time::Duration;

/// Steps of a start before anything is locked: the revocation comes to its end meanwhile.
const BEFORE: [&str; 2] = ["open the program", "look up rules"];

/// Whether the kernel lets it read `/etc` or what lies below.
fn reads_etc(running: &Running, aid: AgentId) -> bool {
    let there = ["/etc", "/etc/ssl"].map(|path| std::fs::metadata(path).unwrap().ino());
    let on = |rule: &KernelRule| match &rule.scope {
        KernelScope::File(handle) => there.contains(&handle.node().ino),
        _ => false,
    };
    let rules = running.fake.rules(aid);
    rules.iter().any(|rule| rule.capability == abi::Capability::FsRead && on(rule))
}

/// One start that is met at its step `after`: the step's name and whether there is a child; none if it
/// has no such step.
fn meets(running: &Running, after: usize) -> Option<(String, bool)> {
    let above = running.spawned("above", &["agent.spawn=3", "fs.read=/etc", "fs.exec=/usr/bin"]);
    let uuid = running.daemon.uuid_of(above).unwrap();
    running.on(running.daemon.sink.flush());
    running.become_agent(Some(above));
    let (reached, is_reached) = channel();
    let (goes, go) = channel::<()>();
    *running.fake.meeting.lock().unwrap() = Some(Meeting { after, reached, go });
    let (met, child) = std::thread::scope(|scope| {
        let met = scope.spawn(move || {
            let step: String = is_reached.recv().ok()?;
            running.become_agent(None);
            let change = CapabilityChange {
                capability: "fs.read=/etc".into(),
                expires_ms: None,
                uses: None,
            };
            let path = format!("/v1/agents/{uuid}/revoke");
            let revoked = scope.spawn(move || {
                running.client().post::<_, ChangeReport>(&path, &change).unwrap();
            });
            // Later it may wait for this very start: then both go on at once, whoever is first.
            let head_start = std::time::Instant::now();
            let before = BEFORE.contains(&step.as_str());
            while !revoked.is_finished()
                && (before || head_start.elapsed() < Duration::from_millis(100))
            {
                std::thread::sleep(Duration::from_millis(1));
            }
            drop(goes);
            revoked.join().unwrap();
            Some(step)
        });
        let wanted = ad_hoc("child", &["fs.read=/etc/ssl"]);
        let child = running.client().post::<_, AgentDetail>("/v1/agents", &wanted);
        // No step like that: nobody waits for it any more.
        *running.fake.meeting.lock().unwrap() = None;
        (met.join().unwrap(), child)
    });
    running.become_agent(None);
    let child = child
        .ok()
        .map(|child| running.daemon.inner().supervisor.by_uuid(child.agent.aid).unwrap().aid);
    if let Some(step) = &met {
        assert!(!reads_etc(running, above), "{after} ({step}): the parent reads on");
        let reads = child.is_some_and(|child| reads_etc(running, child));
        assert!(!reads, "{after} ({step}): the child reads what its parent lost");
    }
    let _ = running.client().post::<_, api::Exit>(&format!("/v1/agents/{uuid}/kill"), &());
    met.map(|step| (step, child.is_some()))
}

#[test]
fn a_child_that_is_being_started_loses_what_its_parent_loses() {
    let running = Running::start();
    let (mut refused, mut started) = (0, 0);
    for after in 0..200 {
        let Some((step, there)) = meets(&running, after) else { break };
        if BEFORE.contains(&step.as_str()) {
            assert!(!there, "{after} ({step}): it asks for what its parent has no more");
            refused += 1;
        }
        started += usize::from(there);
    }
    assert!(refused >= 2 && started >= 1, "{refused} refused, {started} started");
    running.stop();
}
