//! A kernel that only remembers: it starts real processes, decides nothing, and emits the events
//! it is told to. Every call of it, of the look-ups and of the log is a step that a test can see,
//! have fail, or wait at.

#![allow(dead_code)] // each test file uses a part of it

mod life;
pub mod requests;
mod waiting;

use abi::event::Event;
use abi::{AgentId, AgentState};
use coconutd::boot::{self, Start};
use coconutd::callers::Sizes;
use coconutd::config::Config;
use coconutd::port::{EventSource, KernelPort, Lookup, Machine, Ready, Resolved};
use coconutd::reap;
use coconutd::registry::keeper::Keeper;
use coconutd::sink::AuditLog;
use coconutd::state::{Daemon, Ending};
use futures_util::future::BoxFuture;
use kernel::{
    Counters, Error, Exited, Footing, Found, Handle, KernelRule, KernelScope, Launch, Mapping,
    NewAgent, Node, Process, Result, SetId, Standing,
};
use manifest::AbsPath;
use record::Entry;
use resolve::programs::{Program, ProgramError};
use resolve::targets::{Absent, RuleError};
use rustix::fs::FlockOperation;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What the fake knows of an agent.
#[derive(Default)]
pub struct Known {
    pub parent: AgentId,
    pub sets: Vec<SetId>,
    pub state: Option<AgentState>,
    pub pid: Option<u32>,
    pub frozen: bool,
    pub denials: u64,
    pub weight: u32,
    /// Nobody of it runs any more.
    pub killed: bool,
    /// A daemon that follows another has taken it up.
    pub adopted: bool,
    /// How its process ended, as the kernel notes it.
    pub exited: Option<Exited>,
}

/// What is done at a step: nothing, or a failure.
pub type Watch = Box<dyn FnMut(&str) -> bool + Send>;

/// Waits for a step, which then waits for it.
pub struct Meeting {
    /// So many steps go by before.
    pub after: usize,
    /// Told the step's name.
    pub reached: Sender<String>,
    /// The step goes on when something comes, or when the other end is gone.
    pub go: Receiver<()>,
}

pub struct Fake {
    pub agents: Mutex<HashMap<AgentId, Known>>,
    pub sets: Mutex<BTreeMap<SetId, Vec<KernelRule>>>,
    next_set: Mutex<u32>,
    /// The last set of the daemon before.
    before: Mutex<u32>,
    steps: AtomicU64,
    /// Asked at each step, by its name; true has it fail.
    pub watch: Mutex<Option<Watch>>,
    /// Names of steps that fail.
    pub broken: Mutex<Vec<&'static str>>,
    /// Whoever waits for a step.
    pub meeting: Mutex<Option<Meeting>>,
    /// Whom the caller of the next connections is taken for.
    pub caller: Mutex<Option<AgentId>>,
    /// Paths that agents have mapped.
    pub mapped: Mutex<Vec<Mapping>>,
    /// Nobody is said to have mapped anything.
    pub nothing_mapped: AtomicBool,
    /// What was wrong at some moment: a child with more than its parent, a set dropped that somebody holds.
    pub wrong: Mutex<Vec<String>>,
    /// The policy was there when the daemon came.
    pub adopted: AtomicBool,
    /// Which daemon lives, and when it is killed.
    pub life: life::Life,
    /// The number of the daemon that can write nothing to the registry; the first is 0.
    pub unwritable: AtomicU64,
    /// What is kept open while there is no daemon.
    pub kept: Mutex<BTreeMap<String, OwnedFd>>,
    events: Mutex<Sender<Event>>,
    source: Mutex<Option<Receiver<Event>>>,
}

/// Keeps files as the service manager does.
pub struct Store(pub Arc<Fake>, u64);

impl Keeper for Store {
    fn keep(&self, name: &str, file: BorrowedFd<'_>) {
        self.0.life.go_on(self.1, "keep");
        let copy = file.try_clone_to_owned().unwrap();
        if self.0.kept.lock().unwrap().insert(name.to_owned(), copy).is_some() {
            self.0.wrong.lock().unwrap().push(format!("{name} is kept twice"));
        }
    }
    fn forget(&self, name: &str) {
        self.0.life.go_on(self.1, "forget");
        if self.0.kept.lock().unwrap().remove(name).is_none() {
            self.0.wrong.lock().unwrap().push(format!("{name} is forgotten and was not kept"));
        }
    }
    fn kept(&self) -> Vec<(String, OwnedFd)> {
        let kept = self.0.kept.lock().unwrap();
        kept.iter().map(|(name, fd)| (name.clone(), fd.try_clone().unwrap())).collect()
    }
}

