//! A state of the world: a daemon with the real books, what the kernel was told, what is written down for the next daemon,
//! and what the properties need to know of the past.

use crate::restart::Written;
use crate::rights::{self, Files};
use crate::steps::Task;
use abi::AgentId;
use coconut_supervisor::{Change, HeldSet, Supervisor};
use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// What runs of an agent.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Process {
    /// Nothing, or nothing any more.
    None,
    /// Its first process is made, and its program does not run yet.
    Made,
    /// Its program.
    Runs,
}

/// An agent, as the kernel was told.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct InKernel {
    pub may: Files,
    pub parent: AgentId,
    /// Everything is denied to it, and it is frozen.
    pub stands: bool,
    pub process: Process,
}

/// What the daemon knows of an agent beside the books.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub struct Info {
    /// Somebody ends it.
    pub ending: bool,
    /// Whose quarantine has reached it.
    pub held_with: Option<AgentId>,
    /// The next daemon can find it in the kernel.
    pub footing: bool,
}

/// The real books, with a number that says what is in them: sets have keys of their own in every branch.
#[derive(Clone, Debug)]
pub struct Books {
    pub supervisor: Supervisor,
    digest: u64,
}

impl Books {
    pub fn of(supervisor: Supervisor) -> Arc<Books> {
        let digest = digest(&supervisor);
        Arc::new(Books { supervisor, digest })
    }
}

fn digest(s: &Supervisor) -> u64 {
    let mut hash = DefaultHasher::new();
    s.generation().hash(&mut hash);
    for agent in s.all_since(None) {
        let parent = agent.parent.filter(|parent| s.get(*parent).is_ok());
        (agent.aid, agent.uuid, parent, agent.state() as u32, agent.below()).hash(&mut hash);
        agent.children().for_each(|child| child.hash(&mut hash));
        if let Some(saved) = s.saved(agent.aid) {
            (saved.released, saved.reparents, saved.next_rule).hash(&mut hash);
        }
        hash_sets(agent.sets(), &mut hash);
    }
    hash.finish()
}

fn hash_sets(sets: &[HeldSet], hash: &mut impl Hasher) {
    for held in sets {
        (held.first, held.granted).hash(hash);
        held.set.positions().hash(hash);
    }
}

/// A planned change, told by what it does.
pub fn hash_change(change: &Change, hash: &mut impl Hasher) {
    change.aid.hash(hash);
    hash_sets(&change.sets, hash);
}

/// A daemon that runs.
#[derive(Clone, Debug)]
pub struct Daemon {
    pub books: Arc<Books>,
    pub info: BTreeMap<AgentId, Info>,
    pub tasks: Vec<Task>,
    /// Agents whose end brings with it what it does, and how far that has come.
    pub ends: BTreeMap<AgentId, u8>,
    /// Somebody changes the rights of the tree.
    pub locked: bool,
    /// The books were changed since they were written down.
    pub dirty: bool,
}

/// What has happened, as far as it binds what may be.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub struct Past {
    /// What was revoked and is booked, but not yet written down: a daemon that dies may bring it back.
    pub booked: BTreeMap<AgentId, Files>,
    /// What was revoked for good, until it is granted anew.
    pub gone: BTreeMap<AgentId, Files>,
    /// Who was released by name, or with one that was, although somebody above stands still.
    pub freed: BTreeSet<AgentId>,
    /// A daemon has followed another.
    pub followed: bool,
    /// That one died when the kernel had half of a revocation.
    pub halved: bool,
    /// Where the kernel was found to be wrong in the middle of a step.
    pub wrong: Option<&'static str>,
}

#[derive(Clone, Debug)]
pub struct World {
    /// None while there is none.
    pub daemon: Option<Daemon>,
    pub kernel: BTreeMap<AgentId, InKernel>,
    pub written: Arc<Written>,
    pub past: Past,
    /// So many operations may still begin.
    pub budget: u8,
    /// So many daemons may still die.
    pub deaths: u8,
    pub born: u8,
}

/// A state with the number that it is known by.
#[derive(Clone)]
pub struct State {
    pub world: Arc<World>,
    key: u64,
}

