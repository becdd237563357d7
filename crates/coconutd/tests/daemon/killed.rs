//! A daemon is killed at each step of each change, and another follows it: of a change that was acknowledged everything
//! is there, of any other all or nothing, with its records, once.

use crate::fake::{Running, requests};
use abi::{AgentId, AgentState, Kind};
use api::agent::CapabilityChange;
use record::Record;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// Who is there when the change begins.
struct Cast {
    folder: tempfile::TempDir,
    parent: AgentId,
    child: AgentId,
    quiet: AgentId,
}

/// A change, and whether it has happened, by the books and by the log.
struct Change {
    name: &'static str,
    /// Path below `/v1/` and body.
    asked: fn(&Running, &Cast) -> (String, Value),
    booked: fn(&Running, &Cast) -> u32,
    logged: fn(&[Record], &Running, &Cast) -> u32,
}

const CHANGES: [Change; 8] = [
    Change {
        name: "spawn",
        asked: |_, cast| ("agents".into(), json!(requests::ad_hoc("fresh", &[&cast.read()]))),
        booked: |running, _| u32::from(of(running, |agent| agent.name == "fresh").is_some()),
        logged: |log, _, _| count(log, |r| r.kind == Kind::Spawn as u32 && is_named(r, "fresh")),
    },
    Change {
        name: "grant",
        asked: |running, cast| rights(running, cast.quiet, "grant", &cast.write()),
        booked: |running, cast| holds(running, cast.quiet, &cast.write()),
        logged: |log, running, cast| {
            let write = abi::Capability::FsWrite as u32;
            about(log, running, cast.quiet, |r| {
                r.kind == Kind::Grant as u32 && r.capability == write
            })
        },
    },
    Change {
        name: "revoke",
        asked: |running, cast| rights(running, cast.parent, "revoke", &cast.read()),
        booked: |running, cast| {
            let held = [cast.parent, cast.child].map(|aid| holds(running, aid, &cast.read()));
            assert_eq!(held[0], held[1], "of parent and child one has lost it");
            2 - held[0] - held[1]
        },
        logged: |log, _, _| count(log, |r| r.kind == Kind::Revoke as u32),
    },
    Change {
        name: "kill",
        asked: |running, cast| (format!("agents/{}/kill", uuid(running, cast.quiet)), json!(null)),
        booked: |running, cast| ended(running, &[cast.quiet]),
        logged: |log, running, cast| {
            about(log, running, cast.quiet, |r| r.kind == Kind::Exit as u32)
        },
    },
    Change {
        name: "kill a family",
        asked: |running, cast| (format!("agents/{}/kill", uuid(running, cast.parent)), json!(null)),
        booked: |running, cast| ended(running, &[cast.parent, cast.child]),
        logged: |log, _, _| count(log, |r| r.kind == Kind::Exit as u32),
    },
    Change {
        name: "quarantine",
        asked: |running, cast| {
            (format!("agents/{}/quarantine", uuid(running, cast.quiet)), json!(null))
        },
        booked: |running, cast| {
            let state = running.daemon.inner().supervisor.get(cast.quiet).unwrap().state();
            u32::from(state == AgentState::Quarantined)
        },
        logged: |log, running, cast| {
            let state = AgentState::Quarantined.name();
            about(log, running, cast.quiet, |r| r.kind == Kind::State as u32 && r.object == state)
        },
    },
    Change {
        name: "an agent's weight",
        asked: |running, cast| {
            (
                "lanes".into(),
                json!({"of": "agent", "agent": uuid(running, cast.quiet), "weight": 50}),
            )
        },
        booked: |running, cast| {
            u32::from(running.daemon.inner().supervisor.get(cast.quiet).unwrap().weight == 50)
        },
        logged: |log, running, cast| {
            about(log, running, cast.quiet, |r| r.kind == Kind::Lane as u32)
        },
    },
    Change {
        name: "a tenant's weight",
        asked: |_, _| ("lanes".into(), json!({"of": "tenant", "tenant": "maya", "weight": 50})),
        booked: |running, _| {
            u32::from(running.daemon.inner().supervisor.tenant_weight("maya") == 50)
        },
        logged: |log, _, _| count(log, |r| r.kind == Kind::Lane as u32),
    },
];

impl Cast {
    fn enter(running: &Running) -> Cast {
        let folder = tempfile::tempdir().unwrap();
        let read = format!("fs.read={}", folder.path().display());
        let parent = running.spawned("parent", &["agent.spawn=4", &read]);
        running.become_agent(Some(parent));
        let child = running.spawned("child", &[&read]);
        running.become_agent(None);
        let quiet = running.spawned("quiet", &[&read]);
        Cast { folder, parent, child, quiet }
    }

    fn read(&self) -> String {
        format!("fs.read={}", self.folder.path().display())
    }

    fn write(&self) -> String {
        format!("fs.write={}", self.folder.path().display())
    }
}

