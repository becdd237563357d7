//! Every change is all of it or nothing: whoever hangs up, whatever fails, at every step.
//!
//! The steps are not listed here. They are what the daemon asks of the kernel, of the look-ups and of
//! the log while it makes a change; each is tried until one is not reached any more, so a new one is
//! covered when it comes.

use crate::fake::Running;
use crate::fake::requests::ad_hoc;
use abi::{AgentId, AgentState, Kind};
use api::agent::CapabilityChange;
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::ops::ControlFlow;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// What happens at a step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Blow {
    /// The kernel, the look-up or the disk refuses, once.
    Failure,
    /// The client is gone before the step goes on.
    HangUp,
}

/// A change, from a state that [`Change::prepare`] makes.
struct Change {
    name: &'static str,
    prepare: fn(&Running),
    request: fn() -> (&'static str, Vec<u8>),
    /// How it may end: what is true of the agents and of the log.
    outcome: fn(&Running) -> Result<(), String>,
    /// Steps that must be among those that were tried.
    through: &'static [&'static str],
}

/// A parent with a child, both hold what is going to be changed.
fn family(running: &Running) {
    let rights = ["agent.spawn=3", "fs.read=/etc", "fs.exec=/usr/bin"];
    let parent = running.spawned("subject", &rights);
    running.become_agent(Some(parent));
    running.spawned("child", &["fs.read=/etc/ssl"]);
    running.become_agent(None);
}

fn held(running: &Running, name: &str, rule: &str) -> Option<bool> {
    let inner = running.daemon.inner();
    let aid = inner.supervisor.resolve(name).ok()?;
    let agent = inner.supervisor.get(aid).ok().filter(|agent| !agent.state().is_terminal())?;
    Some(agent.held().any(|held| held.rule.rule.to_string() == rule))
}

fn records(running: &Running, name: &str, kind: Kind) -> Vec<api::audit::Record> {
    let mut all = Vec::new();
    let path = format!("/v1/audit/records?agent={name}&kind={}", kind.name());
    // Nobody of that name is nothing in the log.
    let _ = running.client().lines(&path, |record| {
        all.push(record);
        ControlFlow::Continue(())
    });
    all
}

fn ensure(holds: bool, what: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what.to_owned()) }
}

/// A parent that starts an agent, beside others that are being started.
fn above(running: &Running, others: u32) {
    let parent = running.spawned("above", &["agent.spawn=3", "fs.read=/etc", "fs.exec=/usr/bin"]);
    running.become_agent(Some(parent));
    running.daemon.starting.store(others, Ordering::Relaxed);
}

fn spawning() -> (&'static str, Vec<u8>) {
    let body = ad_hoc("subject", &["fs.read=/etc/ssl"]);
    ("/v1/agents", serde_json::to_vec(&body).unwrap())
}

/// There is a child with its right, its place below its parent and its records, or nothing of it.
fn spawned_or_not(running: &Running) -> Result<(), String> {
    let there = held(running, "subject", "fs.read=/etc/ssl");
    let above = running.daemon.inner().supervisor.resolve("above").unwrap();
    let below = running.daemon.inner().supervisor.get(above).unwrap().below();
    ensure(below == u32::from(there.is_some()), "the parent's count")?;
    ensure(there.unwrap_or(true), "it lives without its right")?;
    if there.is_some() {
        let (spawns, grants) =
            (records(running, "subject", Kind::Spawn), records(running, "subject", Kind::Grant));
        ensure(spawns.len() == 1 && grants.len() >= 2, "it lives and is not on record")?;
    }
    Ok(())
}

const SPAWNING: &[&str] = &[
    "open the program",
    "look up rules",
    "handle",
    "make_set",
    "create",
    "tenant_weight",
    "append to the log",
    "set_state",
    "prepare",
    "launch",
];

