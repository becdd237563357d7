//! What an earlier daemon left is taken over: the policy is in force, agents stand under it, and this process is
//! the one that the kernel let in (`bpf/lsm/daemon.bpf.c`).
//!
//! Nothing of the earlier daemon's bookkeeping is needed. Agents stand still meanwhile; every set of rules is
//! made anew, each agent is given its list anew, and then everything that the earlier one made is taken away.

use crate::kernel::{Kernel, check_count, own_hierarchy};
use crate::lock::lock;
use crate::maps::{self, Maps};
use crate::sets::Sets;
use crate::state::{Agent, Before, Rights};
use crate::{Error, Handle, LoadOptions, Namespaces, Process, Result, SetId, cgroup, object, sys};
use abi::AgentId;
use abi::agent::{FLAG_KEEPS, FLAG_STRICT, KernelAgent};
use abi::caps::FileKey;
use rustix::process::{Pid, PidfdFlags, Signal};
use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;
use uuid::Uuid;

/// What the next daemon needs to know of an agent's place in the kernel.
#[derive(Clone, Debug, Default)]
pub struct Footing {
    /// Its cgroup, below the slice.
    pub folder: PathBuf,
    /// Rights that no rule names, by file; empty before its launch.
    pub private: Vec<(FileKey, u32)>,
    /// Files that those are on: they must stay open.
    pub handles: Vec<Arc<Handle>>,
}

/// An agent that an earlier daemon made.
#[derive(Clone, Debug)]
pub struct Standing {
    /// Hot-path id.
    pub aid: AgentId,
    /// Outside id.
    pub agent: Uuid,
    /// Who pays.
    pub tenant: String,
    /// What it has to itself.
    pub namespaces: Namespaces,
    /// Its first process, if its program was started.
    pub pid: Option<u32>,
    /// Its place in the kernel.
    pub footing: Footing,
}

/// How it was found.
#[derive(Debug)]
pub enum Found {
    /// Its first process runs.
    Running(Process),
    /// Its first process has ended; what else it has may still run.
    Ended(Exited),
    /// The kernel has nothing of it.
    Gone,
}

/// How a process ended; neither where that is not known.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Exited {
    /// What it returned.
    pub status: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
}

impl Exited {
    /// From a status as `wait(2)` tells it.
    fn of(status: u32) -> Exited {
        let signal = (status & 0x7f).cast_signed();
        match signal {
            0 => Exited { status: Some((status >> 8 & 0xff).cast_signed()), signal: None },
            _ => Exited { status: None, signal: Some(signal) },
        }
    }
}

impl Kernel {
    /// Stops the agents, until [`Kernel::adoption_done`], and takes the maps over.
    pub(crate) fn take_over(options: &LoadOptions, maps: Maps) -> Result<Kernel> {
        if maps.policy.daemon() != std::process::id() {
            return Err(Error::NotAdmitted);
        }
        if maps.policy.layout() != options.layout {
            return Err(Error::OtherLayout);
        }
        let maps = Arc::new(maps);
        let before = Before { lists: maps.policy.last_list(), sets: maps.policy.last_set() };
        let (own, hierarchy) = own_hierarchy(options)?;
        let options = &own;
        let slice = options.cgroup_root.join(&options.slice);
        cgroup::write(&slice, "cgroup.freeze", "1")?;
        cgroup::await_frozen(&slice)?;
        let sets = Arc::new(Sets::adopt(Arc::clone(&maps), options.max_files)?);
        Kernel::of(options, hierarchy, maps, sets, object::weaker()?, Some(before))
    }

    /// Whether the policy was there already.
    pub fn adopted(&self) -> bool {
        self.before.is_some()
    }

    /// For who takes over; after the launch it has the private rights too.
    pub fn footing(&self, aid: AgentId) -> Result<Footing> {
        let agent = self.shared.agent(aid)?;
        let slice = self.slice();
        let folder = agent.domain.strip_prefix(&slice).unwrap_or(&agent.domain).to_owned();
        let private = lock(&agent.rights).private;
        let (private, handles) =
            private.map(|set| self.shared.sets.private(set)).unwrap_or_default();
        Ok(Footing { folder, private, handles })
    }

