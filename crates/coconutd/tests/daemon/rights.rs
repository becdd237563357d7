//! What a name leads to is what is compared: with the key that signed, with the parent, with what is
//! held already.

use crate::fake::Running;
use crate::fake::requests::ad_hoc;
use abi::{AgentId, Kind};
use api::agent::{CapabilityChange, CapabilityList, ChangeReport, ExplanationList, SpawnSource};
use api::client::{Client, ClientError};
use api::{AgentDetail, ErrorBody, ErrorCode, SpawnRequest};
use attest::SecretKey;
use kernel::KernelScope;
use std::ops::ControlFlow;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

fn spawn_request(source: SpawnSource, command: &[&str]) -> SpawnRequest {
    SpawnRequest {
        source,
        args: command.iter().map(|word| (*word).to_owned()).collect(),
        cwd: None,
        env: Vec::new(),
        allow_unsigned: false,
        stdio: None,
    }
}

fn refused<T: std::fmt::Debug>(answer: Result<T, ClientError>) -> ErrorBody {
    match answer.unwrap_err() {
        ClientError::Refused(body) => body,
        other => panic!("not a refusal: {other:?}"),
    }
}

fn folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let root = std::fs::canonicalize(folder.path()).unwrap();
    (folder, root)
}

/// A daemon that trusts a vendor's key with these grants, and a signed spawn of a manifest.
fn vendor(grants: &[String]) -> (Running, SecretKey) {
    let key = SecretKey::generate("vendor").unwrap();
    let running = Running::start_with(|config| {
        let trust = &config.trust[0];
        std::fs::create_dir_all(trust).unwrap();
        std::fs::write(trust.join("vendor.pub"), format!("{}\n", key.public())).unwrap();
        let text = format!("grants = {grants:?}\ntenants = [\"poc\"]\n");
        std::fs::write(trust.join("vendor.toml"), text).unwrap();
    });
    (running, key)
}

fn signed(key: &SecretKey, command: &str, agent: &str, capabilities: &str) -> SpawnRequest {
    let text = format!(
        "[agent]\nname = \"p\"\ntenant = \"poc\"\ncommand = [\"{command}\", \"600\"]\n{agent}\n[capabilities]\n{capabilities}\n"
    );
    let manifest = manifest::Manifest::parse("p.toml", &text).unwrap();
    let facts = coconutd::trust::facts(&manifest);
    let signature = Some(attest::sign_manifest(text.as_bytes(), &facts, key, 1).to_json());
    let (tenant, name, capabilities) = (None, None, Vec::new());
    let path = "/x/p.toml".into();
    spawn_request(SpawnSource::Manifest { path, text, signature, tenant, name, capabilities }, &[])
}

#[test]
fn what_is_counted_is_shown_and_added_to() {
    let running = Running::start();
    let client = running.client();
    let detail: AgentDetail = client.post("/v1/agents", &ad_hoc("counted", &[])).unwrap();
    let path = |what: &str| format!("/v1/agents/{}/{what}", detail.agent.aid);
    let ask = |what: &str, capability: &str, expires_ms, uses| {
        let body = CapabilityChange { capability: capability.into(), expires_ms, uses };
        client.post::<_, ChangeReport>(&path(what), &body)
    };
    let left = || -> Vec<(String, Option<u64>, bool)> {
        let held: CapabilityList = client.get(&path("capabilities")).unwrap();
        let granted = held.capabilities.into_iter().filter(|held| held.source == "grant");
        granted.map(|h| (h.capability, h.uses_left, h.expires_ns.is_some())).collect()
    };
    let etc = "fs.read=/etc/passwd".to_owned();
    ask("grant", &etc, None, Some(2)).unwrap();
    assert_eq!(left(), [(etc.clone(), Some(2), false)]);
    ask("grant", "fs.read=/etc/passwd;uses=3;expires=1h", None, None).unwrap();
    assert_eq!(left(), [(etc.clone(), Some(5), false)], "never shorter");
    ask("grant", &etc, Some(3_600_000), None).unwrap();
    assert_eq!(left(), [(etc.clone(), Some(5), false), (etc.clone(), None, true)]);
    // The least of what is said twice.
    ask("grant", "fs.read=/etc/group;uses=9", None, Some(4)).unwrap();
    assert_eq!(left()[2], ("fs.read=/etc/group".to_owned(), Some(4), false));
    for (capability, uses) in [(etc.as_str(), Some(0)), ("net.raw=true", Some(1))] {
        let refusal = refused(ask("grant", capability, None, uses));
        assert_eq!(refusal.code, ErrorCode::Usage, "{refusal:?}");
    }
    assert_eq!(refused(ask("revoke", &etc, None, Some(1))).code, ErrorCode::Usage);
    ask("revoke", &etc, None, None).unwrap();
    assert_eq!(left().len(), 1);
    running.stop();
}