impl Fake {
    pub fn new() -> Arc<Fake> {
        let (events, source) = channel();
        Arc::new(Fake {
            agents: Mutex::default(),
            sets: Mutex::default(),
            next_set: Mutex::default(),
            before: Mutex::default(),
            steps: AtomicU64::new(0),
            watch: Mutex::default(),
            broken: Mutex::default(),
            meeting: Mutex::default(),
            caller: Mutex::default(),
            mapped: Mutex::default(),
            nothing_mapped: AtomicBool::new(false),
            unwritable: AtomicU64::new(u64::MAX),
            wrong: Mutex::default(),
            adopted: AtomicBool::new(false),
            life: life::Life::default(),
            kept: Mutex::default(),
            events: Mutex::new(events),
            source: Mutex::new(Some(source)),
        })
    }

    /// The kernel refuses something: counted, and told.
    pub fn deny(&self, aid: AgentId, event: Event) {
        self.agents.lock().unwrap().get_mut(&aid).unwrap().denials += 1;
        self.events.lock().unwrap().send(event).unwrap();
    }

    /// An event that is no denial.
    pub fn tell(&self, event: Event) {
        self.events.lock().unwrap().send(event).unwrap();
    }

    /// How many steps there were so far.
    pub fn steps(&self) -> u64 {
        self.steps.load(Ordering::Relaxed)
    }

    /// True if the step is to fail.
    pub fn fails(&self, name: &str) -> bool {
        self.steps.fetch_add(1, Ordering::Relaxed);
        self.meet(name);
        let broken = self.broken.lock().unwrap().contains(&name);
        let watched = self.watch.lock().unwrap().as_mut().is_some_and(|watch| watch(name));
        broken || watched
    }

    /// Has the step wait, if somebody wants to meet it; other steps go on meanwhile.
    fn meet(&self, name: &str) {
        let meeting = {
            let mut next = self.meeting.lock().unwrap();
            match next.as_mut() {
                Some(meeting) if meeting.after > 0 => {
                    meeting.after -= 1;
                    None
                }
                _ => next.take(),
            }
        };
        if let Some(meeting) = meeting {
            let _ = meeting.reached.send(name.to_owned());
            let _ = meeting.go.recv();
        }
    }

    fn step(&self, name: &str) -> Result<()> {
        match self.fails(name) {
            true => Err(Error::Invalid(format!("{name} was told to fail"))),
            false => Ok(()),
        }
    }

    fn with<T>(&self, aid: AgentId, act: impl FnOnce(&mut Known) -> T) -> Result<T> {
        let mut agents = self.agents.lock().unwrap();
        agents.get_mut(&aid).map(act).ok_or(Error::NoSuchAgent(aid))
    }

    /// What an agent may do, as the kernel would decide it: nodes, no names.
    pub fn rules(&self, aid: AgentId) -> Vec<KernelRule> {
        let agents = self.agents.lock().unwrap();
        let sets = self.sets.lock().unwrap();
        rules_of(&agents[&aid], &sets)
    }

    /// Whether every child is within its parent, whatever the daemon believes.
    fn look(&self) {
        let agents = self.agents.lock().unwrap();
        let sets = self.sets.lock().unwrap();
        for (aid, known) in agents.iter() {
            let Some(parent) = agents.get(&known.parent) else { continue };
            // Whoever is denied everything, or does not run, has nothing.
            if known.killed || known.state == Some(AgentState::Quarantined) {
                continue;
            }
            let above = rules_of(parent, &sets);
            for rule in rules_of(known, &sets) {
                if !above.iter().any(|own| allows(own, &rule)) {
                    self.wrong.lock().unwrap().push(format!("{aid:?}: {rule:?}"));
                }
            }
        }
    }
}

fn rules_of(known: &Known, sets: &BTreeMap<SetId, Vec<KernelRule>>) -> Vec<KernelRule> {
    known.sets.iter().flat_map(|id| sets[id].clone()).collect()
}

