//! A daemon ends as if it were killed, and another follows it on the same kernel: what the API shows is the same,
//! and of what the kernel has nothing is lost or doubled.

use crate::fake::{Running, requests};
use abi::{AgentId, AgentState};
use api::agent::CapabilityChange;
use serde_json::Value;

/// Everything that the API shows of the agents.
fn shown(running: &Running) -> Value {
    let client = running.client();
    let list: Value = client.get("/v1/agents?all=true").unwrap();
    let ids: Vec<String> = list["agents"]
        .as_array()
        .unwrap()
        .iter()
        .map(|agent| agent["aid"].as_str().unwrap().to_owned())
        .collect();
    let details: Vec<Value> =
        ids.iter().map(|id| client.get(&format!("/v1/agents/{id}")).unwrap()).collect();
    let caps: Vec<Value> = ids
        .iter()
        .map(|id| client.get(&format!("/v1/agents/{id}/capabilities")).unwrap())
        .collect();
    let explained: Vec<Value> =
        ids.iter().map(|id| client.get(&format!("/v1/agents/{id}/denials")).unwrap()).collect();
    let lanes: Value = client.get("/v1/lanes").unwrap();
    serde_json::json!({
        "list": list, "details": details, "caps": caps, "explained": explained, "lanes": lanes
    })
}

/// The first line that differs says more than both.
fn same(after: &Value, before: &Value) {
    let text = |value| {
        let text = serde_json::to_string_pretty(value).unwrap();
        // Clocks are compared anew each time: by some hundred nanoseconds they differ.
        let rounded = |line: &str| match line.contains("\"expires_ns\": 1") {
            true => line[..line.len() - 8].to_owned(),
            false => line.to_owned(),
        };
        text.lines().map(rounded).collect::<Vec<_>>().join("\n")
    };
    let (after, before) = (text(after), text(before));
    let differ = after.lines().zip(before.lines()).filter(|(after, before)| after != before);
    assert_eq!(differ.collect::<Vec<_>>(), [], "after, before");
    assert_eq!(after.len(), before.len());
}

fn change(running: &Running, what: &str, aid: AgentId, rule: &str, expires_ms: Option<u64>) {
    let uuid = running.daemon.uuid_of(aid).unwrap();
    let body = CapabilityChange { capability: rule.into(), expires_ms, uses: None };
    let path = format!("/v1/agents/{uuid}/{what}");
    let _: Value = running.client().post(&path, &body).unwrap();
}

fn act(running: &Running, what: &str, aid: AgentId) {
    let uuid = running.daemon.uuid_of(aid).unwrap();
    let _: Value = running.client().post(&format!("/v1/agents/{uuid}/{what}"), &()).unwrap();
}

