//! Room for children below an agent that runs already.
//!
//! Limits of children lie below their parent's cgroup, and the kernel lets no process be where cgroups
//! below have controllers ("no internal processes", `cgroup-v2.rst`). So the agent's processes move one
//! level down. They stay the same agent on the way: the nearest cgroup upward with a value decides.

use crate::kernel::Kernel;
use crate::lock::lock;
use crate::state::Agent;
use crate::{Error, Result, cgroup};
use abi::AgentId;
use rustix::io::Errno;
use std::path::Path;

impl Kernel {
    /// Lets an agent have children from now on, with so many processes and threads for all of them
    /// together; frozen, or it could make processes faster than they are moved. Afterwards it is frozen
    /// as before. Whoever has room already only gets the new limit.
    ///
    /// # Errors
    /// When a process cannot be moved; then all are where they were.
    pub fn make_room(&self, aid: AgentId, pids_max: Option<u64>) -> Result<()> {
        let agent = self.shared.agent(aid)?;
        let _alone = lock(&agent.moving);
        let leaf = agent.leaf();
        if leaf == agent.domain {
            let inner = agent.domain.join("self");
            cgroup::make(&inner)?;
            self.move_down(&agent, &inner)?;
        }
        cgroup::write_limit(&agent.domain, "pids.max", pids_max)
    }

    fn move_down(&self, agent: &Agent, inner: &Path) -> Result<()> {
        let id = cgroup::id(inner)?;
        // Known by this id, too, before anything of it is there.
        self.agents_mut().by_cgroup.insert(id, agent.aid);
        let all = cgroup::processes(&agent.domain)?;
        let moved = cgroup::write(inner, "cgroup.freeze", "1")
            .and_then(|()| move_all(&all, &agent.domain, inner))
            .and_then(|()| cgroup::delegate(&agent.domain))
            .and_then(|_| weigh(&agent.domain, inner));
        if let Err(error) = moved {
            take_back(&all, &agent.domain, inner)?;
            self.agents_mut().by_cgroup.remove(&id);
            return Err(error);
        }
        agent.set_leaf(inner);
        let _ = agent.moved.set(id);
        cgroup::write(&agent.domain, "cgroup.freeze", "0")
    }
}

/// Its own processes weigh among its children what it weighs itself.
fn weigh(domain: &Path, inner: &Path) -> Result<()> {
    let weight = cgroup::read(&domain.join("cpu.weight"))?;
    cgroup::write(inner, "cpu.weight", weight.trim())
}

/// Moves every process; all are frozen, so there are no others. Those that end meanwhile are gone.
fn move_all(all: &[u32], from: &Path, to: &Path) -> Result<()> {
    // The kernel moves no thread that has ended, so the others of its process would be elsewhere than
    // the one by which the process is found and killed.
    if let Some(pid) = all.iter().find(|pid| main_thread_ended(**pid)) {
        return Err(split(*pid));
    }
    all.iter().try_for_each(|pid| move_one(*pid, to))?;
    match cgroup::processes(from)?.first() {
        Some(pid) => Err(split(*pid)),
        None => Ok(()),
    }
}

fn split(pid: u32) -> Error {
    Error::Invalid(format!(
        "process {pid} cannot be moved to make room for children: its main thread has ended"
    ))
}

fn move_one(pid: u32, to: &Path) -> Result<()> {
    match cgroup::write(to, "cgroup.procs", &pid.to_string()) {
        Err(Error::File { source, .. })
            if source.raw_os_error() == Some(Errno::SRCH.raw_os_error()) =>
        {
            Ok(())
        }
        done => done,
    }
}

/// By `/proc/<pid>/stat` (`proc_pid_stat(5)`): the state comes behind the name, which may hold anything.
fn main_thread_ended(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with(['Z', 'X']))
}

/// As it was before. Where that fails, what stays below is known as the same agent still.
fn take_back(all: &[u32], domain: &Path, inner: &Path) -> Result<()> {
    all.iter().try_for_each(|pid| move_one(*pid, domain)).and_then(|()| cgroup::remove(inner))
}
