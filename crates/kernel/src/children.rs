//! Room for children below an agent that runs already.
//!
//! Limits of children lie below their parent's cgroup, and the kernel lets no process be where cgroups
//! below have controllers ("no internal processes", `cgroup-v2.rst`). So the agent's processes move one
//! level down. They stay the same agent on the way: the nearest cgroup upward with a value decides.

use crate::kernel::Kernel;
use crate::state::{Agent, lock};
use crate::{Error, Result, cgroup};
use abi::AgentId;
use rustix::io::Errno;
use std::io;
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
        let moved = cgroup::write(inner, "cgroup.freeze", "1")
            .and_then(|()| move_all(&agent.domain, inner))
            .and_then(|()| cgroup::delegate(&agent.domain));
        if let Err(error) = moved {
            take_back(&agent.domain, inner);
            self.agents_mut().by_cgroup.remove(&id);
            return Err(error);
        }
        agent.set_leaf(inner);
        let _ = agent.moved.set(id);
        cgroup::write(&agent.domain, "cgroup.freeze", "0")
    }
}

/// Moves every process; those that end meanwhile are gone.
fn move_all(from: &Path, to: &Path) -> Result<()> {
    loop {
        let all = cgroup::processes(from)?;
        let mut moved = false;
        for pid in &all {
            match cgroup::write(to, "cgroup.procs", &pid.to_string()) {
                Ok(()) => moved = true,
                Err(Error::File { source, .. }) if has_ended(&source) => {}
                Err(error) => return Err(error),
            }
        }
        if !moved {
            return Ok(());
        }
    }
}

fn has_ended(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::SRCH.raw_os_error())
}

/// As it was before; what stays below is the same agent there, too.
fn take_back(domain: &Path, inner: &Path) {
    let back = move_all(inner, domain).and_then(|()| cgroup::remove(inner));
    if let Err(error) = back {
        tracing::error!(%error, "processes that were to make room for children stay where they are");
    }
}
