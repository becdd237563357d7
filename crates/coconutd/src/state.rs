//! What the daemon knows: the supervisor's agents, and for each what belongs to this machine.

use crate::authority::trust::Trust;
use crate::callers::Callers;
use crate::clock;
use crate::config::Config;
use crate::feed::Feed;
use crate::handed::Waiting;
use crate::journals::Journals;
use crate::members::Members;
use crate::output::Shelf;
use crate::owner::{Owner, States};
use crate::port::{KernelPort, Lookup};
use crate::registry::Registry;
use crate::rights::launch::Given;
use crate::rights::system::System;
use crate::rights::{KernelSet, Room};
use crate::sink::Sink;
use crate::tree::Tree;
use abi::{AgentId, AgentState, Capability, Kind, Verdict};
use record::{Entry, body};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::{Deref, DerefMut};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use supervisor::{End, Event, Supervisor};
use tokio::sync::Notify;
use uuid::Uuid;

/// Beginning of an attempt's operation where the daemon itself refused; its reason follows.
pub const API: &str = "api: ";

/// How somebody other than the program itself ends an agent.
#[derive(Clone, Debug)]
pub struct Ending {
    /// Its last state.
    pub end: End,
    /// For people.
    pub reason: String,
    /// The signal that was asked for, where that is not how it was ended.
    pub signal: Option<i32>,
}

impl Ending {
    /// An ending by the daemon's own means.
    pub fn new(end: End, reason: impl Into<String>) -> Self {
        Ending { end, reason: reason.into(), signal: None }
    }
}

/// What belongs to one agent on this machine, beside what the supervisor knows.
#[derive(Debug)]
pub struct Info {
    /// Its id outside.
    pub uuid: Uuid,
    /// Program and arguments.
    pub command: Vec<String>,
    /// The user that it runs as.
    pub uid: u32,
    /// The user that asked for it.
    pub owner: u32,
    /// First process.
    pub pid: Option<u32>,
    /// The same, free of reuse: what signals go to.
    pub pidfd: Option<Arc<OwnedFd>>,
    /// Whose rights are changed one change at a time.
    pub tree: Arc<Tree>,
    /// Through which its state gets into the kernel.
    pub kernel: Arc<Owner>,
    /// The sets that the kernel has it hold.
    pub sets: Vec<Arc<KernelSet>>,
    /// Sets that it held, by the kernel's id, and the number of their first position: events that
    /// are on their way name them.
    pub numbers: VecDeque<(kernel::SetId, u32, Arc<[u32]>)>,
    /// Whose `/proc`, `/tmp` and IPC namespace it uses.
    pub namespaces: manifest::Namespaces,
    /// Where its code may come from.
    pub exec: manifest::Exec,
    /// Whose quarantine reached it, if it is not its own.
    pub held_with: Option<Uuid>,
    /// What it has from its launch on.
    pub launch: Vec<Given>,
    /// Nanoseconds since the UNIX epoch.
    pub started_ns: u64,
    /// Nanoseconds since the UNIX epoch.
    pub ended_ns: Option<u64>,
    /// Whose manifest.
    pub origin: api::agent::Provenance,
    /// SHA-256 of the program.
    pub program_digest: Option<String>,
    /// Output of a background agent.
    pub log_file: Option<String>,
    /// Set before somebody ends it.
    pub ending: Option<Ending>,
    /// Denial records that came from kernel events.
    pub kernel_denials: u64,
    /// Denial records of the daemon's own.
    pub daemon_denials: u64,
    /// Use and exec records.
    pub uses: u64,
    /// The kernel's counters when it ended.
    pub last_counters: Option<kernel::Counters>,
    /// Tokens read and written.
    pub tokens: u64,
    /// Inference calls, refused ones included.
    pub calls: u64,
    /// How its first process ended, once that is booked.
    pub exited: Option<kernel::Exited>,
    /// How it ended, once nothing of it is left.
    pub exit: Option<api::Exit>,
    /// Its place in the kernel, once its program runs: for the next daemon.
    pub footing: Option<kernel::Footing>,
}

/// Inference of one tenant since the daemon started.
#[derive(Clone, Copy, Debug, Default)]
pub struct TenantUse {
    /// Tokens read and written.
    pub tokens: u64,
    /// Calls, refused ones included.
    pub calls: u64,
    /// Refused calls.
    pub refused: u64,
}

/// Everything that changes, behind one lock that is never held across I/O that can wait.
#[derive(Debug)]
pub struct Inner {
    /// Lifecycle, tree, rights, weights.
    pub supervisor: Supervisor,
    /// By agent.
    pub info: HashMap<AgentId, Info>,
    /// By the user that asked for them, in the order of their birth.
    pub by_owner: HashMap<u32, BTreeMap<Uuid, AgentId>>,
    /// By tenant.
    pub tenants: HashMap<String, TenantUse>,
    /// What of the broker's calls is booked.
    pub journals: Journals,
    /// Agents since the daemon started.
    pub admitted: u64,
    /// Where changes are told.
    pub feed: Feed,
}