/// A reading of its own of what one rule of the kernel's allows of another.
fn allows(own: &KernelRule, wanted: &KernelRule) -> bool {
    use manifest::FsRight;
    let bits = |rule: &KernelRule| {
        let right = FsRight::ALL.into_iter().find(|r| r.capability() == rule.capability);
        right.map(FsRight::bits)
    };
    let kind = match (bits(own), bits(wanted)) {
        (Some(own), Some(wanted)) => own & wanted == wanted,
        _ => own.capability == wanted.capability,
    };
    let long =
        own.expires_ns == 0 || (wanted.expires_ns != 0 && wanted.expires_ns <= own.expires_ns);
    let object = match (&own.scope, &wanted.scope) {
        (_, KernelScope::Nothing) => return true,
        (KernelScope::File(own), KernelScope::File(wanted)) => {
            own.node() == wanted.node() || wanted.above().contains(&own.node())
        }
        (
            KernelScope::Net { addr: a, prefix: p, port: q },
            KernelScope::Net { addr: b, prefix: r, port: s },
        ) => (q == s || *q == 0) && (*p == 0 && a.is_ipv4() == b.is_ipv4() || (a == b && p <= r)),
        (KernelScope::Everything, KernelScope::Everything) => true,
        (KernelScope::UnixAbstract(a), KernelScope::UnixAbstract(b)) => a == b,
        _ => false,
    };
    kind && long && object
}

fn node(path: &Path) -> Option<Node> {
    use std::os::unix::fs::MetadataExt;
    let found = std::fs::symlink_metadata(path).ok()?;
    Some(Node { dev: found.dev(), ino: found.ino(), directory: found.is_dir() })
}

/// The handle that the daemon is given.
pub struct Port(pub Arc<Fake>, u64);

impl Port {
    fn step(&self, name: &str) -> Result<()> {
        self.0.life.go_on(self.1, name);
        self.0.step(name)
    }
}

