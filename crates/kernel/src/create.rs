//! Makes an agent: its cgroup with its limits, and the value by which the kernel knows it.

use crate::kernel::{Kernel, check_count};
use crate::lock::lock;
use crate::state::{Agent, Rights};
use crate::{Error, Namespaces, NewAgent, Result, SetId, cgroup, maps};
use abi::agent::{FLAG_SETUP, FLAG_SHARES, FLAG_STRICT, KernelAgent, MAPPED_WORDS};
use abi::caps::FileKey;
use abi::{AgentId, AgentState};
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock};

/// Deepest agent below other agents.
const DEPTH_MAX: usize = 32;

impl Kernel {
    /// Makes the agent's cgroup, limits and kernel state; checks are off until its program starts.
    pub fn create_agent(&self, new: &NewAgent, sets: &[SetId]) -> Result<()> {
        if self.shared.agents().by_aid.contains_key(&new.aid) {
            return Err(Error::AgentExists(new.aid));
        }
        let domain = self.make_domain(new)?;
        let leaf = if new.may_spawn { domain.join("self") } else { domain.clone() };
        let made = self.furnish(new, sets, &domain, &leaf);
        match made {
            Ok(agent) => {
                let mut agents = self.agents_mut();
                agents.by_cgroup.insert(agent.id, new.aid);
                agents.by_aid.insert(new.aid, Arc::new(agent));
                Ok(())
            }
            Err(error) => {
                for dir in [&leaf, &domain] {
                    let _ = cgroup::remove(dir);
                }
                let _ = maps::remove(&self.shared.maps.parents, "parents", &new.aid.0);
                self.remove_empty_above(&domain);
                Err(error)
            }
        }
    }

    /// The folder that its limits lie in.
    fn make_domain(&self, new: &NewAgent) -> Result<PathBuf> {
        // Meanwhile nobody removes the tenant's, which may be empty still.
        let _alone = lock(&self.folders);
        let above = self.folder_above(new)?;
        if !above.exists() {
            cgroup::make(&above)?;
            cgroup::delegate(&above)?;
        }
        let domain = above.join(new.agent.to_string());
        if domain.exists() {
            return Err(Error::AgentExists(new.aid));
        }
        cgroup::make(&domain)?;
        Ok(domain)
    }

    /// The tenant's folder, or the parent's, whose limits then hold for both.
    fn folder_above(&self, new: &NewAgent) -> Result<PathBuf> {
        let tenant = self.shared.tenant_dir(&new.tenant)?;
        if new.parent == AgentId::NOBODY {
            return Ok(tenant);
        }
        let parent = self.shared.agent(new.parent)?;
        if parent.leaf() == parent.domain {
            return Err(Error::Invalid("the parent was made as one without children".to_owned()));
        }
        let depth = parent.domain.components().count() - tenant.components().count();
        if depth >= DEPTH_MAX {
            return Err(Error::Invalid(format!("more than {DEPTH_MAX} agents above one another")));
        }
        Ok(parent.domain.clone())
    }

    /// Limits, and the value that makes the cgroup an agent.
    fn furnish(&self, new: &NewAgent, sets: &[SetId], domain: &Path, leaf: &Path) -> Result<Agent> {
        check_count(sets)?;
        if new.weight != 100 {
            cgroup::write_limit(domain, "cpu.weight", Some(new.weight.into()))?;
        }
        cgroup::write_limit(domain, "memory.max", new.ram_max)?;
        cgroup::write_limit(domain, "memory.swap.max", new.swap_max)?;
        cgroup::write_limit(domain, "pids.max", new.pids_max)?;
        if leaf != domain {
            cgroup::delegate(domain)?;
            cgroup::make(leaf)?;
            if new.weight != 100 {
                cgroup::write_limit(leaf, "cpu.weight", Some(new.weight.into()))?;
            }
        }
        maps::put(&self.shared.maps.parents, "parents", &new.aid.0, &new.parent.0)?;
        let file = |source| Error::File { action: "open", path: leaf.to_owned(), source };
        let cgroup: OwnedFd = File::open(leaf).map_err(file)?.into();
        let nowhere = FileKey { dev: 0, ino: 0 };
        let strict = if self.is_strict(new)? { FLAG_STRICT } else { 0 };
        let value = KernelAgent {
            aid: new.aid.0,
            list: 0,
            state: AgentState::Spawning as u32,
            flags: flags_of(new.namespaces) | strict,
            denials: 0,
            uses: 0,
            program: nowhere,
            interpreter: nowhere,
            mapped: [0; MAPPED_WORDS],
            main: 0,
            ended: 0,
            status: 0,
            round: 0,
            burst: 0,
            reserved: 0,
        };
        maps::put(&self.shared.maps.agents, "agents", &cgroup.as_raw_fd(), &value)?;
        Ok(Agent {
            aid: new.aid,
            domain: domain.to_owned(),
            leaf: Mutex::new(leaf.to_owned()),
            moved: OnceLock::new(),
            moving: Mutex::new(()),
            id: cgroup::id(leaf)?,
            cgroup,
            launched: AtomicBool::new(false),
            maps_on: AtomicBool::new(false),
            keeps_on: AtomicBool::new(false),
            namespaces: new.namespaces,
            strict: strict != 0,
            rights: Mutex::new(Rights { sets: sets.to_vec(), ..Rights::default() }),
        })
    }

    /// As it is told, or as its parent is: nobody makes a child that may do more.
    fn is_strict(&self, new: &NewAgent) -> Result<bool> {
        let by_parent = new.parent != AgentId::NOBODY && self.shared.agent(new.parent)?.strict;
        Ok(new.strict || by_parent)
    }
}

fn flags_of(namespaces: Namespaces) -> u32 {
    match namespaces {
        Namespaces::Own { .. } => FLAG_SETUP,
        Namespaces::Shared => FLAG_SETUP | FLAG_SHARES,
    }
}
