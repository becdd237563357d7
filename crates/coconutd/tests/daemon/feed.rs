//! The feed of changes: what there is and what changes make what there is then, at any time; who is too slow is told
//! so and holds nobody up; an end is told once to everybody who waits for it.

use crate::fake::Running;
use crate::fake::requests::ad_hoc;
use abi::event::{EVENT_DENIAL, EVENT_USE, Event, Hook};
use abi::{AgentId, AgentState};
use api::agent::AgentDetail;
use api::feed::{Delta, FeedEnd, FeedLine, Snapshot};
use api::lane::{LaneChange, LaneList};
use api::{Agent, Exit};
use coconutd::caller::Caller;
use coconutd::feed::{Change, Listener};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::ops::ControlFlow;
use std::os::unix::net::UnixStream;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};
use uuid::Uuid;
use zerocopy::FromZeros;

/// What somebody knows who was told everything from a snapshot on.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Known {
    agents: BTreeMap<Uuid, Agent>,
    tenants: BTreeMap<String, u32>,
}

impl Known {
    fn of(snapshot: Snapshot) -> Known {
        let agents = snapshot.agents.into_iter().map(|agent| (agent.aid, uncounted(agent)));
        Known { agents: agents.collect(), tenants: snapshot.tenants }
    }

    fn apply(&mut self, delta: Delta) {
        match delta {
            Delta::Added { agent } => {
                assert!(self.agents.insert(agent.aid, uncounted(agent)).is_none(), "added twice");
            }
            Delta::Changed { aid, state, pid, parent, weight, ended_ns } => {
                let agent = self.agents.get_mut(&aid).unwrap();
                *agent = Agent { state, pid, parent, weight, ended_ns, ..agent.clone() };
            }
            Delta::Ended { aid, state, ended_ns, exit } => {
                let agent = self.agents.get_mut(&aid).unwrap();
                assert!(agent.exit.is_none(), "ended twice");
                *agent = Agent { state, ended_ns, exit: Some(exit), ..agent.clone() };
            }
            Delta::Gone { aid } => {
                self.agents.remove(&aid).unwrap();
                let orphans = self.agents.values_mut().filter(|agent| agent.parent == Some(aid));
                orphans.for_each(|agent| agent.parent = None);
            }
            Delta::Tenant { tenant, weight } => _ = self.tenants.insert(tenant, weight),
        }
    }
}

/// Counters are not told as they change.
fn uncounted(agent: Agent) -> Agent {
    Agent { denials: 0, uses: 0, ..agent }
}

fn root() -> Caller {
    Caller::Operator { uid: 0, gid: 0 }
}

/// A listener, and what it knows.
struct Follower {
    known: Known,
    last: Option<u64>,
    changes: Listener<Change>,
}

impl Follower {
    fn new(running: &Running) -> Follower {
        let inner = running.daemon.inner();
        let known = Known::of(inner.snapshot(&root(), true));
        Follower { known, last: None, changes: inner.feed.changes.listen() }
    }

    /// Stops the world and compares.
    fn check(&mut self, running: &Running) {
        let inner = running.daemon.inner();
        while let Some(next) = self.changes.take() {
            let (number, change) = next.unwrap();
            assert!(self.last.is_none_or(|last| number == last + 1), "{:?} {number}", self.last);
            self.last = Some(number);
            self.known.apply(change.delta.clone());
        }
        assert_eq!(self.known, Known::of(inner.snapshot(&root(), true)));
    }
}

fn event(aid: AgentId, kind: u32) -> Event {
    let mut event = Event::new_zeroed();
    event.time_ns = coconutd::clock::boot_ns();
    (event.aid, event.kind, event.hook) = (aid.0, kind, Hook::FileOpen as u32);
    event.verdict = if kind == EVENT_DENIAL { -13 } else { 0 };
    event.object_len = 0;
    event
}