impl KernelPort for Port {
    fn adopted(&self) -> bool {
        self.0.adopted.load(Ordering::SeqCst)
    }
    fn footing(&self, aid: AgentId) -> Result<Footing> {
        self.0.with(aid, |_| Footing { folder: format!("{aid:?}").into(), ..Footing::default() })
    }
    fn adopt_agent(&self, standing: &Standing, sets: &[SetId]) -> Result<Found> {
        self.step("adopt")?;
        let aid = standing.aid;
        let found = self.0.with(aid, |known| {
            known.sets = sets.to_vec();
            known.adopted = true;
            (known.pid, known.exited)
        });
        Ok(match found {
            Err(_) => Found::Gone,
            Ok((_, Some(exited))) => Found::Ended(exited),
            Ok((None, None)) => Found::Ended(Exited::default()),
            Ok((Some(pid), None)) => {
                match pidfd_open(as_pid(pid), PidfdFlags::empty()) {
                    Ok(pidfd) => Found::Running(Process { pid, pidfd }),
                    // The daemon before has waited for it.
                    Err(_) => {
                        let exited = Exited { status: None, signal: Some(9) };
                        self.0.with(aid, |known| known.exited = Some(exited))?;
                        Found::Ended(exited)
                    }
                }
            }
        })
    }
    fn adoption_done(&self) -> Result<Vec<AgentId>> {
        self.step("adoption_done")?;
        let mut agents = self.0.agents.lock().unwrap();
        let strangers: Vec<AgentId> =
            agents.iter().filter(|(_, known)| !known.adopted).map(|(aid, _)| *aid).collect();
        for aid in &strangers {
            let known = agents.remove(aid).unwrap();
            if let Some(pid) = known.pid {
                let _ = kill_process(as_pid(pid), Signal::KILL);
            }
        }
        agents.values_mut().for_each(|known| known.adopted = false);
        let before = *self.0.before.lock().unwrap();
        self.0.sets.lock().unwrap().retain(|id, _| id.0 > before);
        Ok(strangers)
    }
    fn exit_of(&self, aid: AgentId) -> Result<Option<Exited>> {
        self.0.with(aid, |known| known.exited)
    }
    fn seal(&self) -> Result<()> {
        self.step("seal")
    }
    fn handle(&self, fd: OwnedFd) -> Result<Handle> {
        self.step("handle")?;
        let path = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()))
            .map_err(|e| Error::Invalid(e.to_string()))?;
        let stat = rustix::fs::fstat(&fd).map_err(|e| Error::Invalid(e.to_string()))?;
        let own = Node { dev: stat.st_dev, ino: stat.st_ino, directory: path.is_dir() };
        let above = path.ancestors().skip(1).filter_map(node).collect();
        Ok(Handle::for_tests(fd, own, above))
    }
    fn make_set(&self, rules: &[KernelRule]) -> Result<SetId> {
        self.step("make_set")?;
        let mut next = self.0.next_set.lock().unwrap();
        *next += 1;
        self.0.sets.lock().unwrap().insert(SetId(*next), rules.to_vec());
        Ok(SetId(*next))
    }
    fn follow(
        &self,
        set: SetId,
        rule: u32,
        _: Option<&Handle>,
        new: Option<&Arc<Handle>>,
    ) -> Result<()> {
        self.step("follow")?;
        let mut sets = self.0.sets.lock().unwrap();
        let rule = &mut sets.get_mut(&set).unwrap()[rule as usize - 1];
        rule.scope = match new {
            None => KernelScope::Nothing,
            Some(new) => {
                let fd = new.fd().try_clone_to_owned().unwrap();
                KernelScope::File(Arc::new(Handle::for_tests(fd, new.node(), new.above().to_vec())))
            }
        };
        Ok(())
    }
    fn drop_set(&self, set: SetId) -> Result<()> {
        // Remains of a daemon that was killed in its own process: one that is killed does nothing more.
        if self.0.life.is_over(self.1) {
            return Ok(());
        }
        self.step("drop_set")?;
        let agents = self.0.agents.lock().unwrap();
        // Told and not thrown: after a test that failed this is a thread of the daemon's own.
        if agents.values().any(|known| known.sets.contains(&set)) {
            self.0.wrong.lock().unwrap().push(format!("{set:?} is dropped and held"));
        }
        self.0.sets.lock().unwrap().remove(&set);
        Ok(())
    }
    fn create_agent(&self, agent: &NewAgent, sets: &[SetId]) -> Result<()> {
        self.step("create")?;
        assert!(sets.len() <= kernel::SETS_MAX);
        let known = Known {
            parent: agent.parent,
            sets: sets.to_vec(),
            weight: agent.weight,
            ..Known::default()
        };
        self.0.agents.lock().unwrap().insert(agent.aid, known);
        self.0.look();
        Ok(())
    }
    fn assign(&self, aid: AgentId, sets: &[SetId]) -> Result<bool> {
        self.step("assign")?;
        self.0.with(aid, |known| known.sets = sets.to_vec())?;
        self.0.look();
        Ok(!self.0.nothing_mapped.load(Ordering::Relaxed))
    }
    fn set_parent(&self, aid: AgentId, _: AgentId) -> Result<()> {
        self.0.with(aid, |_| ())
    }
    fn set_state(&self, aid: AgentId, state: AgentState) -> Result<()> {
        self.step("set_state")?;
        self.0.with(aid, |known| known.state = Some(state))
    }
    fn prepare(&self, aid: AgentId, launch: Launch) -> Result<Box<dyn Ready>> {
        self.step("prepare")?;
        Ok(Box::new(waiting::Waiting { fake: self.0.clone(), number: self.1, aid, launch }))
    }
    fn make_room(&self, _: AgentId, _: Option<u64>) -> Result<()> {
        self.step("make_room")
    }
    fn freeze(&self, aid: AgentId) -> Result<()> {
        self.step("freeze")?;
        self.0.with(aid, |known| known.frozen = true)
    }
    fn thaw(&self, aid: AgentId) -> Result<()> {
        self.step("thaw")?;
        self.0.with(aid, |known| known.frozen = false)
    }
    fn kill(&self, aid: AgentId) -> Result<()> {
        self.step("kill")?;
        let pid = self.0.with(aid, |known| {
            known.killed = true;
            known.pid
        })?;
        if let Some(pid) = pid {
            let _ = kill_process(as_pid(pid), Signal::KILL);
        }
        Ok(())
    }
    fn set_weight(&self, aid: AgentId, weight: u32) -> Result<()> {
        self.step("weight")?;
        self.0.with(aid, |known| known.weight = weight)
    }
    fn set_tenant_weight(&self, _: &str, _: u32) -> Result<()> {
        self.step("tenant_weight")
    }
    fn live_mappings(&self, _: AgentId) -> Result<Vec<Mapping>> {
        self.step("live_mappings")?;
        Ok(self.0.mapped.lock().unwrap().clone())
    }
    fn populated(&self, _: AgentId) -> Result<bool> {
        self.step("populated")?;
        Ok(false)
    }
    fn remove_agent(&self, aid: AgentId) -> Result<()> {
        self.step("remove")?;
        self.0.agents.lock().unwrap().remove(&aid);
        Ok(())
    }
    fn counters(&self, aid: AgentId) -> Result<Counters> {
        self.0.with(aid, |known| Counters { denials: known.denials, uses: 0 })
    }
    fn peer_of_tcp(&self, _: SocketAddr, _: SocketAddr) -> Result<Option<AgentId>> {
        Ok(self.0.agents.lock().unwrap().keys().next().copied())
    }
    fn agent_of_pidfd(&self, _: BorrowedFd<'_>) -> Result<Option<AgentId>> {
        Ok(*self.0.caller.lock().unwrap())
    }
    fn read_events_now(&self) {}
    fn events(&self) -> Result<Box<dyn EventSource>> {
        let source = self.0.source.lock().unwrap().take();
        Ok(Box::new(Source(source.ok_or_else(|| Error::Invalid("taken".into()))?)))
    }
    fn programs(&self) -> Vec<String> {
        vec!["fake".into()]
    }
}