const CHANGES: [Change; 8] = [
    Change {
        name: "spawn",
        prepare: |running| above(running, 0),
        request: spawning,
        outcome: spawned_or_not,
        through: SPAWNING,
    },
    Change {
        name: "spawn among others",
        prepare: |running| above(running, 1),
        request: spawning,
        outcome: spawned_or_not,
        through: SPAWNING,
    },
    Change {
        name: "grant",
        prepare: family,
        request: || ("/v1/agents/subject/grant", change("fs.read=/usr/share")),
        outcome: |running| {
            let granted = held(running, "subject", "fs.read=/usr/share") == Some(true);
            let told = records(running, "subject", Kind::Grant);
            let told = told.iter().any(|record| record.object == "/usr/share");
            ensure(granted == told, "a grant that is not on record, or a record without a grant")
        },
        through: &["look up rules", "make_set", "assign", "append to the log"],
    },
    Change {
        name: "revoke",
        prepare: family,
        request: || ("/v1/agents/subject/revoke", change("fs.read=/etc")),
        outcome: |running| {
            let (above, below) = (
                held(running, "subject", "fs.read=/etc"),
                held(running, "child", "fs.read=/etc/ssl"),
            );
            let gone = above != Some(true);
            ensure(gone == (below != Some(true)), "half a revocation")?;
            let told = |name| !records(running, name, Kind::Revoke).is_empty();
            // Whoever could not be narrowed has been ended, with the same record.
            ensure(
                !gone || (told("subject") && told("child")),
                "a revocation that is not on record",
            )
        },
        through: &["make_set", "assign", "append to the log", "freeze", "live_mappings", "thaw"],
    },
    Change {
        name: "quarantine",
        prepare: family,
        request: || ("/v1/agents/subject/quarantine", b"null".to_vec()),
        outcome: |running| {
            let aid = running.daemon.inner().supervisor.resolve("subject").unwrap();
            let state = running.daemon.inner().supervisor.get(aid).unwrap().state();
            let told = records(running, "subject", Kind::State);
            let told = told.iter().any(|record| record.object == "quarantined");
            ensure((state == AgentState::Quarantined) == told, "a quarantine and its record differ")
        },
        through: &["set_state", "freeze", "append to the log"],
    },
    Change {
        name: "weight",
        prepare: family,
        request: || {
            let wanted = api::lane::LaneChange::Agent { agent: "subject".into(), weight: 50 };
            ("PUT /v1/lanes", serde_json::to_vec(&wanted).unwrap())
        },
        outcome: |running| {
            let weight = |name| {
                let inner = running.daemon.inner();
                inner.supervisor.get(inner.supervisor.resolve(name).unwrap()).unwrap().weight
            };
            ensure(weight("subject") == weight("child"), "half a change of weights")?;
            let told = !records(running, "subject", Kind::Lane).is_empty();
            ensure((weight("subject") == 50) == told, "a weight and its record differ")
        },
        through: &["weight", "append to the log"],
    },
    Change {
        name: "exit",
        prepare: family,
        request: || ("/v1/agents/subject/kill", b"null".to_vec()),
        outcome: |running| {
            let gone = held(running, "subject", "fs.read=/etc").is_none();
            ensure(
                gone == held(running, "child", "fs.read=/etc/ssl").is_none(),
                "half a tree ended",
            )?;
            let told = records(running, "subject", Kind::Exit).len();
            ensure(told == usize::from(gone), "an end without its record")
        },
        through: &["kill", "populated", "append to the log", "remove", "drop_set"],
    },
    Change {
        name: "room for children",
        prepare: |running| {
            running.spawned("subject", &["fs.read=/etc", "fs.exec=/usr/bin"]);
        },
        request: || ("/v1/agents/subject/grant", change("agent.spawn=2")),
        outcome: |running| {
            let granted = held(running, "subject", "agent.spawn=2") == Some(true);
            let told = records(running, "subject", Kind::Grant);
            let told = told.iter().any(|record| record.detail.contains("from=grant"));
            ensure(granted == told, "room that is not on record, or a record without room")
        },
        through: &["freeze", "make_room", "thaw", "make_set", "assign", "append to the log"],
    },
];

fn change(capability: &str) -> Vec<u8> {
    let change = CapabilityChange { capability: capability.into(), expires_ms: None, uses: None };
    serde_json::to_vec(&change).unwrap()
}