impl State {
    pub fn of(world: World) -> State {
        let mut hash = DefaultHasher::new();
        world.hash(&mut hash);
        State { world: Arc::new(world), key: hash.finish() }
    }
}

impl PartialEq for State {
    fn eq(&self, other: &State) -> bool {
        self.key == other.key
    }
}

impl Hash for State {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key.hash(state);
    }
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let World { daemon, kernel, past, .. } = &*self.world;
        writeln!(f, "{past:?}")?;
        kernel.iter().try_for_each(|(aid, known)| writeln!(f, "  kernel {aid:?}: {known:?}"))?;
        let Some(daemon) = daemon else { return writeln!(f, "  no daemon") };
        for agent in daemon.books.supervisor.all_since(None) {
            let (may, info) = (rights::files(agent.sets()), daemon.info.get(&agent.aid));
            writeln!(
                f,
                "  books {:?}: {may:b} below {:?}, {:?}, {info:?}",
                agent.aid,
                agent.parent,
                agent.state()
            )?;
        }
        daemon.tasks.iter().try_for_each(|task| writeln!(f, "  {task:?}"))
    }
}

impl Hash for World {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let World { daemon, kernel, past, budget, deaths, .. } = self;
        (kernel, past, budget, deaths).hash(state);
        // Nobody will read what is written down once no daemon may die any more.
        if *deaths > 0 || daemon.is_none() {
            (self.written.digest, daemon.as_ref().map(|daemon| daemon.dirty)).hash(state);
        }
        let Some(daemon) = daemon else { return };
        (daemon.books.digest, &daemon.info, &daemon.ends, daemon.locked).hash(state);
        // Which of two that are at work began first makes no difference.
        let each = daemon.tasks.iter().map(|task| {
            let mut hash = DefaultHasher::new();
            task.hash(&mut hash);
            hash.finish()
        });
        each.fold(0_u64, u64::wrapping_add).hash(state);
    }
}

impl World {
    pub fn daemon(&self) -> &Daemon {
        self.daemon.as_ref().unwrap()
    }

    pub fn daemon_mut(&mut self) -> &mut Daemon {
        self.daemon.as_mut().unwrap()
    }

    pub fn books(&self) -> &Supervisor {
        &self.daemon().books.supervisor
    }

    /// Has the books changed; what they tell of it is looked at when it is written down.
    pub fn book<T>(&mut self, change: impl FnOnce(&mut Supervisor) -> T) -> T {
        let daemon = self.daemon_mut();
        let books = Arc::make_mut(&mut daemon.books);
        let done = change(&mut books.supervisor);
        books.supervisor.take_news();
        books.digest = digest(&books.supervisor);
        daemon.dirty = true;
        done
    }

    /// What an agent may read by the books.
    pub fn may(&self, aid: AgentId) -> Files {
        self.books().get(aid).map_or(0, |agent| rights::files(agent.sets()))
    }

    pub fn lives(&self, aid: AgentId) -> bool {
        self.books().get(aid).is_ok_and(|agent| !agent.state().is_terminal())
    }

    pub fn kill_in_kernel(&mut self, aid: AgentId) {
        if let Some(known) = self.kernel.get_mut(&aid) {
            known.process = Process::None;
        }
    }

    /// Somebody who runs has in the kernel what its parent lacks there. While there is no daemon nothing is changed.
    pub fn kernel_amplifies(&self) -> bool {
        self.daemon.as_ref().is_some_and(|daemon| amplifies(&self.kernel, &daemon.books.supervisor))
    }
}

/// Somebody who runs has in the kernel what its parent lacks there.
pub fn amplifies(kernel: &BTreeMap<AgentId, InKernel>, s: &Supervisor) -> bool {
    kernel.iter().filter(|(_, known)| known.process == Process::Runs).any(|(aid, known)| {
        let parent = s.get(*aid).ok().and_then(|agent| agent.parent);
        let above = parent.and_then(|parent| kernel.get(&parent));
        above.is_some_and(|above| known.may & !above.may != 0)
    })
}