    /// Takes an agent over with these sets, which this daemon has made.
    ///
    /// # Errors
    /// When what is there is not that agent, or the maps have no room.
    pub fn adopt_agent(&self, standing: &Standing, sets: &[SetId]) -> Result<Found> {
        check_count(sets)?;
        let Some(agent) = self.found(standing, sets)? else { return Ok(Found::Gone) };
        let known = self.shared.known(&agent)?;
        let agent = Arc::new(agent);
        {
            let mut rights = lock(&agent.rights);
            if !standing.footing.private.is_empty() {
                let Footing { private, handles, .. } = &standing.footing;
                rights.private = Some(self.shared.sets.make_private(private, handles.clone())?);
            }
            self.shared.publish(&agent, &mut rights)?;
            // The list that it had is the earlier daemon's, and goes with all of those.
        }
        {
            let mut agents = self.agents_mut();
            for id in std::iter::once(&agent.id).chain(agent.moved.get()) {
                agents.by_cgroup.insert(*id, agent.aid);
            }
            agents.by_aid.insert(agent.aid, Arc::clone(&agent));
        }
        Ok(self.first_process(agent.aid, &known))
    }

    /// The agent as this process knows it, if its cgroup is there and the kernel has it as this agent.
    fn found(&self, standing: &Standing, sets: &[SetId]) -> Result<Option<Agent>> {
        let domain = self.slice().join(&standing.footing.folder);
        let inner = domain.join("self");
        let leaf = if inner.exists() { inner } else { domain.clone() };
        let open = |path: &Path| -> Result<Option<OwnedFd>> {
            match File::open(path) {
                Ok(folder) => Ok(Some(folder.into())),
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
                Err(source) => Err(Error::File { action: "open", path: path.to_owned(), source }),
            }
        };
        let value = |folder: &OwnedFd| -> Result<Option<KernelAgent>> {
            maps::get(&self.shared.maps.agents, "agents", &folder.as_raw_fd())
        };
        let Some(own) = open(&leaf)? else { return Ok(None) };
        // One that got room for children while it ran has its value above them.
        let (cgroup, at, known) = match value(&own)? {
            Some(known) => (own, leaf.clone(), known),
            None => {
                let Some(above) = open(&domain)? else { return Ok(None) };
                let Some(known) = value(&above)? else { return Ok(None) };
                (above, domain.clone(), known)
            }
        };
        if known.aid != standing.aid.0 {
            return Err(Error::Invalid(format!(
                "{} is the cgroup of another agent",
                standing.footing.folder.display()
            )));
        }
        let moved = OnceLock::new();
        if at != leaf {
            let _ = moved.set(cgroup::id(&leaf)?);
        }
        Ok(Some(Agent {
            aid: standing.aid,
            id: cgroup::id(&at)?,
            domain,
            leaf: Mutex::new(leaf),
            moved,
            moving: Mutex::new(()),
            cgroup,
            launched: AtomicBool::new(true),
            maps_on: AtomicBool::new(known.mapped.iter().any(|word| *word != 0)),
            keeps_on: AtomicBool::new(known.flags & FLAG_KEEPS != 0),
            namespaces: standing.namespaces,
            strict: known.flags & FLAG_STRICT != 0,
            rights: Mutex::new(Rights { sets: sets.to_vec(), ..Rights::default() }),
        }))
    }

    fn first_process(&self, aid: AgentId, known: &KernelAgent) -> Found {
        if known.ended != 0 {
            return Found::Ended(Exited::of(known.status));
        }
        let pid = Pid::from_raw(known.main.cast_signed());
        let pidfd = pid.and_then(|pid| rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok());
        match pidfd {
            Some(pidfd) if matches!(self.shared.agent_of_pidfd(pidfd.as_fd()), Ok(Some(of)) if of == aid) => {
                Found::Running(Process { pid: known.main, pidfd })
            }
            _ => Found::Ended(Exited::default()),
        }
    }

    /// How the agent's first process ended, by the kernel's own note; none while it runs.
    pub fn exit_of(&self, aid: AgentId) -> Result<Option<Exited>> {
        let known = self.shared.known(self.shared.agent(aid)?.as_ref())?;
        Ok((known.ended != 0).then(|| Exited::of(known.status)))
    }

