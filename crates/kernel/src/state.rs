//! What is known of the agents, and which sets each holds.

use crate::commons::Commons;
use crate::lock::lock;
use crate::maps::{self, Maps};
use crate::seats::Seats;
use crate::sets::{Lost, Sets};
use crate::{Error, LoadOptions, Namespaces, Remains, Result, SetId, cgroup, handle, sys};
use abi::AgentId;
use abi::agent::*;
use abi::caps::{FileKey, LIST_SETS, RightsList};
use abi::control::{CONTROL_CLEAR_FLAGS, CONTROL_SET_LIST, Control, GUARDED_CGROUPS, Policy};
use libbpf_rs::MapCore;
use rustix::fs::{CWD, Mode, OFlags};
use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, RwLockReadGuard};
use zerocopy::{FromBytes, FromZeros};

/// Of so many bytes of the ring one event may be one agent's that floods it: a sixteenth of them, as an event takes
/// about 430.
const SHARE_BYTES: u32 = 8 << 10;

/// What the ring's reader needs too.
pub(crate) struct Shared {
    pub options: LoadOptions,
    pub maps: Arc<Maps>,
    pub sets: Arc<Sets>,
    pub low_water: u64,
    /// Wakes the ring's reader.
    pub bell: OwnedFd,
    /// The root of the daemon's namespace, learned at the first launch.
    pub root: OnceLock<FileKey>,
    /// What children take with them lies there.
    pub seats: Arc<Seats>,
    /// For agents that share.
    pub commons: Commons,
    pub agents: RwLock<Agents>,
    /// To the thread that takes away what nobody holds.
    pub discarded: Sender<Discarded>,
}

/// The highest numbers that an earlier daemon gave out.
#[derive(Clone, Copy)]
pub(crate) struct Before {
    pub lists: u64,
    pub sets: u64,
}

/// Agents by both of their names in the kernel.
#[derive(Default)]
pub(crate) struct Agents {
    pub by_aid: HashMap<AgentId, Arc<Agent>>,
    pub by_cgroup: HashMap<u64, AgentId>,
}

/// An agent as this process knows it.
pub(crate) struct Agent {
    pub aid: AgentId,
    /// Limits lie here, and children below.
    pub domain: PathBuf,
    /// Its processes are here; the same folder for one that may have no children.
    pub leaf: Mutex<PathBuf>,
    /// Id of the cgroup that they have moved to, if they have; `id` keeps the agent's value.
    pub moved: OnceLock<u64>,
    /// Held while they move, and by whoever must find them where they are.
    pub moving: Mutex<()>,
    pub cgroup: OwnedFd,
    pub id: u64,
    pub launched: AtomicBool,
    /// It lost a right by which it may have mapped something.
    pub maps_on: AtomicBool,
    /// The same of what it may keep without having it mapped.
    pub keeps_on: AtomicBool,
    pub namespaces: Namespaces,
    /// Its code comes from some files alone.
    pub strict: bool,
    pub rights: Mutex<Rights>,
}

impl Agent {
    /// Of its folder where it shares a tmpfs: that of its cgroup, which no other has.
    pub fn folder_name(&self) -> String {
        self.domain.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    pub fn leaf(&self) -> PathBuf {
        lock(&self.leaf).clone()
    }

    pub fn set_leaf(&self, leaf: &Path) {
        *lock(&self.leaf) = leaf.to_owned();
    }
}

/// What an agent holds.
#[derive(Default)]
pub(crate) struct Rights {
    pub sets: Vec<SetId>,
    /// Its own mounts and standard files, once it has been launched.
    pub private: Option<SetId>,
    /// The list in the kernel; 0 for none.
    pub list: u64,
}

/// What nobody holds any more, but a check that is under way may still be looking at.
#[derive(Clone, Copy)]
pub(crate) enum Discarded {
    List(u64),
    Set(SetId),
    /// An ended agent's place in its tree.
    Parent(AgentId),
}

impl Shared {
    pub fn policy(&self, guarded: [u64; GUARDED_CGROUPS], successor: FileKey) -> Policy {
        let ring = u64::from(self.options.ring_bytes);
        Policy {
            daemon_tgid: std::process::id(),
            high_water: ring / 4 * 3,
            seal_water: ring / 2,
            share_water: ring / 8 * 3,
            share: self.options.ring_bytes / SHARE_BYTES,
            grace_ns: self.options.grace.as_nanos().try_into().unwrap_or(u64::MAX),
            guarded,
            successor,
            ..Policy::new_zeroed()
        }
    }