fn uuid(running: &Running, aid: AgentId) -> uuid::Uuid {
    running.daemon.uuid_of(aid).unwrap()
}

fn of(running: &Running, is: impl Fn(&supervisor::Agent) -> bool) -> Option<AgentId> {
    let inner = running.daemon.inner();
    inner.info.keys().copied().find(|aid| inner.supervisor.get(*aid).is_ok_and(&is))
}

fn rights(running: &Running, aid: AgentId, verb: &str, rule: &str) -> (String, Value) {
    let body = CapabilityChange { capability: rule.into(), expires_ms: None, uses: None };
    (format!("agents/{}/{verb}", uuid(running, aid)), json!(body))
}

fn holds(running: &Running, aid: AgentId, rule: &str) -> u32 {
    let inner = running.daemon.inner();
    let agent = inner.supervisor.get(aid).unwrap();
    u32::from(agent.held().any(|held| held.rule.rule.to_string() == rule))
}

fn ended(running: &Running, all: &[AgentId]) -> u32 {
    let inner = running.daemon.inner();
    let ended = |aid: &&AgentId| inner.supervisor.get(**aid).unwrap().state().is_terminal();
    u32::try_from(all.iter().filter(ended).count()).unwrap()
}

fn count(log: &[Record], is: impl Fn(&Record) -> bool) -> u32 {
    log.iter().filter(|record| is(record)).map(|record| record.count).sum()
}

fn about(log: &[Record], running: &Running, aid: AgentId, is: impl Fn(&Record) -> bool) -> u32 {
    let agent = uuid(running, aid);
    count(log, |record| record.agent == agent && is(record))
}

fn is_named(record: &Record, name: &str) -> bool {
    matches!(&record.body, record::Body::Spawn(spawn) if spawn.name == name)
}

fn log(running: &Running) -> Vec<Record> {
    running.on(running.daemon.sink.flush());
    let reader = audit::Reader::open(&running.daemon.config.audit).unwrap();
    reader.query(&audit::Filter::default(), usize::MAX)
}