/// Look-ups on this machine, each a step.
struct Stepped {
    fake: Arc<Fake>,
    number: u64,
    machine: Machine,
}

impl Lookup for Stepped {
    fn rules<'a>(
        &'a self,
        tenant: &'a str,
        rules: &'a [(manifest::Rule, Absent)],
    ) -> BoxFuture<'a, std::result::Result<Vec<Resolved>, RuleError>> {
        Box::pin(async move {
            let found = self.machine.rules(tenant, rules).await?;
            self.fake.life.go_on(self.number, "look up rules");
            match tokio::task::block_in_place(|| self.fake.fails("look up rules")) {
                true => Err(RuleError::Stopped),
                false => Ok(found),
            }
        })
    }

    fn program<'a>(
        &'a self,
        path: &'a AbsPath,
    ) -> BoxFuture<'a, std::result::Result<Program, ProgramError>> {
        Box::pin(async move {
            let found = self.machine.program(path).await?;
            self.fake.life.go_on(self.number, "open the program");
            match tokio::task::block_in_place(|| self.fake.fails("open the program")) {
                true => Err(ProgramError::Busy(path.clone())),
                false => Ok(found),
            }
        })
    }
}

/// The log, each write a step. It cannot fail for good: the writer tries until it is done.
struct Logged {
    fake: Arc<Fake>,
    number: u64,
    log: Box<dyn AuditLog>,
}

impl AuditLog for Logged {
    fn append(&mut self, entries: &[Entry]) -> anyhow::Result<u64> {
        self.fake.life.go_on(self.number, "append to the log");
        match self.fake.fails("append to the log") {
            true => anyhow::bail!("no space left on device"),
            false => self.log.append(entries),
        }
    }
    fn checkpoint(&mut self) -> anyhow::Result<()> {
        self.fake.life.go_on(self.number, "sign a checkpoint");
        self.log.checkpoint()
    }
    fn note(&self) -> String {
        self.log.note()
    }
    fn close(&mut self) -> anyhow::Result<()> {
        self.log.close()
    }
    fn news(&mut self) -> Option<Entry> {
        self.log.news()
    }
}

struct Source(Receiver<Event>);

impl EventSource for Source {
    fn poll(&mut self, timeout: Duration, sink: &mut dyn FnMut(&Event, u64)) -> Result<usize> {
        match self.0.recv_timeout(timeout) {
            Ok(event) => {
                sink(&event, 0);
                Ok(1)
            }
            Err(_) => Ok(0),
        }
    }
    fn release(&mut self, _position: u64) {}
    fn position(&self) -> u64 {
        0
    }
    fn waiting(&self, _position: u64) -> HashMap<AgentId, Counters> {
        HashMap::new()
    }
    fn lost(&mut self) -> Result<u64> {
        Ok(0)
    }
}

fn as_pid(pid: u32) -> Pid {
    Pid::from_raw(i32::try_from(pid).unwrap()).unwrap()
}