#[test]
fn a_key_gives_what_names_lead_to_and_no_more() {
    let (_folder, root) = folder();
    let at = |name: &str| root.join(name).display().to_string();
    std::fs::create_dir_all(root.join("vendor/own")).unwrap();
    std::fs::create_dir(root.join("secret")).unwrap();
    symlink(root.join("secret"), root.join("vendor/data")).unwrap();
    symlink("/usr/bin/env", root.join("vendor/tool")).unwrap();
    std::fs::copy("/usr/bin/sleep", root.join("vendor/sleep")).unwrap();
    let grants = [format!("fs.read={}", at("vendor")), format!("fs.exec={}", at("vendor"))];
    let (running, key) = vendor(&grants);
    let client = running.client();
    let ask = |command: &str, agent: &str, capabilities: &str| {
        client.post::<_, AgentDetail>("/v1/agents", &signed(&key, command, agent, capabilities))
    };
    let own = at("vendor/sleep");
    let read = |name: &str| format!("\"fs.read\" = [\"{}\"]", at(name));
    // The control: its own folder and program are its own to give.
    ask(&own, "", &read("vendor/own")).unwrap();
    let wrong: [(&str, &str, String, &str); 4] = [
        (&own, "", read("vendor/data"), "secret"),
        ("/usr/bin/sleep", "", String::new(), "fs.exec=/usr/bin/sleep"),
        (&at("vendor/tool"), "", String::new(), "fs.exec=/usr/bin/env"),
        (&own, "user = \"daemon\"", String::new(), "user=daemon"),
    ];
    for (command, agent, capabilities, named) in wrong {
        let body = refused(ask(command, agent, &capabilities));
        assert_eq!((body.code, body.step.as_deref()), (ErrorCode::Denied, Some("signature")));
        assert!(body.error.contains(named), "{}", body.error);
    }
    running.stop();
}

#[test]
fn a_profile_of_the_keys_contains_its_programs_and_a_user_can_be_granted() {
    let grants = ["@shell".to_owned(), "user=daemon".to_owned(), "fs.exec=/usr/bin".to_owned()];
    let (running, key) = vendor(&grants);
    let client = running.client();
    let ask = |request| client.post::<_, AgentDetail>("/v1/agents", &request);
    ask(signed(&key, "/usr/bin/sleep", "user = \"daemon\"", "\"fs.read\" = [\"@shell\"]")).unwrap();
    let body = refused(ask(signed(&key, "/usr/bin/sleep", "", "\"fs.read\" = [\"@git\"]")));
    assert!(body.error.contains("@git"), "{}", body.error);
    running.stop();
}

