//! A kernel that only remembers: it starts real processes, decides nothing, and emits the events
//! it is told to. Every call of it, of the look-ups and of the log is a step that a test can see,
//! have fail, or wait at.

#![allow(dead_code)] // each test file uses a part of it

mod life;
mod port;
pub mod requests;
mod running;
mod seen;
mod waiting;

use abi::event::Event;
use abi::{AgentId, AgentState};
use kernel::{Error, Exited, KernelRule, KernelScope, Mapping, Node, Result, SetId};
pub use running::Running;
use std::collections::{BTreeMap, HashMap};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

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
    pub strict: bool,
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
    pub more_uses: Mutex<BTreeMap<u64, u64>>,
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
    /// What agents are said to have still of what they lose.
    pub remains: Mutex<kernel::Remains>,
    /// Agents have pages held while their mappings are looked at.
    pub pins_meanwhile: AtomicBool,
    /// What was wrong at some moment: a child with more than its parent, a set dropped that somebody holds.
    pub wrong: Mutex<Vec<String>>,
    /// The policy was there when the daemon came.
    pub adopted: AtomicBool,
    /// Which daemon lives, and when it is killed.
    pub life: life::Life,
    /// The number of the daemon that can write nothing to the registry; the first is 0.
    pub unwritable: AtomicU64,
    /// What is done to the registry before the next daemon reads it.
    pub rewrite: Mutex<Option<String>>,
    /// What is kept open while there is no daemon.
    pub kept: Mutex<BTreeMap<String, OwnedFd>>,
    events: Mutex<Sender<Event>>,
    source: Mutex<Option<Receiver<Event>>>,
}

impl Fake {
    pub fn new() -> Arc<Fake> {
        let (events, source) = channel();
        Arc::new(Fake {
            agents: Mutex::default(),
            sets: Mutex::default(),
            more_uses: Mutex::default(),
            next_set: Mutex::default(),
            before: Mutex::default(),
            steps: AtomicU64::new(0),
            watch: Mutex::default(),
            broken: Mutex::default(),
            meeting: Mutex::default(),
            caller: Mutex::default(),
            mapped: Mutex::default(),
            remains: Mutex::new(kernel::Remains::Mapped),
            pins_meanwhile: AtomicBool::new(false),
            unwritable: AtomicU64::new(u64::MAX),
            wrong: Mutex::default(),
            rewrite: Mutex::default(),
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