/// What changes, while nobody else has it. What was changed is told when it is given up, so that nobody who changes
/// something has to think of it.
pub struct Locked<'a>(MutexGuard<'a, Inner>);

impl Deref for Locked<'_> {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

impl DerefMut for Locked<'_> {
    fn deref_mut(&mut self) -> &mut Inner {
        &mut self.0
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        if self.0.supervisor.has_news() {
            self.0.tell_news();
        }
    }
}

/// The daemon.
pub struct Daemon {
    /// Paths and names.
    pub config: Config,
    /// The policy in the kernel.
    pub kernel: Arc<dyn KernelPort>,
    /// The way into the log.
    pub sink: Sink,
    /// Where names are looked up.
    pub lookup: Arc<dyn Lookup>,
    /// What the next daemon needs to know.
    pub registry: Registry,
    /// The sets in the kernel.
    pub rights: Room,
    /// Those that come with the system.
    pub system: System,
    /// Descriptors whose spawn has not come yet.
    pub stdio: Waiting,
    /// What background agents wrote.
    pub shelf: Arc<Shelf>,
    /// What each caller holds of what all share.
    pub callers: Callers,
    /// Who is an operator.
    pub members: Members,
    /// Keys that may sign manifests.
    pub trust: Trust,
    /// Tenants' weights are changed one at a time.
    pub weights: tokio::sync::Mutex<()>,
    /// Held from when a batch of kernel events is booked until its records are on their way to the log.
    pub batch: Mutex<()>,
    /// Told after each batch of kernel events.
    pub drained: Notify,
    /// A look at the ring found nothing in it.
    pub emptied: Notify,
    /// Told when an agent's denials have reached its limit.
    pub overstepped: Notify,
    /// Told when something was given that may expire.
    pub expiry: Notify,
    /// Nanoseconds since the UNIX epoch.
    pub started_ns: u64,
    /// The policy is sealed.
    pub sealed: AtomicBool,
    /// No more changes begin.
    pub stopping: AtomicBool,
    /// Agents that are being started.
    pub starting: AtomicU32,
    /// Changes that have begun.
    pub changing: AtomicU32,
    /// Events that are known to be lost.
    pub lost: AtomicU64,
    /// What was weaker at start.
    pub degraded: Vec<String>,
    /// What this kernel and machine offer.
    pub features: Vec<api::status::Feature>,
    /// How the log's checkpoints are signed.
    pub log_key: String,
    /// How far the log was verified.
    pub log_check: Arc<Mutex<api::status::LogCheck>>,
    inner: Mutex<Inner>,
}

/// What a [`Daemon`] is made of.
pub struct Parts {
    /// Paths and names.
    pub config: Config,
    /// The policy in the kernel.
    pub kernel: Arc<dyn KernelPort>,
    /// The way into the log.
    pub sink: Sink,
    /// Where names are looked up.
    pub lookup: Arc<dyn Lookup>,
    /// What the next daemon needs to know.
    pub registry: Registry,
    /// The sets in the kernel.
    pub rights: Room,
    /// Those that come with the system.
    pub system: System,
    /// What background agents wrote.
    pub shelf: Arc<Shelf>,
    /// Gives out the names of sets.
    pub keys: Arc<supervisor::SetKeys>,
    /// Keys that may sign manifests.
    pub trust: Trust,
    /// What was weaker at start.
    pub degraded: Vec<String>,
    /// What this kernel and machine offer.
    pub features: Vec<api::status::Feature>,
    /// How the log's checkpoints are signed.
    pub log_key: String,
    /// How far the log was verified.
    pub log_check: Arc<Mutex<api::status::LogCheck>>,
}

impl Daemon {
    /// A daemon without agents.
    pub fn new(parts: Parts) -> Arc<Self> {
        Arc::new(Daemon {
            callers: Callers::new(&parts.config.sizes),
            members: Members::default(),
            config: parts.config,
            kernel: parts.kernel,
            sink: parts.sink,
            lookup: parts.lookup,
            registry: parts.registry,
            rights: parts.rights,
            system: parts.system,
            stdio: Waiting::default(),
            shelf: parts.shelf,
            trust: parts.trust,
            weights: tokio::sync::Mutex::default(),
            batch: Mutex::default(),
            drained: Notify::new(),
            emptied: Notify::new(),
            overstepped: Notify::new(),
            expiry: Notify::new(),
            started_ns: clock::wall_ns(),
            sealed: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            starting: AtomicU32::new(0),
            changing: AtomicU32::new(0),
            lost: AtomicU64::new(0),
            degraded: parts.degraded,
            features: parts.features,
            log_key: parts.log_key,
            log_check: parts.log_check,
            inner: Mutex::new(Inner {
                supervisor: Supervisor::new(
                    supervisor::Limits { sets: kernel::SETS_MAX, ..supervisor::Limits::default() },
                    parts.keys,
                ),
                info: HashMap::new(),
                by_owner: HashMap::new(),
                tenants: HashMap::new(),
                journals: Journals::default(),
                admitted: 0,
                feed: Feed::default(),
            }),
        })
    }

