//! What is written down for the next daemon, and how that one takes it up.

use crate::rights::{self, Files};
use crate::world::{Books, Daemon, InKernel, Info, Process, World, amplifies};
use abi::{AgentId, AgentState};
use coconut_supervisor::{
    Agent, Limits, RuleSet, SavedAgent, SavedPlace, SavedSet, SetKeys, Supervisor,
};
use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

pub const LIMITS: Limits = Limits { agents: 4, ended: 1, sets: 16 };

/// What of an agent has to be the same for the next daemon: its state, its parent, what it may read, who ends it.
type Told = (u32, Option<AgentId>, Files, Info);

type Row = (SavedAgent, Info, Vec<(u64, SavedSet)>);

#[derive(Clone, Debug, Default)]
pub struct Written {
    rows: BTreeMap<AgentId, Arc<Row>>,
    generation: u32,
    /// Who was set free then.
    freed: BTreeSet<AgentId>,
    /// What the books said when they were written down, told without them.
    told: BTreeMap<AgentId, Told>,
    pub digest: u64,
}

/// Whether the kernel can have it: what is only admitted is not written down.
fn is_made(state: AgentState) -> bool {
    state != AgentState::Spawning
}

fn told(s: &Supervisor, info: &BTreeMap<AgentId, Info>) -> BTreeMap<AgentId, Told> {
    let made = s.all_since(None).filter(|agent| is_made(agent.state()));
    let one = |agent: &Agent| {
        let parent = agent.parent.filter(|parent| s.get(*parent).is_ok());
        let info = info.get(&agent.aid).cloned().unwrap_or_default();
        (agent.aid, (agent.state() as u32, parent, rights::files(agent.sets()), info))
    };
    made.map(one).collect()
}

/// The same, told by what is written down.
fn from_rows(written: &Written) -> BTreeMap<AgentId, Told> {
    let one = |(aid, row): (&AgentId, &Arc<Row>)| {
        let (agent, info, sets) = &**row;
        let parent = agent.parent.map(AgentId).filter(|parent| written.rows.contains_key(parent));
        let rules = sets.iter().flat_map(|(_, set)| set.rules.iter().flatten());
        let first = |place: &SavedPlace| match place {
            SavedPlace::File { nodes, .. } => nodes.first().map(|(_, ino)| *ino),
            _ => None,
        };
        let files = rules.fold(0, |files, rule| files | rights::files_at(first(&rule.place)));
        (*aid, (agent.state, parent, files, info.clone()))
    };
    written.rows.iter().map(one).collect()
}

impl World {
    /// Writes down what has changed, and nothing else, as the registry does.
    pub fn save(&mut self) {
        let daemon = self.daemon.as_mut().unwrap();
        let since = Arc::make_mut(&mut daemon.books).supervisor.take_unwritten();
        daemon.dirty = false;
        let s = &daemon.books.supervisor;
        let mut written = (*self.written).clone();
        for aid in since.agents {
            match s.saved(aid).zip(daemon.info.get(&aid)) {
                Some((agent, _)) if agent.state == AgentState::Spawning as u32 => {}
                Some((agent, info)) => {
                    let sets = s.get(aid).unwrap().sets().iter();
                    let sets = sets.map(|held| (held.set.key().0, held.set.saved())).collect();
                    written.rows.insert(aid, Arc::new((agent, info.clone(), sets)));
                }
                None => {
                    written.rows.remove(&aid);
                }
            }
        }
        written.generation = s.generation();
        written.freed.clone_from(&self.past.freed);
        written.told = told(s, &daemon.info);
        let mut hash = DefaultHasher::new();
        (&written.told, &written.freed, written.generation).hash(&mut hash);
        for row in written.rows.values() {
            let agent = &row.0;
            (agent.next_rule, agent.released, agent.reparents).hash(&mut hash);
        }
        written.digest = hash.finish();
        if from_rows(&written) != written.told {
            self.past.wrong = Some("something was changed that the books do not write down");
        }
        self.written = Arc::new(written);
        for (aid, files) in std::mem::take(&mut self.past.booked) {
            *self.past.gone.entry(aid).or_default() |= files;
        }
    }

    /// The daemon is killed: what only it knew is lost, and the kernel stays as it is.
    pub fn die(&mut self) {
        let daemon = self.daemon.take().unwrap();
        let s = &daemon.books.supervisor;
        let half = |(aid, known): (&AgentId, &InKernel)| {
            known.process == Process::Runs
                && s.get(*aid).is_ok_and(|a| rights::files(a.sets()) & !known.may != 0)
        };
        self.past.halved |= self.kernel.iter().any(half);
        self.deaths -= 1;
        self.past.booked.clear();
    }

    /// The next daemon takes up what is written down, parents first, and has the kernel decide by it. The agents stand
    /// still; who is not written down is ended.
    pub fn take_up(&mut self, keys: &Arc<SetKeys>) {
        let written = self.written.clone();
        let mut s = Supervisor::new(LIMITS, keys.clone());
        s.reserve_generations(written.generation);
        let mut rows: Vec<_> = written.rows.values().collect();
        rows.sort_by_key(|row| row.0.uuid);
        let mut all: HashMap<u64, Arc<RuleSet>> = HashMap::new();
        let mut info = BTreeMap::new();
        let mut found = BTreeSet::new();
        for row in rows {
            let (agent, known, sets) = &**row;
            for (key, set) in sets {
                all.entry(*key)
                    .or_insert_with(|| RuleSet::restored(keys.fresh(), None, set.clone()));
            }
            let aid = s.restore(agent.clone(), &all).unwrap();
            info.insert(aid, known.clone());
            let agent = s.get(aid).unwrap();
            // A start that was not over is undone.
            let started = agent.state() != AgentState::Attested;
            if !agent.state().is_terminal() && known.footing && started {
                found.insert(aid);
                self.adopt(agent, &s);
            }
        }
        self.kernel.retain(|aid, _| found.contains(aid));
        if told(&s, &info) != written.told {
            self.past.wrong = Some("a restart changes what is known of an agent");
        }
        self.past.freed.clone_from(&written.freed);
        self.past.followed = true;
        let ends = s.all_since(None).filter(|agent| agent.state().is_terminal());
        let ends =
            ends.filter(|agent| !s.saved(agent.aid).unwrap().released).map(|agent| (agent.aid, 0));
        let ends = ends.collect();
        let tasks = Vec::new();
        self.daemon =
            Some(Daemon { books: Books::of(s), info, tasks, ends, locked: false, dirty: false });
        for aid in found {
            if self.daemon().info[&aid].ending {
                self.kill_in_kernel(aid);
            }
        }
    }

    fn adopt(&mut self, agent: &Agent, s: &Supervisor) {
        if let Some(known) = self.kernel.get_mut(&agent.aid) {
            known.may = rights::files(agent.sets());
            known.parent = agent.parent.unwrap_or(AgentId::NOBODY);
            known.stands = agent.state() == AgentState::Quarantined;
        }
        if amplifies(&self.kernel, s) {
            self.past.wrong = Some("a daemon that takes over gives a child what its parent lacks");
        }
    }
}