/// What the daemon believes, what the kernel has and what is kept beside must be the same.
fn in_step(running: &Running) -> Result<(), String> {
    let inner = running.daemon.inner();
    let agents = running.fake.agents.lock().unwrap();
    let living: BTreeSet<AgentId> = inner.supervisor.living().map(|agent| agent.aid).collect();
    let known: BTreeSet<AgentId> = agents.keys().copied().collect();
    ensure(living == known, &format!("living {living:?}, in the kernel {known:?}"))?;
    for aid in &living {
        let (agent, info) = (inner.supervisor.get(*aid).unwrap(), &inner.info[aid]);
        let keys: Vec<_> = agent.sets().iter().map(|held| held.set.key()).collect();
        let own: Vec<_> = info.sets.iter().map(|set| set.set().key()).collect();
        ensure(keys == own, &format!("{}: books {keys:?}, kernel sets {own:?}", agent.name))?;
        let ids: Vec<_> = info.sets.iter().map(|set| set.id().unwrap()).collect();
        ensure(
            ids == agents[aid].sets,
            &format!("{}: {ids:?} {:?}", agent.name, agents[aid].sets),
        )?;
        let state = agents[aid].state;
        ensure(
            state == Some(agent.state()),
            &format!("{}: {state:?} {:?}", agent.name, agent.state()),
        )?;
        let frozen = agent.state() == AgentState::Quarantined;
        ensure(agents[aid].frozen == frozen, &format!("{}: frozen", agent.name))?;
        ensure(agents[aid].weight == agent.weight, &format!("{}: weight", agent.name))?;
        ensure(info.pid.is_some() && info.ending.is_none(), &format!("{}: process", agent.name))?;
    }
    let owned: usize = inner.by_owner.values().map(std::collections::BTreeMap::len).sum();
    ensure(owned == inner.info.len(), "agents by owner")?;
    drop((inner, agents));
    let held: BTreeSet<_> =
        running.daemon.rights.all().iter().filter_map(|set| set.known_id()).collect();
    let there: BTreeSet<_> = running.fake.sets.lock().unwrap().keys().copied().collect();
    ensure(held == there, &format!("sets held {held:?}, in the kernel {there:?}"))
}

/// So long without a step of the daemon's is a fault, however slow the machine is.
const STALLED: Duration = Duration::from_secs(60);