fn await_that(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(60), "it never came: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Asks for the change; whether it was acknowledged before the daemon was killed, if it was.
fn asked(running: &Running, change: &Change, cast: &Cast, steps: u64) -> bool {
    let (path, body) = (change.asked)(running, cast);
    let client = running.client();
    let (tell, told) = std::sync::mpsc::channel();
    running.fake.life.kill_after(Some(steps));
    std::thread::spawn(move || {
        let path = format!("/v1/{path}");
        let done: Result<Value, _> = match path.ends_with("lanes") {
            true => client.put(&path, &body),
            false => client.post(&path, &body),
        };
        let _ = tell.send(done.is_ok());
    });
    let mut acknowledged = false;
    await_that("an answer", || {
        acknowledged = told.try_recv().unwrap_or(false);
        acknowledged || running.fake.life.killed_at().is_some()
    });
    acknowledged
}

/// Who has not ended, and will without another word: what is on record of them is not yet all.
fn ending(running: &Running) -> Vec<AgentId> {
    let inner = running.daemon.inner();
    let known = running.fake.agents.lock().unwrap();
    let runs =
        |aid: &AgentId| known.get(aid).is_some_and(|known| !known.killed && known.exited.is_none());
    let left = inner.info.iter().filter(|(_, info)| info.exit.is_none());
    left.filter(|(aid, info)| info.ending.is_some() || !runs(aid)).map(|(aid, _)| *aid).collect()
}

/// What the books say of those who live is so in the kernel, and the other way round.
fn kernel_agrees(running: &Running) {
    let living = || -> BTreeSet<AgentId> {
        running.daemon.inner().supervisor.living().map(|agent| agent.aid).collect()
    };
    let known =
        || -> BTreeSet<AgentId> { running.fake.agents.lock().unwrap().keys().copied().collect() };
    await_that("those who are ending to have ended", || ending(running).is_empty());
    await_that("those who have ended to be gone", || living() == known());
    for aid in living() {
        let sets = running.daemon.inner().info[&aid].sets.clone();
        let ids: Vec<_> = sets.iter().map(|set| set.id().unwrap()).collect();
        assert_eq!(running.fake.agents.lock().unwrap()[&aid].sets, ids, "{aid:?}");
    }
    await_that("sets that nobody holds to be gone", || {
        let agents = running.fake.agents.lock().unwrap();
        let held: BTreeSet<_> = agents.values().flat_map(|known| known.sets.clone()).collect();
        let there: BTreeSet<_> = running.fake.sets.lock().unwrap().keys().copied().collect();
        // The system's own sets are kept for the next agent.
        held.is_subset(&there)
            && there.difference(&held).count() <= running.daemon.system.all().count()
    });
}

/// Each agent has one birth on record, and one end if it has ended, which says how.
fn log_agrees(running: &Running, log: &[Record]) {
    let unknown = count(log, |r| r.kind == Kind::Exit as u32 && r.object == "unknown");
    assert_eq!(unknown, 0, "ends of which nobody knows how");
    let inner = running.daemon.inner();
    let births = count(log, |record| record.kind == Kind::Spawn as u32);
    assert_eq!(births as usize, inner.info.len(), "births on record, and agents");
    for info in inner.info.values() {
        let of = |kind: Kind| count(log, |r| r.agent == info.uuid && r.kind == kind as u32);
        let agent = inner.supervisor.by_uuid(info.uuid).unwrap();
        assert_eq!(of(Kind::Spawn), 1, "births of {}", agent.name);
        assert_eq!(
            of(Kind::Exit),
            u32::from(agent.state().is_terminal()),
            "ends of {}",
            agent.name
        );
    }
}

/// Kills the daemon instead of its next step but so many. The next daemon, and what it was killed at, if there are so
/// many.
fn left(change: &Change, steps: u64) -> (Running, Cast, Option<String>) {
    let running = Running::start();
    let cast = Cast::enter(&running);
    let acknowledged = asked(&running, change, &cast, steps);
    // What comes after the answer is of the change, too.
    let begun = Instant::now();
    while running.fake.life.killed_at().is_none() && begun.elapsed() < Duration::from_millis(100) {
        std::thread::sleep(Duration::from_millis(2));
    }
    running.fake.life.kill_after(None);
    let step = running.fake.life.killed_at();
    eprintln!("{} {steps}: {step:?}", change.name);
    let running = running.followed();
    kernel_agrees(&running);
    let (booked, log) = agreed(change, &running, &cast);
    assert!(booked > 0 || !acknowledged, "acknowledged, and not done");
    // Who is to end is written down before anything of it is killed.
    let kills = change.name.starts_with("kill") && step.as_deref() == Some("kill");
    assert!(booked > 0 || !kills, "an end that was decided is forgotten");
    log_agrees(&running, &log);
    (running, cast, step)
}

/// How often the change is booked, which is how often it is on record; and the log.
fn agreed(change: &Change, running: &Running, cast: &Cast) -> (u32, Vec<Record>) {
    let log = log(running);
    let (booked, logged) = ((change.booked)(running, cast), (change.logged)(&log, running, cast));
    assert_eq!(booked, logged, "what is booked, and what is on record");
    (booked, log)
}

/// False if there are not so many steps.
fn killed(change: &Change, steps: u64) -> bool {
    let (running, _, step) = left(change, steps);
    running.stop();
    step.is_some()
}

#[test]
fn a_daemon_that_is_killed_at_any_step_leaves_all_of_a_change_or_nothing() {
    std::thread::scope(|threads| {
        for change in &CHANGES {
            threads.spawn(|| {
                let steps = (0..).find(|steps| !killed(change, *steps)).unwrap();
                assert!(steps > 1, "{} has {steps} steps", change.name);
            });
        }
    });
}

/// Three calls of two agents' and of two tenants', as the broker tells of them.
const CALLS: Change = Change {
    name: "calls of models",
    asked: |running, cast| {
        let call = |agent: AgentId, tenant: &str| api::broker::Usage {
            call: uuid::Uuid::now_v7(),
            agent: uuid(running, agent),
            tenant: tenant.into(),
            completion_tokens: 7,
            ..Default::default()
        };
        let calls =
            vec![call(cast.quiet, "maya"), call(cast.parent, "maya"), call(cast.quiet, "noor")];
        let journal = uuid::Uuid::from_u128(1);
        ("broker/usage".into(), json!(api::broker::SettledCalls { journal, first: 1, calls }))
    },
    booked: |running, cast| {
        let inner = running.daemon.inner();
        let tenants: u64 = inner.tenants.values().map(|used| used.calls).sum();
        let agents: u64 = [cast.quiet, cast.parent].iter().map(|aid| inner.info[aid].calls).sum();
        let tokens: u64 = inner.tenants.values().map(|used| used.tokens).sum();
        assert_eq!((agents, tokens), (tenants, tenants * 7), "sums of agents, and of tenants");
        u32::try_from(tenants).unwrap()
    },
    logged: |log, _, _| count(log, |r| r.kind == Kind::Inference as u32),
};

#[test]
fn calls_that_are_told_again_to_the_next_daemon_are_on_record_once() {
    let steps = (0..).find(|steps| {
        let (running, cast, step) = left(&CALLS, *steps);
        let (path, body) = (CALLS.asked)(&running, &cast);
        // As the broker does until it is acknowledged, and once more.
        for _ in 0..2 {
            running.client().post::<_, Value>(&format!("/v1/{path}"), &body).unwrap();
            assert_eq!(agreed(&CALLS, &running, &cast).0, 3);
        }
        running.stop();
        step.is_none()
    });
    assert!(steps.unwrap() > 0, "it was never killed");
}