    /// The changing part. A poisoned lock is taken all the same: half-written state is worse lost
    /// than kept, and every change is one assignment.
    pub fn inner(&self) -> Locked<'_> {
        Locked(self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// An agent's outside id.
    pub fn uuid_of(&self, aid: AgentId) -> Option<Uuid> {
        self.inner().supervisor.get(aid).ok().map(|agent| agent.uuid)
    }

    /// No more changes begin.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }
}

impl States for Daemon {
    fn state_of(&self, aid: AgentId) -> Option<AgentState> {
        self.inner().supervisor.get(aid).ok().map(supervisor::Agent::state)
    }

    fn kernel(&self) -> &dyn KernelPort {
        &*self.kernel
    }
}

impl Inner {
    /// An entry about an agent, with everything filled in that is known of it.
    pub fn entry(&self, aid: AgentId, kind: Kind) -> Entry {
        let mut entry = crate::sink::own(kind, "", "");
        entry.aid = aid.0;
        if let Ok(agent) = self.supervisor.get(aid) {
            entry.agent = agent.uuid;
            entry.tenant.clone_from(&agent.tenant);
            let parent = agent.parent.and_then(|parent| self.supervisor.get(parent).ok());
            entry.parent = parent.map_or(Uuid::nil(), |parent| parent.uuid);
        }
        entry
    }

    /// Moves an agent on in its life; the record of the step, if there was one.
    pub fn step(&mut self, aid: AgentId, event: Event) -> Option<(AgentState, Entry)> {
        match self.supervisor.event(aid, event) {
            Ok(Ok(Some(step))) => Some((step.to, self.state_entry(aid, step))),
            Ok(Ok(None)) => None,
            Ok(Err(illegal)) => {
                tracing::debug!(?aid, %illegal, "no step");
                None
            }
            Err(_) => None,
        }
    }

    /// The record of a step in an agent's life.
    pub fn state_entry(&self, aid: AgentId, step: supervisor::Transition) -> Entry {
        let mut entry = self.entry(aid, Kind::State);
        entry.object = step.to.name().to_owned();
        let from = step.from.name().to_owned();
        entry.body = body::State { from, ..body::State::default() }.into();
        entry
    }

    /// The record of a refusal by the daemon; counts it and keeps it for `explain`.
    pub fn refusal(
        &mut self,
        aid: AgentId,
        capability: Capability,
        object: &str,
        why: &str,
    ) -> Vec<Entry> {
        let time_ns = clock::wall_ns();
        let attempt = supervisor::Attempt {
            time_ns,
            boot_ns: clock::boot_ns(),
            capability,
            object: object.to_owned(),
            operation: format!("{API}{why}"),
            program: "coconutd".to_owned(),
            errno: -13,
            count: 1,
        };
        let noted = self.supervisor.deny(aid, attempt);
        if let Some(info) = self.info.get_mut(&aid) {
            info.daemon_denials += 1;
        }
        let mut entry = self.entry(aid, Kind::Denial);
        entry.capability = capability;
        entry.verdict = Verdict::Deny;
        entry.object = object.to_owned();
        let (op, why) = ("api".to_owned(), why.to_owned());
        entry.body = body::Attempt { op, why, ..body::Attempt::default() }.into();
        let mut entries = vec![entry];
        if let Ok(supervisor::Noted { transition: Some(step), .. }) = noted {
            entries.push(self.state_entry(aid, step));
        }
        entries
    }

    /// Drops what belongs to an agent that the supervisor has forgotten.
    pub fn forget(&mut self, aid: AgentId) -> Option<Info> {
        let info = self.info.remove(&aid)?;
        if let Some(own) = self.by_owner.get_mut(&info.owner) {
            own.remove(&info.uuid);
            if own.is_empty() {
                self.by_owner.remove(&info.owner);
            }
        }
        Some(info)
    }

    /// Takes up what belongs to a new agent.
    pub fn enter(&mut self, aid: AgentId, info: Info) {
        self.by_owner.entry(info.owner).or_default().insert(info.uuid, aid);
        self.info.insert(aid, info);
    }

    /// The number of a rule within its agent, as people see it; none for what no rule names.
    pub fn number(&self, aid: AgentId, set: u32, rule: u32) -> Option<u32> {
        let numbers = &self.info.get(&aid)?.numbers;
        let (_, first, positions) = numbers.iter().rev().find(|(id, ..)| id.0 == set)?;
        positions.get(usize::try_from(rule).ok()?.checked_sub(1)?).map(|at| first + at)
    }
}
