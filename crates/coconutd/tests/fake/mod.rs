//! A kernel that only remembers: it starts real processes, decides nothing, and emits the events
//! it is told to.

#![allow(dead_code)] // each test file uses a part of it

use abi::event::Event;
use abi::{AgentId, AgentState};
use coconutd::boot::{self, Start};
use coconutd::callers::Sizes;
use coconutd::config::Config;
use coconutd::port::{EventSource, KernelPort};
use coconutd::state::Daemon;
use kernel::{Counters, Error, Launch, Mapping, NewAgent, Process, Result, Rule};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What the fake knows of an agent.
#[derive(Default)]
pub struct Known {
    pub rules: Vec<Rule>,
    pub state: Option<AgentState>,
    pub pid: Option<u32>,
    pub frozen: bool,
    pub denials: u64,
}

pub struct Fake {
    pub agents: Mutex<HashMap<AgentId, Known>>,
    /// Names of steps that fail.
    pub broken: Mutex<Vec<&'static str>>,
    /// Whom the caller of the next connections is taken for.
    pub caller: Mutex<Option<AgentId>>,
    /// Paths that agents have mapped.
    pub mapped: Mutex<Vec<Mapping>>,
    events: Sender<Event>,
    source: Mutex<Option<Receiver<Event>>>,
}

impl Fake {
    pub fn new() -> Arc<Fake> {
        let (events, source) = channel();
        Arc::new(Fake {
            agents: Mutex::default(),
            broken: Mutex::default(),
            caller: Mutex::default(),
            mapped: Mutex::default(),
            events,
            source: Mutex::new(Some(source)),
        })
    }

    /// The kernel refuses something: counted, and told.
    pub fn deny(&self, aid: AgentId, event: Event) {
        self.agents.lock().unwrap().get_mut(&aid).unwrap().denials += 1;
        self.events.send(event).unwrap();
    }

    fn step(&self, name: &'static str) -> Result<()> {
        match self.broken.lock().unwrap().contains(&name) {
            true => Err(Error::Invalid(format!("{name} was told to fail"))),
            false => Ok(()),
        }
    }

    fn with<T>(&self, aid: AgentId, act: impl FnOnce(&mut Known) -> T) -> Result<T> {
        let mut agents = self.agents.lock().unwrap();
        agents.get_mut(&aid).map(act).ok_or_else(|| Error::Invalid("no such agent".into()))
    }
}

/// The handle that the daemon is given.
pub struct Port(pub Arc<Fake>);

impl KernelPort for Port {
    fn seal(&self) -> Result<()> {
        self.0.step("seal")
    }
    fn create_agent(&self, agent: &NewAgent) -> Result<()> {
        self.0.step("create")?;
        self.0.agents.lock().unwrap().insert(agent.aid, Known::default());
        Ok(())
    }
    fn apply(&self, aid: AgentId, rules: &[Rule]) -> Result<()> {
        self.0.step("apply")?;
        self.0.with(aid, |known| known.rules = rules.to_vec())
    }
    fn set_state(&self, aid: AgentId, state: AgentState) -> Result<()> {
        self.0.with(aid, |known| known.state = Some(state))
    }
    fn launch(&self, aid: AgentId, launch: Launch) -> Result<Process> {
        self.0.step("launch")?;
        let [stdin, stdout, stderr] = launch.stdio;
        let child = std::process::Command::new(&launch.argv[0])
            .args(&launch.argv[1..])
            .env_clear()
            .envs(launch.env)
            .stdin(stdin)
            .stdout(stdout)
            .stderr(stderr)
            .spawn()
            .map_err(|e| Error::Invalid(e.to_string()))?;
        let pid = child.id();
        let pidfd = pidfd_open(as_pid(pid), PidfdFlags::empty())
            .map_err(|e| Error::Invalid(e.to_string()))?;
        self.0.with(aid, |known| known.pid = Some(pid))?;
        Ok(Process { pid, pidfd })
    }
    fn freeze(&self, aid: AgentId) -> Result<()> {
        self.0.with(aid, |known| known.frozen = true)
    }
    fn thaw(&self, aid: AgentId) -> Result<()> {
        self.0.with(aid, |known| known.frozen = false)
    }
    fn kill(&self, aid: AgentId) -> Result<()> {
        let pid = self.0.with(aid, |known| known.pid)?;
        if let Some(pid) = pid {
            let _ = kill_process(as_pid(pid), Signal::KILL);
        }
        Ok(())
    }
    fn set_weight(&self, _: AgentId, _: u32) -> Result<()> {
        self.0.step("weight")
    }
    fn set_tenant_weight(&self, _: &str, _: u32) -> Result<()> {
        self.0.step("weight")
    }
    fn mappings_below(&self, _: AgentId, path: &Path) -> Result<Vec<Mapping>> {
        let mapped = self.0.mapped.lock().unwrap();
        Ok(mapped.iter().filter(|m| m.path.starts_with(path)).cloned().collect())
    }
    fn processes(&self, _: AgentId) -> Result<Vec<u32>> {
        Ok(Vec::new())
    }
    fn remove_agent(&self, aid: AgentId) -> Result<()> {
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
    fn events(&self) -> Result<Box<dyn EventSource>> {
        let source = self.0.source.lock().unwrap().take();
        Ok(Box::new(Source(source.ok_or_else(|| Error::Invalid("taken".into()))?)))
    }
    fn programs(&self) -> Vec<String> {
        vec!["fake".into()]
    }
}

struct Source(Receiver<Event>);

impl EventSource for Source {
    fn poll(&mut self, timeout: Duration, sink: &mut dyn FnMut(&Event)) -> Result<usize> {
        match self.0.recv_timeout(timeout) {
            Ok(event) => {
                sink(&event);
                Ok(1)
            }
            Err(_) => Ok(0),
        }
    }
    fn lost(&self) -> Result<u64> {
        Ok(0)
    }
}

fn as_pid(pid: u32) -> Pid {
    Pid::from_raw(i32::try_from(pid).unwrap()).unwrap()
}

/// A daemon below a folder of its own, with the fake beneath it, serving real sockets.
pub struct Running {
    _folder: tempfile::TempDir,
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

    fn start_as(prepare: impl FnOnce(&mut Config)) -> Running {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config { agent_user: "nobody".into(), ..Config::below(folder.path()) };
        prepare(&mut config);
        let fake = Fake::new();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let start = Start { config, features: Vec::new(), release: "test".into() };
        let daemon = runtime.block_on(boot::start(start, Arc::new(Port(fake.clone())))).unwrap();
        Running { _folder: folder, fake, daemon, runtime }
    }

    pub fn client(&self) -> api::client::Client {
        api::client::Client::new(&self.daemon.config.api_socket()).unwrap()
    }

    pub fn stop(&self) {
        self.runtime.block_on(boot::stop(&self.daemon));
    }

    /// What the calls of this process are taken for, from now on.
    pub fn become_agent(&self, aid: Option<AgentId>) {
        *self.fake.caller.lock().unwrap() = aid;
    }
}