/// A tree that lives, changes, is refused something and ends, some of it by a start that fails.
fn live(running: &Running, name: &str, rounds: usize) {
    let client = running.client();
    for round in 0..rounds {
        let one = running.spawned(&format!("{name}{round}"), &["infer", "fs.read=/etc"]);
        let uuid = running.daemon.uuid_of(one).unwrap();
        let path = |what: &str| format!("/v1/agents/{uuid}/{what}");
        running.fake.tell(event(one, EVENT_DENIAL));
        running.fake.tell(event(one, EVENT_USE));
        let wanted = LaneChange::Agent { agent: uuid.to_string(), weight: 50 };
        client.put::<_, LaneList>("/v1/lanes", &wanted).unwrap();
        let weight = 10 + u32::try_from(round).unwrap();
        let wanted = LaneChange::Tenant { tenant: name.into(), weight };
        client.put::<_, LaneList>("/v1/lanes", &wanted).unwrap();
        client.post::<_, Agent>(&path("quarantine"), &()).unwrap();
        client.post::<_, Agent>(&path("release"), &()).unwrap();
        if round % 2 == 0 {
            client.post::<_, Exit>(&path("kill"), &()).unwrap();
        }
        let mut nowhere = ad_hoc("fails", &[]);
        nowhere.cwd = Some("/".into());
        nowhere.args = vec!["/nowhere".into()];
        client.post::<_, AgentDetail>("/v1/agents", &nowhere).unwrap_err();
    }
}

#[test]
fn a_snapshot_and_its_deltas_are_the_list_at_any_time() {
    let running = Running::start();
    let over = AtomicBool::new(false);
    let http = std::thread::scope(|scope| {
        let reader = scope.spawn(|| read_until(&running, "/v1/feed?all=true", "last"));
        let watchers: Vec<_> = (0..2_u64)
            .map(|pause| {
                let (running, over) = (&running, &over);
                scope.spawn(move || {
                    let (mut first, mut rounds) = (Follower::new(running), 0);
                    while !over.load(Ordering::SeqCst) {
                        // One from the start, one from this very moment.
                        let mut late = Follower::new(running);
                        std::thread::sleep(Duration::from_millis(pause));
                        late.check(running);
                        first.check(running);
                        rounds += 1;
                    }
                    first.check(running);
                    (first.last, rounds)
                })
            })
            .collect();
        let livers: Vec<_> = ["a", "b", "c"]
            .map(|name| {
                scope.spawn({
                    let running = &running;
                    move || live(running, name, 6)
                })
            })
            .into();
        // Whatever failed, the others come to their end.
        let lived = livers.into_iter().map(|liver| liver.join()).collect::<Vec<_>>();
        let ended = std::panic::catch_unwind(AssertUnwindSafe(|| a_tree_ends(&running)));
        over.store(true, Ordering::SeqCst);
        running.spawned("last", &[]);
        assert!(ended.is_ok() && lived.iter().all(Result::is_ok));
        for watcher in watchers {
            let (last, rounds) = watcher.join().unwrap();
            assert!(last.unwrap() > 100 && rounds > 20, "{last:?} {rounds}");
        }
        reader.join().unwrap()
    });
    // What goes out over the socket is the same.
    let mut now = Known::of(running.daemon.inner().snapshot(&root(), true));
    now.agents.retain(|_, agent| agent.name != "last");
    let mut told = http;
    told.agents.retain(|_, agent| agent.name != "last");
    assert_eq!(told, now);
    running.stop();
}

/// An agent ends, and its child with it.
fn a_tree_ends(running: &Running) {
    let top = running.spawned("top", &["agent.spawn=5", "fs.exec=/usr/bin"]);
    running.become_agent(Some(top));
    let below = running.spawned("below", &[]);
    running.become_agent(None);
    let uuid = running.daemon.uuid_of(top).unwrap();
    running.client().post::<_, Exit>(&format!("/v1/agents/{uuid}/kill"), &()).unwrap();
    running.on(coconutd::change::state::wait(&running.daemon, below)).unwrap();
}

