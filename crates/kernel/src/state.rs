//! What is known of the agents, and what the kernel maps hold for each.

use crate::grants::{Builder, Entries};
use crate::maps::{self, Maps};
use crate::resolve::{Node, Resolver};
use crate::{Error, LoadOptions, Result, Rule, sys};
use abi::AgentId;
use abi::control::{CONTROL_CLEAR_FLAGS, CONTROL_SET_EPOCH, Control, GUARDED_CGROUPS, Policy};
use libbpf_rs::MapHandle;
use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use zerocopy::{Immutable, IntoBytes};

/// What the ring's reader needs too.
pub(crate) struct Shared {
    pub options: LoadOptions,
    pub maps: Maps,
    pub low_water: u64,
    pub agents: RwLock<HashMap<AgentId, Arc<Agent>>>,
    pub next_epoch: AtomicU32,
}

/// An agent as this process knows it.
pub(crate) struct Agent {
    pub aid: AgentId,
    pub dir: PathBuf,
    pub cgroup: OwnedFd,
    pub id: u64,
    pub launched: AtomicBool,
    pub installed: Mutex<Installed>,
}

/// What the kernel maps hold for the agent.
#[derive(Default)]
pub(crate) struct Installed {
    pub rules: Vec<Rule>,
    pub private: Vec<(Node, u32)>,
    pub entries: Entries,
}

impl Shared {
    pub fn policy(&self, ring: u64, guarded: [u64; GUARDED_CGROUPS]) -> Policy {
        Policy {
            sealed: 0,
            epoch: 0,
            daemon_tgid: std::process::id(),
            reserved: 0,
            slice_id: 0,
            slice_address: 0,
            mount_namespace: 0,
            high_water: ring / 4 * 3,
            seal_water: ring / 2,
            guarded,
        }
    }

    pub fn agents(&self) -> RwLockReadGuard<'_, HashMap<AgentId, Arc<Agent>>> {
        self.agents.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn agent(&self, aid: AgentId) -> Result<Arc<Agent>> {
        self.agents().get(&aid).cloned().ok_or(Error::NoSuchAgent(aid))
    }

    pub fn epoch(&self) -> u32 {
        self.next_epoch.fetch_add(1, Ordering::SeqCst)
    }

    pub fn tenant_dir(&self, tenant: &str) -> Result<PathBuf> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if tenant.is_empty() || tenant.starts_with('.') || !tenant.chars().all(plain) {
            return Err(Error::Invalid(format!("a tenant named {tenant:?}")));
        }
        Ok(self.options.cgroup_root.join(&self.options.slice).join(tenant))
    }

    pub fn control(&self, op: u32, cgroup: u64, value: u32) -> Result<()> {
        sys::control(self.maps.control.as_fd(), Control { op, value, cgroup })
    }

    /// Clears flags of an agent that may have gone meanwhile.
    pub fn clear_flags(&self, aid: AgentId, flags: u32) -> Result<()> {
        self.control(CONTROL_CLEAR_FLAGS, self.agent(aid)?.id, flags)
    }

    /// Adds what comes with the process itself: private mounts, inherited descriptors.
    pub fn add_private(&self, agent: &Agent, more: &[(Node, u32)]) -> Result<()> {
        let mut installed = lock(&agent.installed);
        let mut private = installed.private.clone();
        private.extend_from_slice(more);
        let rules = installed.rules.clone();
        self.install(agent, &mut installed, &rules, private)
    }

    pub fn install(
        &self,
        agent: &Agent,
        installed: &mut Installed,
        rules: &[Rule],
        private: Vec<(Node, u32)>,
    ) -> Result<()> {
        let mut builder = Builder::new(agent.aid, Resolver::new(&self.maps));
        for rule in rules {
            builder.rule(rule)?;
        }
        for (node, rights) in &private {
            builder.implicit(*node, *rights);
        }
        let entries = builder.finish()?;
        let written = self.write_entries(&installed.entries, &entries);
        if let Err(error) = written {
            // Half of the new set must not stay: go back to the one that is known.
            self.write_entries(&entries, &installed.entries)?;
            return Err(error);
        }
        // Verdicts from before are void once this returns; a check that runs now stores its
        // verdict under the old epoch.
        self.control(CONTROL_SET_EPOCH, agent.id, self.epoch())?;
        *installed = Installed { rules: rules.to_vec(), private, entries };
        Ok(())
    }

    pub fn write_entries(&self, old: &Entries, new: &Entries) -> Result<()> {
        let m = &self.maps;
        replace(&m.fs_caps, "fs_caps", &old.fs, &new.fs)?;
        replace(&m.net_caps, "net_caps", &old.net, &new.net)?;
        replace(&m.unix_abstract_caps, "unix_abstract_caps", &old.abstracts, &new.abstracts)?;
        replace(&m.signal_caps, "signal_caps", &old.signals, &new.signals)
    }
}

/// Takes away first, so that a full table has room for what comes.
fn replace<K, V>(
    map: &MapHandle,
    name: &'static str,
    old: &HashMap<K, V>,
    new: &HashMap<K, V>,
) -> Result<()>
where
    K: std::hash::Hash + Eq + Copy + IntoBytes + Immutable,
    V: PartialEq + Copy + IntoBytes + Immutable,
{
    let gone: Vec<K> = old.keys().filter(|k| !new.contains_key(k)).copied().collect();
    let fresh: Vec<(K, V)> =
        new.iter().filter(|(k, v)| old.get(k) != Some(v)).map(|(k, v)| (*k, *v)).collect();
    maps::remove_all(map, name, &gone)?;
    maps::put_all(map, name, &fresh)
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
