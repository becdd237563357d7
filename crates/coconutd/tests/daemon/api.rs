//! The API over its real UNIX socket, with a kernel that only remembers. Needs root: it is an
//! operator's view.

use crate::fake::Running;
use abi::event::{EVENT_DENIAL, Event, Hook};
use abi::{AgentId, AgentState, Kind};
use api::agent::{CapabilityChange, CapabilityList, ChangeReport, ExplanationList, SpawnSource};
use api::client::{Client, ClientError};
use api::lane::{LaneChange, LaneList};
use api::{AgentDetail, AgentList, ErrorBody, ErrorCode, Exit, SpawnRequest};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::channel;
use std::time::Duration;
use zerocopy::FromZeros;

fn request(name: &str, capabilities: &[&str], command: &[&str]) -> SpawnRequest {
    SpawnRequest {
        source: SpawnSource::AdHoc {
            tenant: "maya".into(),
            name: Some(name.into()),
            capabilities: capabilities.iter().map(|c| (*c).to_owned()).collect(),
            weight: None,
        },
        args: command.iter().map(|c| (*c).to_owned()).collect(),
        cwd: None,
        env: Vec::new(),
        allow_unsigned: false,
        stdio: None,
    }
}

fn spawn(client: &Client, name: &str, capabilities: &[&str]) -> AgentDetail {
    client.post("/v1/agents", &request(name, capabilities, &["/bin/sleep", "60"])).unwrap()
}

fn refused<T: std::fmt::Debug>(answer: Result<T, ClientError>) -> ErrorBody {
    match answer.unwrap_err() {
        ClientError::Refused(body) => body,
        other => panic!("not a refusal: {other:?}"),
    }
}

fn aid_of(running: &Running, detail: &AgentDetail) -> AgentId {
    running.daemon.inner().supervisor.by_uuid(detail.agent.aid).unwrap().aid
}

fn records(client: &Client, query: &str) -> Vec<api::audit::Record> {
    let mut all = Vec::new();
    let path = format!("/v1/audit/records{query}");
    client
        .lines(&path, |record| {
            all.push(record);
            ControlFlow::Continue(())
        })
        .unwrap();
    all
}

fn denial(aid: AgentId, path: &str, sequence: u64) -> Event {
    let mut event = Event::new_zeroed();
    event.time_ns = coconutd::clock::boot_ns();
    event.aid = aid.0;
    event.sequence = sequence;
    event.kind = EVENT_DENIAL;
    event.hook = Hook::FileOpen as u32;
    event.verdict = -13;
    event.wanted = abi::caps::RIGHT_READ;
    event.object[..path.len()].copy_from_slice(path.as_bytes());
    event.object_len = u32::try_from(path.len()).unwrap();
    event.comm[..3].copy_from_slice(b"cat");
    event
}