#[test]
fn a_folder_that_is_swapped_is_not_the_parents() {
    let (_folder, root) = folder();
    let at = |name: &str| root.join(name).display().to_string();
    for name in ["x", "other"] {
        std::fs::create_dir(root.join(name)).unwrap();
    }
    let running = Running::start();
    let own = format!("fs.read={}", at("x"));
    let parent = running.spawned("parent", &["agent.spawn=2", &own, "fs.exec=/usr/bin"]);
    running.become_agent(Some(parent));
    // The control: what it holds it may give.
    running.client().post::<_, AgentDetail>("/v1/agents", &ad_hoc("child", &[&own])).unwrap();
    // Somebody else's folder comes to have the name: the words are the parent's, the folder is not.
    std::fs::rename(root.join("x"), root.join("gone")).unwrap();
    std::fs::rename(root.join("other"), root.join("x")).unwrap();
    let body =
        refused(running.client().post::<_, AgentDetail>("/v1/agents", &ad_hoc("second", &[&own])));
    assert_eq!((body.code, body.step.as_deref()), (ErrorCode::Denied, Some("attenuation")));
    running.become_agent(None);
    running.stop();
}

fn file_of(running: &Running, aid: AgentId, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let ino = std::fs::metadata(path).unwrap().ino();
    let rules = running.fake.rules(aid);
    rules
        .iter()
        .any(|rule| matches!(&rule.scope, KernelScope::File(handle) if handle.node().ino == ino))
}