/// Waits for something, as long as the daemon does anything.
fn until(running: &Running, what: &str, mut holds: impl FnMut() -> Result<(), String>) {
    let mut steps = running.fake.steps();
    let mut since = Instant::now();
    while let Err(why) = holds() {
        let now = running.fake.steps();
        if now != steps {
            (steps, since) = (now, Instant::now());
        }
        assert!(since.elapsed() < STALLED, "{what}: {why}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Waits for the daemon to come to rest in a state that is whole.
fn settles(running: &Running, change: &Change, starting: u32, place: &str) {
    until(running, &format!("{} {place}", change.name), || {
        // One that nobody waits for any more goes on all the same, and may not have begun to be seen.
        let now = running.daemon.starting.load(Ordering::Acquire);
        ensure(now == starting, "an agent is being started")?;
        in_step(running).and_then(|()| (change.outcome)(running))
    });
}

/// Asks, and says whether it was answered; hangs up when told to.
fn ask(running: &Running, change: &Change, hang_up: &Receiver<()>, gone: &Sender<()>) {
    let (path, body) = (change.request)();
    let (method, path) = path.split_once(' ').unwrap_or(("POST", path));
    let mut stream = UnixStream::connect(running.daemon.config.api_socket()).unwrap();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    // At once: an answer may come, and the end of the connection, before a body that nobody reads.
    stream.write_all(&[head.as_bytes(), &body].concat()).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(2))).unwrap();
    let mut buffer = [0; 4096];
    loop {
        if hang_up.try_recv().is_ok() {
            drop(stream);
            // The server sees it, and drops what it does for this client.
            std::thread::sleep(Duration::from_millis(15));
            gone.send(()).unwrap();
            return;
        }
        match stream.read(&mut buffer) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Where a blow falls: at the n-th step of that name. Steps are not counted across names: how many
/// writes to the log there are, say, differs from run to run.
type Place<'a> = (Blow, &'a str, usize);

/// One try, with a blow somewhere or without: whether it fell, and the steps in their order.
fn strike(running: &Running, change: &Change, place: Option<Place>) -> (bool, Vec<String>) {
    (change.prepare)(running);
    let starting = running.daemon.starting.load(Ordering::Acquire);
    // What the preparation still has on its way to the log is no step of the change.
    running.on(running.daemon.sink.flush());
    let (hang_up, told) = channel::<()>();
    let (gone, is_gone) = channel::<()>();
    let (struck, seen) = (Arc::new(AtomicBool::new(false)), Arc::<Mutex<Vec<String>>>::default());
    let (fell, noted, is_gone) = (struck.clone(), seen.clone(), Mutex::new(is_gone));
    let wanted = place.map(|(blow, name, nth)| (blow, name.to_owned(), nth));
    *running.fake.watch.lock().unwrap() = Some(Box::new(move |step| {
        let mut seen = noted.lock().unwrap();
        seen.push(step.to_owned());
        let count = seen.iter().filter(|name| *name == step).count();
        drop(seen);
        let Some((blow, name, nth)) = &wanted else { return false };
        if name != step || count != nth + 1 {
            return false;
        }
        fell.store(true, Ordering::Release);
        if *blow == Blow::HangUp {
            let _ = hang_up.send(());
            // An answer may be on its way already: then nobody hangs up any more.
            let _ = is_gone.lock().unwrap().recv_timeout(Duration::from_secs(1));
        }
        *blow == Blow::Failure
    }));
    ask(running, change, &told, &gone);
    running.become_agent(None);
    settles(running, change, starting, &format!("{place:?}"));
    *running.fake.watch.lock().unwrap() = None;
    clear(running);
    let seen = seen.lock().unwrap().clone();
    (struck.load(Ordering::Acquire), seen)
}

/// Ends everybody and forgets the ended, so that names are free again.
fn clear(running: &Running) {
    let living: Vec<_> =
        running.daemon.inner().supervisor.living().map(|a| (a.uuid, a.parent)).collect();
    for (uuid, _) in living.iter().filter(|(_, parent)| parent.is_none()) {
        let _ = running.client().post::<_, api::Exit>(&format!("/v1/agents/{uuid}/kill"), &());
    }
    until(running, "everybody is ended", || {
        ensure(running.fake.agents.lock().unwrap().is_empty(), "somebody stays")
    });
    // The others of a spawn among others are none: at its end the daemon would wait for them.
    running.daemon.starting.store(0, Ordering::Release);
    let mut inner = running.daemon.inner();
    let ended: Vec<_> = inner.supervisor.all_since(None).map(|agent| agent.aid).collect();
    for aid in ended {
        inner.supervisor.withdraw(aid).unwrap();
        inner.forget(aid);
    }
}

fn every_step(change: &Change) {
    for blow in [Blow::Failure, Blow::HangUp] {
        let mut struck = BTreeSet::new();
        let mut names = steps_of(change);
        let mut next = 0;
        while let Some(name) = names.get(next).cloned() {
            next += 1;
            // The system's sets are made with the first who needs them: that is a step, too.
            let running = Running::start();
            for nth in 0.. {
                let (fell, seen) = strike(&running, change, Some((blow, &name, nth)));
                if !fell {
                    break;
                }
                struck.insert(name.clone());
                // What is done about a failure has steps of its own.
                names.extend(new_among(&seen, &names));
                assert!(nth < 200, "{} {name}: does it end?", change.name);
            }
            running.stop();
        }
        let missed: Vec<_> =
            change.through.iter().filter(|step| !struck.contains(**step)).collect();
        assert!(missed.is_empty(), "{}: {missed:?} not among {struck:?}", change.name);
    }
}

/// The names of the steps that it takes when nothing happens, in their order.
fn steps_of(change: &Change) -> Vec<String> {
    let running = Running::start();
    let (_, seen) = strike(&running, change, None);
    running.stop();
    new_among(&seen, &[])
}

fn new_among(seen: &[String], known: &[String]) -> Vec<String> {
    let mut new: Vec<String> = Vec::new();
    for name in seen {
        if !known.contains(name) && !new.contains(name) {
            new.push(name.clone());
        }
    }
    new
}

#[test]
fn a_spawn_is_all_or_nothing() {
    every_step(&CHANGES[0]);
}

#[test]
fn a_spawn_among_others_is_all_or_nothing() {
    every_step(&CHANGES[1]);
}

#[test]
fn a_grant_is_all_or_nothing() {
    every_step(&CHANGES[2]);
}

#[test]
fn a_revocation_is_all_or_nothing() {
    every_step(&CHANGES[3]);
}

#[test]
fn a_quarantine_is_all_or_nothing() {
    every_step(&CHANGES[4]);
}

#[test]
fn a_weight_is_all_or_nothing() {
    every_step(&CHANGES[5]);
}

#[test]
fn an_end_is_all_or_nothing() {
    every_step(&CHANGES[6]);
}

#[test]
fn room_for_children_is_all_or_nothing() {
    every_step(&CHANGES[7]);
}