/// Follows a feed until an agent of this name is there; what is known then.
fn read_until(running: &Running, path: &str, name: &str) -> Known {
    let (mut known, mut numbers) = (Known::default(), 0_u64..);
    let each = |line: FeedLine| {
        let expected = numbers.next();
        match line {
            FeedLine::Snapshot { number, snapshot } => {
                assert_eq!(Some(number), expected);
                known = Known::of(snapshot);
            }
            FeedLine::Delta { number, delta } => {
                assert_eq!(Some(number), expected);
                known.apply(delta);
            }
            FeedLine::End { end } => panic!("{end:?}"),
        }
        match known.agents.values().any(|agent| agent.name == name) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    };
    running.client().lines(path, each).unwrap();
    known
}

/// A weight of a tenant is what changes most easily.
fn change_weights(running: &Running, times: u32) {
    for weight in (1..=10_000).cycle().take(times as usize) {
        running.daemon.inner().supervisor.set_tenant_weight("maya", weight).unwrap();
    }
}

#[test]
fn who_does_not_read_is_cut_off_and_told_and_nobody_waits_for_it() {
    const CHANGES: u32 = 100_000;
    let running = Running::start();
    let mut slow = UnixStream::connect(running.daemon.config.api_socket()).unwrap();
    slow.write_all(b"GET /v1/feed HTTP/1.1\r\nhost: coconutd\r\n\r\n").unwrap();
    slow.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut slow = BufReader::new(slow);
    let first = (&mut slow).lines().map(Result::unwrap).find(|line| line.contains("snapshot"));
    assert!(first.is_some());
    // The control: one who reads is told everything.
    let mut fast = running.daemon.inner().feed.changes.listen();
    let reader = running.daemon.clone();
    let told = std::thread::spawn(move || {
        let mut numbers = Vec::new();
        while numbers.len() < CHANGES as usize {
            match fast.take() {
                Some(next) => numbers.push(next.unwrap().0),
                None => std::thread::yield_now(),
            }
        }
        drop(reader);
        numbers
    });
    let began = Instant::now();
    for _ in 0..CHANGES / 1_000 {
        change_weights(&running, 1_000);
        // The machine may have one processor for both.
        std::thread::sleep(Duration::from_millis(2));
    }
    let took = began.elapsed();
    let numbers = told.join().unwrap();
    assert!(numbers.windows(2).all(|two| two[1] == two[0] + 1));
    assert!(took < Duration::from_secs(20), "{took:?}");
    let mut lines: Vec<FeedLine> = Vec::new();
    for line in slow.lines().map(Result::unwrap).filter(|line| line.starts_with('{')) {
        lines.push(serde_json::from_str(&line).unwrap());
        if matches!(lines.last(), Some(FeedLine::End { .. })) {
            break;
        }
    }
    let (last, before) = lines.split_last().unwrap();
    assert_eq!(*last, FeedLine::End { end: FeedEnd::TooSlow });
    assert!(!before.is_empty() && before.len() < CHANGES as usize, "{}", before.len());
    for (number, line) in (1..).zip(before) {
        assert!(matches!(line, FeedLine::Delta { number: n, .. } if *n == number), "{line:?}");
    }
    // Anew, with what there is now.
    let (shared, weight) = (&running, running.daemon.inner().supervisor.tenant_weight("maya"));
    std::thread::scope(|scope| {
        let anew = scope.spawn(move || read_until(shared, "/v1/feed", "next"));
        shared.spawned("next", &[]);
        assert_eq!(anew.join().unwrap().tenants["maya"], weight);
    });
    running.stop();
}