fn denied(running: &Running, aid: AgentId, path: &str) {
    use zerocopy::FromZeros;
    let mut event = abi::event::Event::new_zeroed();
    event.time_ns = coconutd::clock::boot_ns();
    event.aid = aid.0;
    event.sequence = 1;
    event.kind = abi::event::EVENT_DENIAL;
    event.hook = abi::event::Hook::FileOpen as u32;
    event.verdict = -13;
    event.wanted = abi::caps::RIGHT_READ;
    event.object[..path.len()].copy_from_slice(path.as_bytes());
    event.object_len = u32::try_from(path.len()).unwrap();
    running.fake.deny(aid, event);
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_replaced_file_is_told_and_the_command_that_is_named_mends_it() {
    let (_folder, root) = folder();
    let conf = root.join("conf");
    std::fs::write(&conf, "v1").unwrap();
    let running = Running::start();
    let rule = format!("fs.read={}", conf.display());
    let aid = running.spawned("reader", &[&rule]);
    assert!(file_of(&running, aid, &conf));
    std::fs::write(root.join("new"), "v2").unwrap();
    std::fs::rename(root.join("new"), &conf).unwrap();
    assert!(!file_of(&running, aid, &conf), "a right is on a file, not on a name");
    denied(&running, aid, &conf.display().to_string());
    let explain =
        || -> ExplanationList { running.client().get("/v1/agents/reader/denials").unwrap() };
    until("it is told", || !explain().denials.is_empty());
    let told = explain().denials.remove(0);
    assert!(told.refused_by.contains("replaced"), "{}", told.refused_by);
    let command = told.command.unwrap();
    let capability = command.split('\'').nth(1).unwrap().to_owned();
    assert_eq!(capability, rule, "{command}");
    let change = CapabilityChange { capability, expires_ms: None, uses: None };
    let done: ChangeReport = running.client().post("/v1/agents/reader/grant", &change).unwrap();
    assert_eq!(done.changed.len(), 1);
    assert!(file_of(&running, aid, &conf));
    let held: CapabilityList = running.client().get("/v1/agents/reader/capabilities").unwrap();
    assert_eq!(
        held.capabilities.iter().filter(|c| c.capability == rule).count(),
        1,
        "in its place"
    );
    running.stop();
}

#[test]
fn what_the_system_replaces_is_followed_and_what_an_agent_could_is_not() {
    let running = Running::start();
    let aid = running.spawned("asks", &["infer"]);
    let socket = running.daemon.config.broker_socket();
    for _ in 0..2 {
        // The broker starts anew, with a socket of its own making.
        let _ = std::fs::remove_file(&socket);
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        until("the socket is followed", || file_of(&running, aid, &socket));
    }
    running.stop();
}

#[test]
fn a_host_name_leads_children_where_it_led_their_parent() {
    let running = Running::start();
    let rule = "net.connect=localhost:80";
    let parent = running.spawned("parent", &["agent.spawn=2", rule, "fs.exec=/usr/bin"]);
    running.become_agent(Some(parent));
    let detail: AgentDetail =
        running.client().post("/v1/agents", &ad_hoc("child", &[rule])).unwrap();
    running.become_agent(None);
    let child = running.daemon.inner().supervisor.by_uuid(detail.agent.aid).unwrap().aid;
    let hosts = |aid| {
        let rules = running.fake.rules(aid);
        let nets =
            rules.iter().filter(|rule| matches!(rule.scope, KernelScope::Net { port: 80, .. }));
        nets.map(|rule| format!("{:?}", rule.scope)).collect::<Vec<_>>()
    };
    assert!(!hosts(parent).is_empty());
    assert_eq!(hosts(parent), hosts(child));
    running.stop();
}

#[test]
fn all_of_one_manifest_share_its_sets_and_the_last_takes_them_along() {
    let running = Running::start();
    let count = || running.fake.sets.lock().unwrap().len();
    running.spawned("first", &["fs.read=/etc", "infer"]);
    let one = count();
    for name in ["second", "third", "fourth"] {
        running.spawned(name, &["fs.read=/etc", "infer"]);
    }
    assert_eq!(count(), one, "no copies");
    running.spawned("other", &["fs.read=/usr", "infer"]);
    assert_eq!(count(), one + 1, "its own lines alone");
    let client = running.client();
    for name in ["first", "second", "third", "fourth", "other"] {
        client.post::<_, api::Exit>(&format!("/v1/agents/{name}/kill"), &()).unwrap();
    }
    // The system's are held by the daemon.
    assert_eq!(count(), one - 1);
    running.stop();
}

fn rights(client: &Client, name: &str) -> CapabilityList {
    client.get(&format!("/v1/agents/{name}/capabilities")).unwrap()
}

#[test]
fn what_an_agent_has_at_its_launch_is_shown_recorded_and_nobodys_to_pass_on() {
    let running = Running::start();
    let client = running.client();
    let parent = running.spawned("parent", &["agent.spawn=2", "fs.exec=/usr/bin", "infer"]);
    let list = rights(&client, "parent").capabilities;
    let launch: Vec<_> = list.iter().filter(|held| held.source == "launch").collect();
    for wanted in ["fs.read=/proc", "fs.write=/tmp", "fs.read=/ ", "fs.write=pipe:", "/dev/null"] {
        assert!(launch.iter().any(|held| held.capability.contains(wanted)), "{wanted}: {launch:?}");
    }
    assert!(launch.iter().all(|held| held.rule == 0));
    for implied in ["infer", "agent.spawn", "@base"] {
        assert!(list.iter().any(|held| held.source == implied), "{implied}");
    }
    let mut told = false;
    client
        .lines("/v1/audit/records?agent=parent&kind=grant", |record: api::audit::Record| {
            assert_eq!(record.kind, Kind::Grant);
            told |=
                record.detail.contains("from=launch") && record.detail.contains("fs.read=/proc");
            ControlFlow::Continue(())
        })
        .unwrap();
    assert!(told, "it is in the log");
    running.become_agent(Some(parent));
    for private in ["fs.read=/proc", "fs.write=/tmp", "fs.read=/"] {
        let body =
            refused(client.post::<_, AgentDetail>("/v1/agents", &ad_hoc("child", &[private])));
        assert_eq!(body.step.as_deref(), Some("attenuation"), "{private}: {body:?}");
    }
    running.become_agent(None);
    running.stop();
}

#[test]
fn a_childs_budget_is_part_of_its_parents() {
    let running = Running::start();
    let manifest = |name: &str, memory: &str, lane: &str| {
        let text = format!(
            "[agent]\nname = \"{name}\"\ntenant = \"maya\"\ncommand = [\"/usr/bin/sleep\", \"600\"]\n[capabilities]\n\"agent.spawn\" = {{ count = 2 }}\n[lane]\nweight = {lane}\n[memory]\nram = \"{memory}\"\n"
        );
        let (signature, tenant, name, capabilities) = (None, None, None, Vec::new());
        let path = "/x/m.toml".into();
        let source = SpawnSource::Manifest { path, text, signature, tenant, name, capabilities };
        SpawnRequest { allow_unsigned: true, ..spawn_request(source, &[]) }
    };
    let client = running.client();
    let ask = |request| client.post::<_, AgentDetail>("/v1/agents", &request);
    let top = ask(manifest("top", "64MiB", "50")).unwrap();
    let aid = running.daemon.inner().supervisor.by_uuid(top.agent.aid).unwrap().aid;
    running.become_agent(Some(aid));
    assert!(refused(ask(manifest("large", "65MiB", "50"))).error.contains("64MiB"));
    assert!(refused(ask(manifest("heavy", "64MiB", "51"))).error.contains("weight 50"));
    let child = ask(manifest("child", "64MiB", "50")).unwrap();
    let below = running.daemon.inner().supervisor.by_uuid(child.agent.aid).unwrap().aid;
    running.become_agent(Some(below));
    ask(manifest("leaf", "1MiB", "1")).unwrap();
    // Two below the top: the child's own count does not make it more.
    let body = refused(ask(manifest("more", "1MiB", "1")));
    assert!(body.error.contains("`top` may have 2 agents"), "{}", body.error);
    running.become_agent(None);
    running.stop();
}

/// What a right is of no use without comes with it, whether a manifest or a grant gives it.
#[test]
fn a_granted_right_brings_what_it_implies() {
    let running = Running::start();
    let implied = |aid: AgentId| -> Vec<String> {
        let inner = running.daemon.inner();
        let held: Vec<_> = inner.supervisor.get(aid).unwrap().held().collect();
        let implied =
            held.iter().filter(|held| matches!(held.rule.origin, manifest::Origin::Implied { .. }));
        implied.map(|held| held.rule.rule.to_string()).collect()
    };
    for (right, needs) in [
        ("infer", "net.connect=127.0.0.1"),
        ("agent.spawn=2", "api.sock"),
        ("agent.signal=descendants", "api.sock"),
        ("audit.read=own", "api.sock"),
    ] {
        let kind = right.split('=').next().unwrap();
        let (told, asked) = (format!("told-{kind}"), format!("asked-{kind}"));
        let from_start = implied(running.spawned(&told, &[right]));
        let aid = running.spawned(&asked, &[]);
        assert!(implied(aid).is_empty(), "the control: {right}");
        let change = CapabilityChange { capability: right.into(), expires_ms: None, uses: None };
        let path = format!("/v1/agents/{asked}/grant");
        for _ in 0..2 {
            running.client().post::<_, ChangeReport>(&path, &change).unwrap();
        }
        assert_eq!(implied(aid), from_start, "{right}, granted twice");
        assert!(from_start.iter().any(|rule| rule.contains(needs)), "{right}: {from_start:?}");
        // The kernel has as many as the books.
        let inner = running.daemon.inner();
        let held = inner.supervisor.get(aid).unwrap().sets().len();
        assert_eq!(running.fake.agents.lock().unwrap()[&aid].sets.len(), held, "{right}");
        drop(inner);
        let on_record = implied(aid).iter().all(|rule| {
            let (_, value) = rule.split_once('=').unwrap();
            granted(&running, &asked).iter().any(|object| object == value)
        });
        assert!(on_record, "{right}: what it implies is not on record");
    }
    running.stop();
}

/// Objects of an agent's grants in the log.
fn granted(running: &Running, name: &str) -> Vec<String> {
    let mut all = Vec::new();
    let path = format!("/v1/audit/records?agent={name}&kind={}", Kind::Grant.name());
    let seen: Result<(), ClientError> =
        running.client().lines(&path, |record: api::audit::Record| {
            all.push(record.object);
            ControlFlow::Continue(())
        });
    seen.unwrap();
    all
}