    pub fn agents(&self) -> RwLockReadGuard<'_, Agents> {
        self.agents.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn agent(&self, aid: AgentId) -> Result<Arc<Agent>> {
        self.agents().by_aid.get(&aid).cloned().ok_or(Error::NoSuchAgent(aid))
    }

    pub fn tenant_dir(&self, tenant: &str) -> Result<PathBuf> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if tenant.is_empty() || tenant.starts_with('.') || !tenant.chars().all(plain) {
            return Err(Error::Invalid(format!("a tenant named {tenant:?}")));
        }
        Ok(self.options.cgroup_root.join(&self.options.slice).join(tenant))
    }

    pub fn control(&self, op: u32, cgroup: u64, value: u64) -> Result<()> {
        sys::control(&self.maps.control, Control { op, cgroup, value, ..Control::new_zeroed() })
    }

    /// The root folder, which every agent may look at.
    pub fn root(&self) -> io::Result<FileKey> {
        if let Some(root) = self.root.get() {
            return Ok(*root);
        }
        let fd = rustix::fs::openat(CWD, "/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        let seen = handle::look(&self.maps, fd.as_fd())?;
        Ok(*self.root.get_or_init(|| seen.node.key()))
    }

    /// Which agent a process belongs to, free of PID reuse.
    pub fn agent_of_pidfd(&self, fd: BorrowedFd<'_>) -> Result<Option<AgentId>> {
        let cgroup = match sys::cgroup_of(fd) {
            Some(id) => id,
            None => match self.cgroup_by_name(fd)? {
                Some(id) => id,
                None => return Ok(None),
            },
        };
        Ok(self.agents().by_cgroup.get(&cgroup).copied())
    }

    /// For kernels before 6.13, by way of procfs.
    fn cgroup_by_name(&self, fd: BorrowedFd<'_>) -> Result<Option<u64>> {
        let info = cgroup::read(Path::new(&format!("/proc/self/fdinfo/{}", fd.as_raw_fd())))?;
        let pid = info.lines().find_map(|l| l.strip_prefix("Pid:")).map(str::trim);
        let Some(pid) = pid.and_then(|p| p.parse::<u32>().ok()) else { return Ok(None) };
        let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        // Only a process that still lives was surely the one whose file was read.
        if !sys::is_alive(fd) {
            return Ok(None);
        }
        let Some(own) = text.lines().find_map(|l| l.strip_prefix("0::/")) else { return Ok(None) };
        Ok(cgroup::id(&self.options.cgroup_root.join(own)).ok())
    }

    /// Clears flags of an agent that may have gone meanwhile.
    pub fn clear_flags(&self, aid: AgentId, flags: u32) -> Result<()> {
        self.control(CONTROL_CLEAR_FLAGS, self.agent(aid)?.id, flags.into())
    }

    /// Gives an agent its list anew: written whole, then put in place in one store.
    pub fn publish(&self, agent: &Agent, rights: &mut Rights) -> Result<()> {
        let list = self.maps.policy.next_list();
        let value = self.list_of(rights)?;
        maps::put(&self.maps.lists, "lists", &list, &value)?;
        if let Err(error) = self.control(CONTROL_SET_LIST, agent.id, list) {
            maps::remove(&self.maps.lists, "lists", &list)?;
            return Err(error);
        }
        let old = std::mem::replace(&mut rights.list, list);
        if old != 0 {
            self.discard(Discarded::List(old));
        }
        Ok(())
    }

    /// What the kernel programs know of an agent.
    pub fn known(&self, agent: &Agent) -> Result<KernelAgent> {
        let key = agent.cgroup.as_raw_fd();
        maps::get(&self.maps.agents, "agents", &key)?.ok_or(Error::NoSuchAgent(agent.aid))
    }

    /// What the agent may still have of rights that are gone. Once it may have something, it is never again believed
    /// that it has not: another right may have let it keep it.
    pub fn remains(&self, agent: &Agent, lost: &Lost) -> Result<Remains> {
        if lost.is_empty() {
            return Ok(Remains::Nothing);
        }
        let known = self.known(agent)?;
        let marked =
            |file: &u32| known.mapped[*file as usize / 64 % MAPPED_WORDS] >> (file % 64) & 1 == 1;
        let maps = agent.maps_on.load(Ordering::SeqCst) || lost.files.iter().any(marked);
        agent.maps_on.fetch_or(maps, Ordering::SeqCst);
        let keeps = agent.keeps_on.load(Ordering::SeqCst)
            || (known.flags & FLAG_KEEPS != 0 && self.keeps_through(agent.aid, lost)?);
        agent.keeps_on.fetch_or(keeps, Ordering::SeqCst);
        Ok(if maps && known.flags & FLAG_PINS != 0 {
            Remains::Pinned
        } else if keeps {
            Remains::Kept
        } else if maps {
            Remains::Mapped
        } else {
            Remains::Nothing
        })
    }

    /// Whether it keeps something by the rules on one of these.
    fn keeps_through(&self, aid: AgentId, lost: &Lost) -> Result<bool> {
        let abstracts = lost.abstracts.then_some(KEPT_BY_ABSTRACT);
        for file in lost.files.iter().copied().chain(abstracts).chain([KEPT_BY_SEVERAL]) {
            for kind in [KEPT_PAGES, KEPT_WATCH, KEPT_DESCRIPTOR] {
                let key = KeptKey { aid: aid.0, file, kind };
                if maps::get::<_, u64>(&self.maps.kept, "kept", &key)?.is_some() {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// The agent had pages of its memory held since it was last looked at; then what is mapped does not say all.
    pub fn pins(&self, agent: &Agent) -> Result<bool> {
        Ok(self.known(agent)?.flags & FLAG_PINS != 0)
    }

    /// The agent is gone: nothing is kept by it.
    pub fn forget_kept(&self, aid: AgentId) -> Result<()> {
        let kept = &self.maps.kept;
        for key in kept.keys().collect::<Vec<_>>() {
            match KeptKey::read_from_bytes(&key) {
                Ok(key) if key.aid == aid.0 => maps::remove(kept, "kept", &key)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn list_of(&self, rights: &Rights) -> Result<RightsList> {
        let all: Vec<SetId> = rights.sets.iter().copied().chain(rights.private).collect();
        if all.len() > LIST_SETS {
            return Err(Error::Invalid(format!("{} sets for one agent", all.len())));
        }
        let mut list =
            RightsList { sets: [0; LIST_SETS], count: 0, net: 0, abstracts: 0, reserved: 0 };
        for (i, (set, kinds)) in all.iter().zip(self.sets.kinds(&all)?).enumerate() {
            list.sets[i] = set.0;
            list.net |= u32::from(kinds.net) << i;
            list.abstracts |= u32::from(kinds.abstracts) << i;
        }
        list.count = all.len() as u32;
        Ok(list)
    }

    /// Takes away later, when no check can be looking at it any more.
    pub fn discard(&self, what: Discarded) {
        if let Err(gone) = self.discarded.send(what) {
            tracing::error!("the thread that takes away unused rights has ended");
            take_away(&self.maps, &self.sets, gone.0);
        }
    }
}

/// Waits for what is not held any more, and for the checks that may be looking at it.
pub(crate) fn take_away_later(maps: Arc<Maps>, sets: Arc<Sets>) -> Result<Sender<Discarded>> {
    let (discarded, inbox) = std::sync::mpsc::channel();
    let run = move || {
        while let Ok(first) = inbox.recv() {
            let all: Vec<Discarded> = std::iter::once(first).chain(inbox.try_iter()).collect();
            if let Err(error) = sys::after_checks() {
                // It stays, which takes room and gives nobody anything.
                tracing::error!(%error, "unused rights stay in the maps");
                continue;
            }
            sets.give_numbers_back();
            all.into_iter().for_each(|what| take_away(&maps, &sets, what));
        }
    };
    let started = std::thread::Builder::new().name("rights".into()).spawn(run);
    started.map_err(|source| Error::System { action: "start a thread", source })?;
    Ok(discarded)
}

fn take_away(maps: &Maps, sets: &Sets, what: Discarded) {
    match what {
        Discarded::Set(set) => sets.remove(set),
        Discarded::Parent(aid) => {
            if let Err(error) = maps::remove(&maps.parents, "parents", &aid.0) {
                tracing::error!(%error, "an ended agent's place in its tree stays");
            }
        }
        Discarded::List(list) => {
            if let Err(error) = maps::remove(&maps.lists, "lists", &list) {
                tracing::error!(%error, "a list that nobody holds stays");
            }
        }
    }
}