#[test]
fn an_agent_is_told_of_those_below_it_and_of_nobody_else() {
    let running = Running::start();
    let other = running.spawned("other", &["agent.spawn=5", "fs.exec=/usr/bin"]);
    let top = running.spawned("top", &["agent.spawn=5", "fs.exec=/usr/bin"]);
    running.become_agent(Some(top));
    let stream = UnixStream::connect(running.daemon.config.api_socket()).unwrap();
    let mut writer = stream.try_clone().unwrap();
    writer.write_all(b"GET /v1/feed HTTP/1.1\r\nhost: coconutd\r\n\r\n").unwrap();
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let mut next = || -> FeedLine {
        let line = lines.find(|line| line.starts_with('{')).unwrap();
        serde_json::from_str(&line).unwrap()
    };
    let FeedLine::Snapshot { snapshot, number: 0 } = next() else { unreachable!() };
    let names: Vec<_> = snapshot.agents.iter().map(|agent| agent.name.as_str()).collect();
    assert_eq!((names, snapshot.tenants.len()), (vec!["top"], 0));
    running.become_agent(Some(other));
    running.spawned("stranger", &[]);
    change_weights(&running, 1);
    running.become_agent(Some(top));
    running.spawned("child", &[]);
    running.become_agent(None);
    // It lost nothing, and does not learn how much there was for others.
    let FeedLine::Delta { number: 1, delta: Delta::Added { agent } } = next() else {
        unreachable!()
    };
    assert_eq!(agent.name, "child");
    let child = agent.aid;
    running.client().post::<_, Exit>(&format!("/v1/agents/{child}/kill"), &()).unwrap();
    let mut number = 1;
    let ended = std::iter::from_fn(|| match next() {
        FeedLine::Delta { number: n, delta } => {
            number += 1;
            assert_eq!(n, number);
            Some(delta)
        }
        _ => None,
    });
    let ended = ended.inspect(|delta| match delta {
        Delta::Changed { aid, .. } | Delta::Ended { aid, .. } => assert_eq!(*aid, child),
        other => unreachable!("{other:?}"),
    });
    let ended = { ended }.find(|delta| matches!(delta, Delta::Ended { .. }));
    assert!(matches!(ended, Some(Delta::Ended { state: AgentState::TerminatedClean, .. })));
    running.stop();
}

#[test]
fn an_end_is_told_once_to_each_who_waits_before_during_and_after_it() {
    let running = Running::start();
    let aid = running.spawned("one", &[]);
    let uuid = running.daemon.uuid_of(aid).unwrap();
    let mut changes = running.daemon.inner().feed.changes.listen();
    let (ended, ends) = channel::<(&str, Exit)>();
    let wait = |when: &'static str| {
        let (client, ended) = (running.client(), ended.clone());
        std::thread::spawn(move || {
            let exit = client.get(&format!("/v1/agents/{uuid}/wait")).unwrap();
            ended.send((when, exit)).unwrap();
        })
    };
    let mut waiting: Vec<_> = (0..8).map(|_| wait("before")).collect();
    let early = running.daemon.inner().end_of(aid).unwrap();
    std::thread::sleep(Duration::from_millis(100));
    // The end waits at each of these, so that somebody begins to wait there.
    let (reached, is_reached) = channel();
    let (goes, go) = channel::<()>();
    *running.fake.watch.lock().unwrap() = Some(Box::new(move |step| {
        if matches!(step, "kill" | "populated" | "remove" | "drop_set") {
            let _ = reached.send(step.to_owned());
            let _ = go.recv();
        }
        false
    }));
    let killer = {
        let client = running.client();
        std::thread::spawn(move || {
            client.post::<_, Exit>(&format!("/v1/agents/{uuid}/kill"), &()).unwrap()
        })
    };
    let last = is_reached.iter().find(|step| {
        waiting.push(wait("during"));
        std::thread::sleep(Duration::from_millis(20));
        assert!(ends.try_recv().is_err() && early.borrow().is_none(), "told before it was over");
        step == "remove" || goes.send(()).is_err()
    });
    assert_eq!(last.unwrap(), "remove");
    drop(goes);
    let exit = killer.join().unwrap();
    waiting.extend((0..4).map(|_| wait("after")));
    let began = waiting.len();
    waiting.into_iter().for_each(|one| one.join().unwrap());
    let all: Vec<_> = ends.try_iter().collect();
    assert_eq!(all.len(), began);
    assert!(all.iter().all(|(_, one)| *one == exit), "{all:?}");
    let of = |when| all.iter().filter(|(at, _)| *at == when).count();
    assert!(of("before") == 8 && of("during") > 0 && of("after") == 4, "{all:?}");
    assert_eq!(early.borrow().as_ref(), Some(&exit));
    let told = std::iter::from_fn(|| changes.take()).map(|next| next.unwrap().1);
    let told = told.filter(|change| matches!(change.delta, Delta::Ended { .. })).count();
    assert_eq!(told, 1, "and once to those who are told of everything");
    running.stop();
}