#[test]
fn an_agent_lives_and_ends_and_the_log_tells_it() {
    let running = Running::start();
    let client = running.client();
    let detail: AgentDetail = client
        .post(
            "/v1/agents",
            &request("quick", &["fs.read=/etc"], &["/bin/sh", "-c", "echo hi; exit 3"]),
        )
        .unwrap();
    let exit: Exit = client.get(&format!("/v1/agents/{}/wait", detail.agent.aid)).unwrap();
    assert_eq!((exit.status, exit.state), (Some(3), AgentState::TerminatedFailed));
    assert!(running.fake.agents.lock().unwrap().is_empty(), "nothing is left in the kernel");
    let mut output = Vec::new();
    let path = format!("/v1/agents/{}/logs", detail.agent.aid);
    client
        .bytes(&path, |data| {
            output.extend_from_slice(data);
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(output, b"hi\n");
    let kinds: Vec<Kind> =
        records(&client, "?agent=quick").iter().filter_map(|r| r.kind.known()).collect();
    let ends = [Kind::State, Kind::State, Kind::Exit, Kind::State];
    assert_eq!(kinds[0], Kind::Spawn);
    assert!(kinds.contains(&Kind::Grant));
    assert_eq!(kinds[kinds.len() - 4..], ends, "{kinds:?}");
    running.stop();
    let key = audit::keys::load_verifier(&running.daemon.config.audit.join("log.vkey")).unwrap();
    let report =
        audit::verify(&running.daemon.config.audit, &key, &audit::VerifyOptions::default())
            .unwrap();
    assert!(report.is_sound(), "{report:?}");
}

#[test]
fn a_denial_is_one_record_a_state_and_an_explanation() {
    let running = Running::start();
    let client = running.client();
    let detail = spawn(&client, "reader", &["fs.read=/srv"]);
    let aid = aid_of(&running, &detail);
    for sequence in 1..=3 {
        running.fake.deny(aid, denial(aid, "/etc/shadow", sequence));
    }
    // A gap in the sequence is a record of its own.
    running.fake.deny(aid, denial(aid, "/etc/passwd-", 9));
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(300);
    let shown = loop {
        let shown: AgentDetail = client.get("/v1/agents/reader").unwrap();
        if shown.counters.log_kernel_denials == 4 || std::time::Instant::now() > deadline {
            break shown;
        }
    };
    assert_eq!(shown.counters.kernel_denials, shown.counters.log_kernel_denials);
    assert_eq!(shown.agent.state, AgentState::CapDenied);
    assert_eq!(records(&client, "?agent=reader&kind=denial").len(), 4);
    assert_eq!(records(&client, "?kind=gap").len(), 1);
    let told: ExplanationList = client.get("/v1/agents/reader/denials").unwrap();
    assert_eq!(told.total, 4);
    let repeated = told.denials.iter().find(|d| d.object == "/etc/shadow").unwrap();
    assert_eq!(repeated.count, 3);
    assert_eq!(repeated.manifest_line.as_deref(), Some("\"fs.read\" = [\"/etc/shadow\"]"));
    let short = &detail.agent.aid.simple().to_string()[24..];
    let command = format!("coconut cap grant {short} 'fs.read=/etc/shadow'");
    assert_eq!(repeated.command.as_deref(), Some(command.as_str()));
    running.stop();
}

#[test]
fn every_step_of_a_spawn_that_fails_is_named_and_leaves_nothing() {
    let running = Running::start();
    let client = running.client();
    for (broken, step) in [("create", "cgroup"), ("make_set", "rights"), ("launch", "launch")] {
        *running.fake.broken.lock().unwrap() = vec![broken];
        let wanted = request("never", &[], &["/bin/sleep", "60"]);
        let body = refused(client.post::<_, AgentDetail>("/v1/agents", &wanted));
        assert_eq!(body.step.as_deref(), Some(step), "{body:?}");
        assert!(running.fake.agents.lock().unwrap().is_empty(), "{broken} left something");
    }
    running.fake.broken.lock().unwrap().clear();
    let wrong: [(&[&str], &[&str], &str); 3] = [
        (&["fs.read=relative"], &["/bin/true"], "manifest"),
        (&[], &["/no/such/program"], "digest"),
        (&["fs.read=/no/such/folder"], &["/bin/true"], "rights"),
    ];
    for (caps, command, step) in wrong {
        let body =
            refused(client.post::<_, AgentDetail>("/v1/agents", &request("never", caps, command)));
        assert_eq!(body.step.as_deref(), Some(step), "{body:?}");
    }
    let list: AgentList = client.get("/v1/agents?all=true").unwrap();
    assert_eq!(list.agents.len(), 0);
    running.stop();
}

#[test]
fn a_program_starts_when_its_spawn_is_on_record_and_not_before() {
    let running = Running::start();
    let client = running.client();
    running.on(running.daemon.sink.flush());
    let (told, steps) = channel();
    let left = std::sync::atomic::AtomicU32::new(2);
    *running.fake.watch.lock().unwrap() = Some(Box::new(move |step| {
        let less = |left: u32| left.checked_sub(1);
        let order = Ordering::Relaxed;
        // The disk is full for two tries.
        let fails = step == "append to the log" && left.fetch_update(order, order, less).is_ok();
        let _ = told.send(if fails { "no room".to_owned() } else { step.to_owned() });
        fails
    }));
    spawn(&client, "late", &["fs.read=/etc"]);
    let steps: Vec<String> = steps.try_iter().collect();
    let at = |name: &str| steps.iter().position(|step| step == name);
    let (written, runs) = (at("append to the log"), at("launch"));
    assert_eq!(steps.iter().filter(|step| *step == "no room").count(), 2, "{steps:?}");
    assert!(written.is_some() && written < runs, "{steps:?}");
    running.stop();
}

#[test]
fn a_revocation_stops_nobody_who_has_mapped_nothing() {
    let running = Running::start();
    let client = running.client();
    *running.fake.remains.lock().unwrap() = kernel::Remains::Nothing;
    let (told, steps) = channel();
    *running.fake.watch.lock().unwrap() = Some(Box::new(move |step| {
        let _ = told.send(step.to_owned());
        false
    }));
    spawn(&client, "parent", &["fs.read=/etc"]);
    let change =
        CapabilityChange { capability: "fs.read=/etc".into(), expires_ms: None, uses: None };
    let report: ChangeReport = client.post("/v1/agents/parent/revoke", &change).unwrap();
    assert!(report.changed.len() == 1 && report.ended.is_empty(), "{report:?}");
    let steps: Vec<String> = steps.try_iter().collect();
    assert!(steps.iter().any(|step| step == "assign"), "{steps:?}");
    assert!(!steps.iter().any(|step| step == "freeze"), "{steps:?}");
    running.stop();
}

#[test]
fn a_revocation_reaches_descendants_and_ends_who_has_it_mapped() {
    let running = Running::start();
    let client = running.client();
    let caps = ["agent.spawn=2", "fs.read=/etc", "fs.exec=/bin", "fs.exec=/usr/bin"];
    let parent = spawn(&client, "parent", &caps);
    running.become_agent(Some(aid_of(&running, &parent)));
    let child = spawn(&client, "child", &["fs.read=/etc/ssl"]);
    assert_eq!(child.agent.parent, Some(parent.agent.aid));
    running.become_agent(None);
    running.fake.mapped.lock().unwrap().push(kernel::Mapping {
        pid: 1,
        path: "/etc/ssl/openssl.cnf".into(),
        dev: 0,
        ino: 0,
        shared: true,
        writable: false,
    });
    let change =
        CapabilityChange { capability: "fs.read=/etc".into(), expires_ms: None, uses: None };
    let report: ChangeReport = client.post("/v1/agents/parent/revoke", &change).unwrap();
    assert_eq!(report.changed, [parent.agent.aid, child.agent.aid]);
    assert_eq!(report.ended, [parent.agent.aid, child.agent.aid]);
    let exit: Exit = client.get(&format!("/v1/agents/{}/wait", child.agent.aid)).unwrap();
    assert_eq!(exit.state, AgentState::TerminatedRevoked);
    // Not because its parent has: it is looked at first.
    assert!(exit.reason.as_deref().is_some_and(|why| why.contains("mapped")), "{exit:?}");
    let held: CapabilityList =
        client.get(&format!("/v1/agents/{}/capabilities", parent.agent.aid)).unwrap();
    assert!(held.capabilities.iter().all(|c| c.capability != "fs.read=/etc"));
    running.stop();
}

/// What a revocation does to an agent of which the kernel says that so much remains.
fn revoked(remains: kernel::Remains, caps: &[&str], taken: &str) -> (bool, Option<Exit>) {
    let running = Running::start();
    let client = running.client();
    *running.fake.remains.lock().unwrap() = remains;
    spawn(&client, "keeper", caps);
    let change = CapabilityChange { capability: taken.into(), expires_ms: None, uses: None };
    let report: ChangeReport = client.post("/v1/agents/keeper/revoke", &change).unwrap();
    let ended = !report.ended.is_empty();
    let exit = ended.then(|| client.get("/v1/agents/keeper/wait").unwrap());
    running.stop();
    (ended, exit)
}

#[test]
fn who_keeps_what_cannot_be_taken_back_is_ended_by_the_right_that_gave_it() {
    use kernel::Remains::{Kept, Pinned};
    let both = ["fs.read=/etc", "fs.write=/etc"];
    let (ended, exit) = revoked(Kept, &both, "fs.read=/etc");
    let exit = exit.unwrap();
    assert!(ended && exit.state == AgentState::TerminatedRevoked, "{exit:?}");
    let why = exit.reason.unwrap_or_default();
    assert!(why.contains("fs.read=/etc") && why.contains("cannot be taken back"), "{why}");
    // Nothing is got by the right to write alone, but pages of what is mapped can be written to.
    assert!(!revoked(Kept, &both, "fs.write=/etc").0);
    assert!(revoked(Pinned, &both, "fs.write=/etc").0);
    // Another rule gives the same.
    assert!(!revoked(Kept, &["fs.read=/etc/ssl", "fs.read=/etc"], "fs.read=/etc/ssl").0);
}

#[test]
fn who_pins_what_it_had_mapped_while_it_is_looked_at_is_ended() {
    let running = Running::start();
    let client = running.client();
    running.fake.pins_meanwhile.store(true, Ordering::Relaxed);
    spawn(&client, "keeper", &["fs.read=/etc"]);
    let change =
        CapabilityChange { capability: "fs.read=/etc".into(), expires_ms: None, uses: None };
    let report: ChangeReport = client.post("/v1/agents/keeper/revoke", &change).unwrap();
    assert_eq!(report.ended.len(), 1, "{report:?}");
    running.stop();
}

#[test]
fn a_child_never_holds_what_its_parent_lacks() {
    let running = Running::start();
    let client = running.client();
    let caps = ["agent.spawn=1", "fs.read=/srv", "fs.exec=/bin", "fs.exec=/usr/bin"];
    let parent = spawn(&client, "parent", &caps);
    running.become_agent(Some(aid_of(&running, &parent)));
    let wanted = request("child", &["fs.read=/etc"], &["/bin/sleep", "60"]);
    let body = refused(client.post::<_, AgentDetail>("/v1/agents", &wanted));
    assert_eq!((body.code, body.step.as_deref()), (ErrorCode::Denied, Some("attenuation")));
    assert!(body.error.contains("fs.read=/etc"), "{}", body.error);
    spawn(&client, "child", &["fs.read=/srv"]);
    let wanted = request("second", &[], &["/bin/sleep", "60"]);
    let body = refused(client.post::<_, AgentDetail>("/v1/agents", &wanted));
    assert!(body.error.contains("1 agents below"), "{}", body.error);
    running.become_agent(None);
    // Each refused call is exactly one denial record.
    let denied = records(&client, "?agent=parent&kind=denial");
    assert_eq!(denied.len(), 2);
    assert_eq!(denied[0].capability, abi::Capability::AgentSpawn);
    running.stop();
}

#[test]
fn a_link_out_of_the_parents_folder_is_no_way_out() {
    let running = Running::start();
    let client = running.client();
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("link");
    std::os::unix::fs::symlink("/etc", &link).unwrap();
    let own = format!("fs.read={}", folder.path().display());
    let parent = spawn(&client, "parent", &["agent.spawn=1", &own, "fs.exec=/usr/bin"]);
    running.become_agent(Some(aid_of(&running, &parent)));
    let wanted = request("child", &[&format!("fs.read={}", link.display())], &["/bin/sleep", "9"]);
    let body = refused(client.post::<_, AgentDetail>("/v1/agents", &wanted));
    assert_eq!(body.step.as_deref(), Some("attenuation"));
    assert!(body.error.contains("`fs.read=/etc`"), "{}", body.error);
    // And a link that leads to what the parent holds is fine: /bin is /usr/bin.
    spawn(&client, "child", &[&own]);
    running.become_agent(None);
    running.stop();
}

#[test]
fn an_agent_reaches_only_its_descendants() {
    let running = Running::start();
    let client = running.client();
    let one = spawn(&client, "one", &[]);
    let other = spawn(&client, "other", &["audit.read=own"]);
    running.become_agent(Some(aid_of(&running, &one)));
    let body = refused(client.post::<_, Exit>("/v1/agents/other/kill", &()));
    assert_eq!(body.code, ErrorCode::Denied);
    let seen: AgentList = client.get("/v1/agents").unwrap();
    assert_eq!(seen.agents.len(), 1, "it sees itself alone");
    assert_eq!(refused(client.get::<LaneList>("/v1/lanes")).code, ErrorCode::Denied);
    let lines =
        client.lines::<api::audit::Record>("/v1/audit/records", |_| ControlFlow::Continue(()));
    assert_eq!(refused(lines).code, ErrorCode::Denied);
    running.become_agent(Some(aid_of(&running, &other)));
    let own = records(&client, "");
    assert!(!own.is_empty() && own.iter().all(|r| r.agent == other.agent.aid));
    running.become_agent(None);
    assert_eq!(records(&client, "?agent=one&kind=denial").len(), 3);
    running.stop();
}

#[test]
fn quarantine_lanes_and_names() {
    let running = Running::start();
    let client = running.client();
    let detail = spawn(&client, "steady", &["infer"]);
    let aid = aid_of(&running, &detail);
    let agent: api::Agent = client.post("/v1/agents/steady/quarantine", &()).unwrap();
    assert_eq!(agent.state, AgentState::Quarantined);
    assert!(running.fake.agents.lock().unwrap()[&aid].frozen);
    let agent: api::Agent = client.post("/v1/agents/steady/release", &()).unwrap();
    assert_eq!(agent.state, AgentState::Active);
    let lanes: LaneList = client
        .put("/v1/lanes", &LaneChange::Tenant { tenant: "maya".into(), weight: 300 })
        .unwrap();
    assert_eq!((lanes.tenants[0].weight, lanes.tenants[0].agents[0].infer), (300, true));
    let suffix = &detail.agent.aid.simple().to_string()[26..];
    let found: AgentDetail = client.get(&format!("/v1/agents/{suffix}")).unwrap();
    assert_eq!(found.agent.aid, detail.agent.aid);
    assert_eq!(refused(client.get::<AgentDetail>("/v1/agents/nobody")).code, ErrorCode::NotFound);
    assert_eq!(lanes_of(&client).len(), 1);
    running.stop();
}

#[test]
fn a_quarantine_reaches_all_below_and_its_release_those_that_it_reached() {
    let running = Running::start();
    let client = running.client();
    let parent = spawn(&client, "parent", &["agent.spawn=3", "fs.exec=/bin", "fs.exec=/usr/bin"]);
    running.become_agent(Some(aid_of(&running, &parent)));
    let (child, held) = (spawn(&client, "child", &[]), spawn(&client, "held", &[]));
    running.become_agent(None);
    let step = |name: &str, step: &str| {
        client.post::<_, api::Agent>(&format!("/v1/agents/{name}/{step}"), &()).unwrap()
    };
    let states = || {
        [&parent, &child, &held].map(|detail| {
            let aid = aid_of(&running, detail);
            let name = &detail.agent.name;
            let told = client.get::<AgentDetail>(&format!("/v1/agents/{name}")).unwrap();
            let frozen = running.fake.agents.lock().unwrap()[&aid].frozen;
            assert_eq!(frozen, told.agent.state == AgentState::Quarantined, "{name}");
            frozen
        })
    };
    step("held", "quarantine");
    step("parent", "quarantine");
    assert_eq!(states(), [true; 3]);
    let evidence: api::agent::Evidence = client.get("/v1/agents/parent/evidence").unwrap();
    let of: Vec<_> = evidence.agents.iter().map(|one| one.detail.agent.aid).collect();
    assert_eq!(of[0], parent.agent.aid);
    assert!(of.len() == 3 && of.contains(&child.agent.aid) && of.contains(&held.agent.aid));
    step("parent", "release");
    assert_eq!(states(), [false, false, true], "its own quarantine is not its parent's");
    // One of the reached that is released by itself is reached no more.
    step("parent", "quarantine");
    step("child", "release");
    step("child", "quarantine");
    step("parent", "release");
    assert_eq!(states(), [false, true, true]);
    running.stop();
}

/// The broker's first page of lanes.
fn lanes_of(client: &Client) -> Vec<api::broker::Lane> {
    let mut lanes = Vec::new();
    client
        .lines::<api::broker::LaneEvent>("/v1/broker/lanes", |event| match event {
            api::broker::LaneEvent::Set { lane } => {
                lanes.push(lane);
                ControlFlow::Continue(())
            }
            _ => ControlFlow::Break(()),
        })
        .unwrap();
    lanes
}

#[test]
fn a_childs_lane_is_part_of_its_parents() {
    let running = Running::start();
    let client = running.client();
    let parent = spawn(&client, "parent", &["infer", "agent.spawn=3", "fs.exec=/usr/bin"]);
    running.become_agent(Some(aid_of(&running, &parent)));
    let child = spawn(&client, "child", &["infer"]).agent.aid;
    running.become_agent(None);
    let above = |lanes: &[api::broker::Lane]| -> Vec<(uuid::Uuid, u32)> {
        let lane = lanes.iter().find(|lane| lane.agent == child).unwrap();
        lane.above.iter().map(|above| (above.agent, above.weight)).collect()
    };
    assert_eq!(above(&lanes_of(&client)), [(parent.agent.aid, 100)]);
    let mut told = running.daemon.inner().feed.lanes.listen();
    let wanted = LaneChange::Agent { agent: "parent".into(), weight: 120 };
    let lanes: LaneList = client.put("/v1/lanes", &wanted).unwrap();
    let lines: Vec<_> =
        lanes.tenants[0].agents.iter().map(|a| (a.name.as_str(), a.depth, a.weight)).collect();
    assert_eq!(lines, [("parent", 0, 120), ("child", 1, 100)]);
    // It weighs what it did, and has another part of the whole: the broker must know.
    let mut changed = Vec::new();
    while let Some(Ok((_, event))) = told.take() {
        let api::broker::LaneEvent::Set { lane } = &*event else { continue };
        changed.push(lane.clone());
    }
    assert_eq!(above(&changed), [(parent.agent.aid, 120)]);
    running.stop();
}

#[test]
fn a_name_without_end_is_one_record_and_nothing_waits_for_it() {
    let running = Running::start();
    let client = running.client();
    let agent = spawn(&client, "reader", &["audit.read=own"]);
    running.become_agent(Some(aid_of(&running, &agent)));
    let (signature, tenant, name, capabilities) = (None, None, None, Vec::new());
    let (path, text) = ("A".repeat(300_000), "x".to_owned());
    let source = SpawnSource::Manifest { path, text, signature, tenant, name, capabilities };
    let wanted = SpawnRequest { source, ..request("x", &[], &[]) };
    assert_eq!(
        refused(client.post::<_, AgentDetail>("/v1/agents", &wanted)).code,
        ErrorCode::Denied
    );
    running.become_agent(None);
    spawn(&client, "another", &[]);
    let denied = records(&client, "?agent=reader&kind=denial");
    assert_eq!(denied.len(), 1);
    assert_eq!(denied[0].cut as usize + denied[0].object.len(), "spawn ".len() + 300_000);
    running.stop();
}

/// Else a hundred of them in one process use up all its descriptors, and the next waits for ever for its log.
#[test]
fn a_daemon_that_nobody_holds_is_gone() {
    let running = Running::start();
    spawn(&running.client(), "one", &["fs.read=/etc"]);
    let daemon = Arc::downgrade(&running.daemon);
    running.stop();
    drop(running);
    let gone = (0..600).any(|_| {
        std::thread::sleep(Duration::from_millis(100));
        daemon.strong_count() == 0
    });
    assert!(gone, "{} still hold it", daemon.strong_count());
}

#[test]
fn who_waits_for_a_model_is_shown_so_and_each_step_is_on_record() {
    let running = Running::start();
    let client = running.client();
    let [one, two] = ["one", "two"].map(|name| spawn(&client, name, &["infer"]).agent.aid);
    let tell = |told: api::broker::Waiting| {
        client.post::<_, Option<()>>("/v1/broker/waiting", &told).unwrap();
    };
    let waits = || {
        [one, two].map(|aid| {
            let shown: AgentDetail = client.get(&format!("/v1/agents/{aid}")).unwrap();
            shown.agent.state == AgentState::InferenceBlocked
        })
    };
    tell(api::broker::Waiting { began: vec![one, two, one], ..Default::default() });
    assert_eq!(waits(), [true, true]);
    tell(api::broker::Waiting { ended: vec![one, uuid::Uuid::from_u128(7)], ..Default::default() });
    assert_eq!(waits(), [false, true]);
    // A broker that begins anew: whom it does not name does not wait.
    tell(api::broker::Waiting { afresh: true, began: vec![one], ended: Vec::new() });
    assert_eq!(waits(), [true, false]);
    // One that is frozen waits for nothing that it would be given.
    let aid = one;
    let step = |what: &str| {
        client.post::<_, api::Agent>(&format!("/v1/agents/{aid}/{what}"), &()).unwrap()
    };
    assert_eq!(step("quarantine").state, AgentState::Quarantined);
    tell(api::broker::Waiting { ended: vec![one], ..Default::default() });
    assert_eq!(step("release").state, AgentState::Active);
    let of_two = records(&client, "?agent=two&kind=state");
    let steps: Vec<&str> = of_two.iter().map(|record| record.object.as_str()).collect();
    assert_eq!(&steps[steps.len() - 2..], ["inference-blocked", "active"]);
    running.become_agent(Some(aid_of(&running, &client.get("/v1/agents/two").unwrap())));
    let told = api::broker::Waiting { afresh: true, ..Default::default() };
    let denied = refused(client.post::<_, Option<()>>("/v1/broker/waiting", &told));
    assert_eq!(denied.code, ErrorCode::Denied, "it is the broker's alone to say");
    running.become_agent(None);
    running.stop();
}
