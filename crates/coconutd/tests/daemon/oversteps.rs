//! What a number of denials leads to, as manifests say.

use crate::fake::{Running, requests::denial};
use abi::{AgentId, AgentState};
use api::agent::SpawnSource;
use api::{AgentDetail, SpawnRequest};
use std::time::Duration;

/// A sleeping agent that may have children, with a `[denials]` section.
fn spawn(running: &Running, then: &str) -> AgentId {
    let text = format!(
        "[agent]\nname = \"prober\"\ntenant = \"maya\"\ncommand = [\"/usr/bin/sleep\", \"600\"]\n\
         [capabilities]\n\"agent.spawn\" = {{ count = 2 }}\n[denials]\nlimit = 3\n{then}"
    );
    let source = SpawnSource::Manifest {
        path: "/x/prober.toml".into(),
        text,
        signature: None,
        tenant: None,
        name: None,
        capabilities: Vec::new(),
    };
    let wanted = SpawnRequest {
        source,
        args: Vec::new(),
        cwd: None,
        env: Vec::new(),
        allow_unsigned: true,
        stdio: None,
    };
    let detail: AgentDetail = running.client().post("/v1/agents", &wanted).unwrap();
    running.daemon.inner().supervisor.by_uuid(detail.agent.aid).unwrap().aid
}

/// The states once `count` denials are booked, and what follows has followed.
fn denied(running: &Running, sequence: &mut u64, who: &[AgentId]) {
    for aid in who {
        *sequence += 1;
        running.fake.deny(*aid, denial(*aid, *sequence));
    }
    let booked = || -> u64 {
        let inner = running.daemon.inner();
        inner.info.values().map(|info| info.kernel_denials).sum()
    };
    until(|| booked() == *sequence);
}

fn until(holds: impl Fn() -> bool) {
    for _ in 0..15_000 {
        if holds() {
            return;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    panic!("it never happens");
}

fn state(running: &Running, aid: AgentId) -> AgentState {
    running.daemon.inner().supervisor.get(aid).unwrap().state()
}

#[test]
fn denials_of_a_family_lead_to_a_quarantine_and_are_counted_anew_after_it() {
    let running = Running::start();
    let parent = spawn(&running, "");
    running.become_agent(Some(parent));
    let child = running.spawned("child", &[]);
    running.become_agent(None);
    let mut sequence = 0;
    denied(&running, &mut sequence, &[child, parent]);
    // The control: two are no three. Both were told before the third.
    assert_eq!([parent, child].map(|aid| state(&running, aid)), [AgentState::CapDenied; 2]);
    denied(&running, &mut sequence, &[child]);
    until(|| [parent, child].iter().all(|aid| state(&running, *aid) == AgentState::Quarantined));
    let client = running.client();
    let by = |record: &api::audit::Record| {
        format!("{record:?}").contains("its manifest, after 3 denials")
    };
    let mut told = 0;
    client
        .records(&[("kind", "state")], None, |record| {
            told += u32::from(by(&record));
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(told, 2, "each of both has its record");
    client.post::<_, api::Agent>("/v1/agents/prober/release", &()).unwrap();
    denied(&running, &mut sequence, &[parent, child]);
    assert_eq!(state(&running, parent), AgentState::CapDenied);
    denied(&running, &mut sequence, &[parent]);
    until(|| state(&running, parent) == AgentState::Quarantined);
    running.stop();
}

#[test]
fn or_to_an_end() {
    let running = Running::start();
    let agent = spawn(&running, "then = \"end\"\n");
    denied(&running, &mut 0, &[agent; 3]);
    until(|| state(&running, agent) == AgentState::TerminatedFailed);
    let reason = || {
        let exit = running.daemon.inner().info.get(&agent)?.exit.clone();
        exit?.reason
    };
    until(|| reason().is_some());
    assert_eq!(reason().unwrap(), "ended by its manifest, after 3 denials");
    running.stop();
}