/// A daemon below a folder of its own, with the fake beneath it, serving real sockets.
pub struct Running {
    folder: tempfile::TempDir,
    pub fake: Arc<Fake>,
    pub daemon: Arc<Daemon>,
    runtime: tokio::runtime::Runtime,
}

impl Running {
    pub fn start() -> Running {
        Running::start_with(|_| {})
    }

    /// With so much for callers to hold.
    pub fn start_sized(sizes: Sizes) -> Running {
        Running::start_as(|config| config.sizes = sizes)
    }

    pub fn start_with(prepare: impl FnOnce(&Config)) -> Running {
        Running::start_as(|config| prepare(config))
    }

    pub fn start_as(prepare: impl FnOnce(&mut Config)) -> Running {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config { agent_user: "nobody".into(), ..Config::below(folder.path()) };
        prepare(&mut config);
        Running::on_kernel(Fake::new(), folder, config)
    }

    /// The daemon ends between two steps, as if it were killed, and another follows.
    pub fn followed(self) -> Running {
        let Running { folder, fake, daemon, runtime } = self;
        let config = daemon.config.clone();
        // Whatever it was at ends where it waits; threads of its own end with what they hold.
        fake.life.end();
        runtime.shutdown_timeout(Duration::from_secs(20));
        let gone = Arc::downgrade(&daemon);
        drop(daemon);
        while gone.strong_count() > 0 {
            std::thread::sleep(Duration::from_millis(5));
        }
        // The writer of the log has it until its thread has ended.
        let lock = std::fs::File::open(config.audit.join("lock")).unwrap();
        while rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            std::thread::sleep(Duration::from_millis(5));
        }
        drop(lock);
        fake.life.bury(&config.run);
        *fake.before.lock().unwrap() = *fake.next_set.lock().unwrap();
        let (events, source) = channel();
        *fake.events.lock().unwrap() = events;
        *fake.source.lock().unwrap() = Some(source);
        fake.adopted.store(true, Ordering::SeqCst);
        Running::on_kernel(fake, folder, config)
    }

    fn on_kernel(fake: Arc<Fake>, folder: tempfile::TempDir, config: Config) -> Running {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(4)
            .enable_all()
            .build()
            .unwrap();
        let (looking, logging, writing) = (fake.clone(), fake.clone(), fake.clone());
        let number = fake.life.begin(&config.run);
        let start = Start {
            degraded: Vec::new(),
            config,
            features: Vec::new(),
            release: "test".into(),
            lookup: Some(Box::new(move |kernel| {
                let machine = Machine::start(kernel).unwrap();
                Arc::new(Stepped { fake: looking, number, machine })
            })),
            log: Some(Box::new(move |log| Box::new(Logged { fake: logging, number, log }))),
            keeper: Arc::new(Store(fake.clone(), number)),
            registry: Some(Box::new(move |database| {
                let fails = move || writing.unwritable.load(Ordering::SeqCst) == number;
                database.commit_hook(Some(fails)).unwrap();
            })),
        };
        let daemon =
            runtime.block_on(boot::start(start, Arc::new(Port(fake.clone(), number)))).unwrap();
        Running { folder, fake, daemon, runtime }
    }

    pub fn client(&self) -> api::client::Client {
        api::client::Client::new(&self.daemon.config.api_socket()).unwrap()
    }

    pub fn stop(&self) {
        self.runtime.block_on(async {
            self.end_all().await;
            boot::stop(&self.daemon).await;
        });
        let wrong = self.fake.wrong.lock().unwrap();
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    /// Ends every agent and returns when all are gone.
    async fn end_all(&self) {
        let living: Vec<AgentId> =
            self.daemon.inner().supervisor.living().map(|agent| agent.aid).collect();
        let exits = living.iter().map(|aid| self.daemon.inner().end_of(*aid).unwrap());
        for mut exit in exits.collect::<Vec<_>>() {
            let ending = Ending::new(supervisor::End::Clean, "the test is over");
            living.iter().for_each(|aid| {
                reap::end(&self.daemon, *aid, &ending);
            });
            exit.wait_for(Option::is_some).await.unwrap();
        }
    }

    /// Runs something on the daemon's runtime.
    pub fn on<T>(&self, act: impl Future<Output = T>) -> T {
        self.runtime.block_on(act)
    }

    /// What the calls of this process are taken for, from now on.
    pub fn become_agent(&self, aid: Option<AgentId>) {
        *self.fake.caller.lock().unwrap() = aid;
    }
}