fn await_that(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..4_000 {
        if holds() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    panic!("it never came: {what}");
}

/// Every set that an agent holds is there, and no other.
fn kernel_is_tidy(running: &Running) {
    let agents = running.fake.agents.lock().unwrap();
    let sets = running.fake.sets.lock().unwrap();
    let held: std::collections::BTreeSet<_> =
        agents.values().flat_map(|known| known.sets.iter().copied()).collect();
    assert!(held.iter().all(|id| sets.contains_key(id)), "a set that is held is missing");
    assert_eq!(held.len(), sets.len(), "sets that nobody holds are left");
}

#[test]
fn what_is_known_of_agents_outlives_the_daemon() {
    let running = Running::start();
    let dir = tempfile::tempdir().unwrap();
    let at = |rule: &str| rule.replace("{}", dir.path().to_str().unwrap());
    let (read, write) = (at("fs.read={}"), at("fs.write={}"));
    let parent = running.spawned("parent", &["agent.spawn=4", &read, &write, "infer=*"]);
    running.become_agent(Some(parent));
    let child = running.spawned("child", &[&read]);
    running.become_agent(None);
    let quiet = running.spawned("quiet", &[&read]);
    let ended = running.spawned("ended", &[]);
    change(&running, "grant", quiet, &write, None);
    change(&running, "grant", quiet, "net.connect=192.0.2.1:443", Some(3_600_000));
    change(&running, "revoke", parent, &read, None);
    act(&running, "quarantine", quiet);
    act(&running, "kill", ended);
    for n in 0..3 {
        running.fake.deny(child, requests::denial(child, n));
    }
    let denials = |running: &Running| running.daemon.inner().info[&child].kernel_denials;
    await_that("denials", || denials(&running) == 3);
    running.daemon.remember();
    let before = shown(&running);
    let rules: Vec<_> =
        [parent, child, quiet].map(|aid| format!("{:?}", running.fake.rules(aid).len())).into();

    let running = running.followed();
    same(&shown(&running), &before);
    let after: Vec<_> =
        [parent, child, quiet].map(|aid| format!("{:?}", running.fake.rules(aid).len())).into();
    assert_eq!(after, rules, "the kernel decides by as many rules");
    kernel_is_tidy(&running);
    assert_eq!(running.fake.agents.lock().unwrap()[&quiet].state, Some(AgentState::Quarantined));
    // It goes on: rights, ends and ids are those of the same agents.
    act(&running, "release", quiet);
    change(&running, "revoke", quiet, &write, None);
    let fresh = running.spawned("fresh", &[&read]);
    assert!(fresh.generation() > ended.generation(), "no id is given out again");
    for aid in [parent, quiet, fresh] {
        act(&running, "kill", aid);
    }
    await_that("the child's end", || running.fake.agents.lock().unwrap().is_empty());
    running.stop();
    let kept = running.fake.kept.lock().unwrap();
    // The daemon's own place for what cannot be written stays.
    assert_eq!(kept.keys().collect::<Vec<_>>(), ["unwritten"], "kept for nobody");
}

#[test]
fn who_ended_while_there_was_no_daemon_is_told_with_its_status() {
    let running = Running::start();
    let (gone, by_signal) = (running.spawned("gone", &[]), running.spawned("signalled", &[]));
    {
        let mut agents = running.fake.agents.lock().unwrap();
        let exited = |status, signal| Some(kernel::Exited { status, signal });
        agents.get_mut(&gone).unwrap().exited = exited(Some(7), None);
        agents.get_mut(&by_signal).unwrap().exited = exited(None, Some(9));
    }
    let running = running.followed();
    let exit = |aid: AgentId| running.daemon.inner().info[&aid].exit.clone();
    await_that("their ends", || exit(gone).is_some() && exit(by_signal).is_some());
    assert_eq!(exit(gone).unwrap().status, Some(7));
    assert_eq!(exit(by_signal).unwrap().signal, Some(9));
    running.stop();
}

#[test]
fn who_is_not_in_the_registry_is_ended_and_on_record() {
    let running = Running::start();
    let known = running.spawned("known", &[]);
    let stranger = AgentId::new(77, 3);
    running.fake.agents.lock().unwrap().insert(stranger, crate::fake::Known::default());
    let running = running.followed();
    let agents: Vec<AgentId> = running.fake.agents.lock().unwrap().keys().copied().collect();
    assert_eq!(agents, [known]);
    let reader = audit::Reader::open(&running.daemon.config.audit).unwrap();
    let filter = audit::Filter { kinds: vec![abi::Kind::Boot], ..audit::Filter::default() };
    let records = reader.query(&filter, 9);
    let taken: Vec<String> = records
        .iter()
        .filter(|record| record.object == "agents taken over")
        .map(|record| record.detail())
        .collect();
    assert_eq!(taken, ["running=1 ended=0 strangers=1"]);
    running.stop();
}

#[test]
fn a_start_that_was_not_over_is_undone_by_the_next_daemon() {
    let running = Running::start();
    let half = running.spawned("half", &[]);
    running.daemon.remember();
    // It was killed when the program ran, and before the books said so.
    let body = format!("json_set(body, '$.agent.state', {})", AgentState::Attested as u32);
    let rewrite = format!("UPDATE agents SET body = {body} WHERE aid = {}", half.0);
    *running.fake.rewrite.lock().unwrap() = Some(rewrite);
    let running = running.followed();
    await_that("its end", || !running.fake.agents.lock().unwrap().contains_key(&half));
    let ended = || running.daemon.inner().supervisor.get(half).unwrap().state().is_terminal();
    await_that("the books to say so", ended);
    running.stop();
}

#[test]
fn whose_descendant_an_agent_is_is_told_to_the_kernel_anew() {
    let running = Running::start();
    let parent = running.spawned("parent", &["agent.spawn=4"]);
    running.become_agent(Some(parent));
    let child = running.spawned("child", &[]);
    running.become_agent(None);
    // An earlier daemon was killed before it had told.
    running.fake.agents.lock().unwrap().get_mut(&child).unwrap().parent = AgentId::NOBODY;
    let running = running.followed();
    assert_eq!(running.fake.agents.lock().unwrap()[&child].parent, parent);
    running.stop();
}