    /// Everything was adopted that is to be: ends what was not, takes away what the earlier daemon made, and
    /// lets agents go on. Returns who was ended.
    ///
    /// # Errors
    /// When something could not be taken away; then no agent goes on.
    pub fn adoption_done(&self) -> Result<Vec<AgentId>> {
        let Some(before) = self.before else { return Ok(Vec::new()) };
        let strangers = self.end_strangers()?;
        let m = &self.shared.maps;
        sys::after_checks()?;
        let lists = maps::all_keys::<u64>(&m.lists).into_iter();
        let old: Vec<u64> = lists.filter(|list| *list <= before.lists).collect();
        maps::remove_all(&m.lists, "lists", &old)?;
        self.shared.sets.remove_up_to(before.sets)?;
        self.shared.sets.give_numbers_back();
        let known = |aid: &u64| self.shared.agents().by_aid.contains_key(&AgentId(*aid));
        for (map, name) in [(&m.parents, "parents"), (&m.peer_counts, "peer_counts")] {
            let gone: Vec<u64> =
                maps::all_keys::<u64>(map).into_iter().filter(|aid| !known(aid)).collect();
            maps::remove_all(map, name, &gone)?;
        }
        self.go_on()?;
        Ok(strangers)
    }

    fn go_on(&self) -> Result<()> {
        let policy = &self.shared.maps.policy;
        let halted = policy.halted();
        if halted {
            policy.end_halt();
            let stops = &self.shared.maps.stops;
            maps::remove_all(stops, "stops", &maps::all_keys::<u32>(stops))?;
        }
        // One that had to wait for the ring may have been crossed off and not been told yet.
        if halted || policy.throttles() > 0 {
            let agents: Vec<_> = self.shared.agents().by_aid.values().cloned().collect();
            for agent in agents {
                for pid in cgroup::processes(&agent.leaf())? {
                    let pid = Pid::from_raw(pid.cast_signed());
                    let told = pid.map(|pid| rustix::process::kill_process(pid, Signal::CONT));
                    if let Some(Err(error)) = told {
                        tracing::debug!(%error, "a process has ended meanwhile");
                    }
                }
            }
        }
        cgroup::write(&self.slice(), "cgroup.freeze", "0")
    }

    /// Ends what runs below the slice and was not adopted.
    fn end_strangers(&self) -> Result<Vec<AgentId>> {
        let mut all = Vec::new();
        let mut ended = Vec::new();
        folders_below(&self.slice(), &mut all);
        // Those within come first.
        for folder in all.into_iter().rev() {
            let id = cgroup::id(&folder)?;
            let own: OwnedFd = match File::open(&folder) {
                Ok(open) => open.into(),
                Err(_) => continue,
            };
            let value: Option<KernelAgent> =
                maps::get(&self.shared.maps.agents, "agents", &own.as_raw_fd())?;
            if self.shared.agents().by_cgroup.contains_key(&id) {
                continue;
            }
            let holds_adopted = fs::read_dir(&folder)
                .is_ok_and(|entries| entries.flatten().any(|entry| entry.path().is_dir()));
            if let Some(value) = value {
                ended.push(AgentId(value.aid));
            } else if holds_adopted {
                continue;
            }
            self.end_folder(&folder, holds_adopted, &own)?;
        }
        Ok(ended)
    }

    fn end_folder(&self, folder: &Path, holds_others: bool, own: &OwnedFd) -> Result<()> {
        if holds_others {
            // Whoever is below lives on; only its own processes go, and it has none where others are.
            return maps::remove(&self.shared.maps.agents, "agents", &own.as_raw_fd());
        }
        cgroup::write(folder, "cgroup.kill", "1")?;
        while cgroup::populated(folder)? {
            std::thread::sleep(Duration::from_millis(1));
        }
        cgroup::remove(folder)
    }

    fn slice(&self) -> PathBuf {
        self.shared.options.cgroup_root.join(&self.shared.options.slice)
    }
}

/// Every folder below one, those above first.
fn folders_below(folder: &Path, all: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            all.push(entry.path());
            folders_below(&entry.path(), all);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_told_as_wait_does() {
        assert_eq!(Exited::of(0), Exited { status: Some(0), signal: None });
        assert_eq!(Exited::of(3 << 8), Exited { status: Some(3), signal: None });
        assert_eq!(Exited::of(9), Exited { status: None, signal: Some(9) });
        assert_eq!(Exited::of(11 | 0x80), Exited { status: None, signal: Some(11) });
    }
}
