//! The handle on the loaded policy.

use crate::commons::{self, Commons};
use crate::connections;
use crate::launch::{self, Waiting};
use crate::lock::lock;
use crate::maps::{self, Maps};
use crate::seats::Seats;
use crate::sets::Sets;
use crate::snapshot::{self, Snapshot};
use crate::state::{Agents, Before, Discarded, Shared, take_away_later};
use crate::{
    Counters, Error, EventReader, Features, Handle, KernelRule, Launch, LoadOptions, Mapping,
    Namespaces, Remains, Result, SETS_MAX, SetId, cgroup, handle, mappings, object,
};
use abi::agent::FLAG_KEEPS;
use abi::caps::{FileKey, TcpPeerKey};
use abi::control::{CONTROL_LEARN_SLICE, CONTROL_SET_PARENT, CONTROL_SET_STATE, GUARDED_CGROUPS};
use abi::{AgentId, AgentState};
use libbpf_rs::Link;
use rustix::event::{EventfdFlags, eventfd};
use rustix::mount::MountAttrFlags;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockWriteGuard};
use std::time::Duration;
use zerocopy::FromZeros;

/// The loaded policy and the agents under it. Share it by `Arc`.
pub struct Kernel {
    pub(crate) shared: Arc<Shared>,
    links: Mutex<Vec<Link>>,
    weaker: Vec<String>,
    reader: AtomicBool,
    /// Held while folders above agents are made or removed.
    pub(crate) folders: Mutex<()>,
    /// What an earlier daemon left, if this one took over.
    pub(crate) before: Option<Before>,
    /// Where its control groups are looked for.
    _hierarchy: OwnedFd,
    secret: Mutex<Option<OwnedFd>>,
    own: Mutex<Vec<Handle>>,
}

/// The control groups on a mount that lies nowhere: what others mount over `/sys`, take away or make read-only there
/// is nothing to the daemon. With the options that lead to it.
pub(crate) fn own_hierarchy(options: &LoadOptions) -> Result<(LoadOptions, OwnedFd)> {
    let made = commons::mount("cgroup2", &[], MountAttrFlags::MOUNT_ATTR_NOEXEC);
    let mount = made.map_err(|source| Error::System {
        action: "mount the control groups once more, for itself",
        source,
    })?;
    let cgroup_root = PathBuf::from(format!("/proc/self/fd/{}", mount.as_raw_fd()));
    Ok((LoadOptions { cgroup_root, ..options.clone() }, mount))
}

/// A task that has not left its call after this waits where nothing interrupts it.
const INTERRUPTED: Duration = Duration::from_secs(2);

impl Kernel {
    /// What the running kernel supports; needs no privilege.
    pub fn probe() -> Features {
        Features::probe()
    }

    /// Takes the policy over where an earlier daemon has left it, else loads it.
    ///
    /// # Errors
    /// Among others [`Error::NotAdmitted`], where it is there and the kernel has not let this process in.
    pub fn start(options: &LoadOptions) -> Result<Kernel> {
        match object::standing(options)? {
            Some(maps) if maps.policy.is_sealed() => Kernel::take_over(options, maps),
            // Whoever loaded it ended before it was in force: nobody is under it.
            Some(_) => {
                object::remove_pins(options)?;
                Kernel::load(options)
            }
            None => Kernel::load(options),
        }
    }

    /// Loads, attaches and pins all programs and makes the slice with its controllers on.
    pub fn load(options: &LoadOptions) -> Result<Kernel> {
        if let Some(what) = Features::probe().missing().first() {
            return Err(Error::Unsupported {
                what: (*what).to_owned(),
                hint: "boot with `lsm=landlock,yama,apparmor,bpf` on a kernel with BTF and cgroup v2",
            });
        }
        let (own, hierarchy) = own_hierarchy(options)?;
        let options = &own;
        let root = &options.cgroup_root;
        let slice = root.join(&options.slice);
        cgroup::delegate(root)?;
        cgroup::make(&slice)?;
        cgroup::delegate(&slice)?;
        let programs = object::load(options)?;
        let maps = Arc::new(programs.maps);
        let sets = Arc::new(Sets::new(Arc::clone(&maps), options.max_files));
        let kernel = Kernel::of(options, hierarchy, maps, sets, programs.weaker, None)?;
        *lock(&kernel.links) = programs.links;
        let shared = &kernel.shared;
        shared.maps.policy.set_layout(options.layout);
        shared.maps.policy.publish(&shared.policy([0; GUARDED_CGROUPS], FileKey::new_zeroed()));
        shared.control(CONTROL_LEARN_SLICE, cgroup::id(&slice)?, 0)?;
        Ok(kernel)
    }

    /// What the policy, however it got into the kernel, is steered by.
    pub(crate) fn of(
        options: &LoadOptions,
        hierarchy: OwnedFd,
        maps: Arc<Maps>,
        sets: Arc<Sets>,
        weaker: Vec<String>,
        before: Option<Before>,
    ) -> Result<Kernel> {
        let shared = Shared {
            low_water: u64::from(options.ring_bytes) / 4,
            options: options.clone(),
            discarded: take_away_later(Arc::clone(&maps), Arc::clone(&sets))?,
            maps,
            sets,
            bell: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
                .map_err(|e| Error::System { action: "make an eventfd", source: e.into() })?,
            root: std::sync::OnceLock::new(),
            commons: Commons::default(),
            seats: Seats::new().map_err(|source| Error::System {
                action: "reserve descriptors for launches",
                source,
            })?,
            agents: RwLock::default(),
        };
        Ok(Kernel {
            shared: Arc::new(shared),
            links: Mutex::default(),
            weaker,
            reader: AtomicBool::new(false),
            folders: Mutex::new(()),
            before,
            _hierarchy: hierarchy,
            secret: Mutex::default(),
            own: Mutex::default(),
        })
    }

    /// Programs that this kernel has no place for: the policy holds without them, but weaker.
    pub fn weaker(&self) -> &[String] {
        &self.weaker
    }

    /// From here on nobody but this process may call `bpf()`, remove pins, or signal or trace it.
    pub fn seal(&self) -> Result<()> {
        let maps = &self.shared.maps;
        let pid = rustix::process::getpid();
        let pidfd =
            rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).map_err(
                |e| Error::System { action: "open a pidfd of the daemon", source: e.into() },
            )?;
        maps::put(&maps.daemons, "daemons", &pidfd.as_raw_fd(), &1u32)?;
        let mut guarded = [0; GUARDED_CGROUPS];
        let chain = cgroup::own_chain(&self.shared.options.cgroup_root)?;
        guarded.iter_mut().zip(chain).for_each(|(slot, id)| *slot = id);
        maps.policy.publish(&self.shared.policy(guarded, self.successor(own_program()?.as_fd())?));
        maps.policy.set_sealed(true);
        Ok(())
    }

    /// Once the seal is closed nobody else opens this file, under any name; it is kept, so that its numbers stay its own.
    pub fn keep_secret(&self, file: OwnedFd) -> Result<()> {
        let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
        let seen = handle::look(&self.shared.maps, file.as_fd());
        let node = seen.map_err(|source| Error::Path { path, source })?.node;
        self.shared.maps.policy.set_secret(node.key());
        *lock(&self.secret) = Some(file);
        Ok(())
    }

    /// Once the seal is closed nobody else changes what lies in these folders, moves them, mounts over them, or writes
    /// to the disks beneath.
    pub fn keep_folders(&self, folders: Vec<OwnedFd>) -> Result<()> {
        *lock(&self.own) = crate::own::publish(&self.shared.maps, folders)?;
        Ok(())
    }

    /// From here on this program, too, may become the daemon when this one has ended: a new version of it
    /// lies where this one lay.
    pub fn expect_successor(&self, program: BorrowedFd<'_>) -> Result<()> {
        let chain = cgroup::own_chain(&self.shared.options.cgroup_root)?;
        let mut guarded = [0; GUARDED_CGROUPS];
        guarded.iter_mut().zip(chain).for_each(|(slot, id)| *slot = id);
        let successor = self.successor(program)?;
        self.shared.maps.policy.publish(&self.shared.policy(guarded, successor));
        Ok(())
    }

    fn successor(&self, program: BorrowedFd<'_>) -> Result<FileKey> {
        let path = PathBuf::from("/proc/self/exe");
        let seen = handle::look(&self.shared.maps, program);
        Ok(seen.map_err(|source| Error::Path { path, source })?.node.key())
    }

    /// Ends the seal and unloads the policy, after every agent has ended: for tests, which start anew.
    #[doc(hidden)]
    pub fn unload(&self) -> Result<()> {
        self.shared.maps.policy.set_sealed(false);
        lock(&self.links).clear();
        object::remove_pins(&self.shared.options)
    }

    /// Looks at an open file, so that rights can be given on it; it stays open with the handle.
    pub fn handle(&self, fd: OwnedFd) -> Result<Handle> {
        handle::handle(&self.shared.maps, fd)
    }

    /// Writes a set of rules; nobody holds it yet.
    pub fn make_set(&self, rules: &[KernelRule]) -> Result<SetId> {
        self.shared.sets.make(rules)
    }

    /// Adds uses to the counter of a rule ([`crate::Uses::key`]); false if no set has it.
    pub fn add_uses(&self, key: u64, uses: u64) -> Result<bool> {
        self.shared.sets.add_uses(key, uses)
    }

    /// How often the rule may still be used; none if no set has it.
    pub fn uses_left(&self, key: u64) -> Result<Option<u64>> {
        self.shared.sets.uses_left(key)
    }

    /// Lets a rule of a set stand on another file, for everybody who holds the set: the name that it was
    /// given by leads there now. What is new is there before what is old goes.
    pub fn follow(
        &self,
        set: SetId,
        rule: u32,
        old: Option<&Handle>,
        new: Option<&Arc<Handle>>,
    ) -> Result<()> {
        self.shared.sets.follow(set, rule, old, new)
    }

    /// Forgets a set that nobody holds any more, once no check can be looking at it.
    pub fn drop_set(&self, set: SetId) -> Result<()> {
        self.shared.discard(Discarded::Set(set));
        Ok(())
    }

    /// How many sets there are, each agent's own mounts included.
    pub fn sets(&self) -> usize {
        self.shared.sets.count()
    }

    pub(crate) fn remove_empty_above(&self, folder: &Path) {
        let _alone = lock(&self.folders);
        let slice = self.shared.options.cgroup_root.join(&self.shared.options.slice);
        cgroup::remove_empty_above(folder, &slice);
    }

    pub(crate) fn agents_mut(&self) -> RwLockWriteGuard<'_, Agents> {
        self.shared.agents.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the agent these sets in place of those that it holds: when this returns, no check that
    /// begins is decided by the old ones, and none ever saw a part of both.
    ///
    /// Returns what it may still have of what it lost by this.
    pub fn assign(&self, aid: AgentId, sets: &[SetId]) -> Result<Remains> {
        check_count(sets)?;
        let agent = self.shared.agent(aid)?;
        let mut rights = lock(&agent.rights);
        let before = std::mem::replace(&mut rights.sets, sets.to_vec());
        // Before its launch nothing of the agent's runs; the launch publishes what is held then.
        if rights.private.is_none() {
            return Ok(Remains::Nothing);
        }
        let lost = self.shared.sets.lost(&before, sets);
        self.shared.publish(&agent, &mut rights).inspect_err(|_| rights.sets = before)?;
        // The rights are gone: what cannot be found out counts as all of it.
        Ok(self.shared.remains(&agent, &lost).unwrap_or(Remains::Pinned))
    }

    /// Whether the agent holds pages of memory beside what it has mapped. Asked after its mappings were looked at:
    /// what was mapped when its right went may be held so by then.
    pub fn pins(&self, aid: AgentId) -> Result<bool> {
        self.shared.pins(&*self.shared.agent(aid)?)
    }

    /// Whom signals to descendants may come from, after re-parenting; [`AgentId::NOBODY`] for none.
    pub fn set_parent(&self, aid: AgentId, parent: AgentId) -> Result<()> {
        // Not by the agent's cgroup here: the table is by ids.
        self.shared.control(CONTROL_SET_PARENT, aid.0, parent.0)
    }

    /// Tells the kernel programs the agent's lifecycle state.
    ///
    /// One that is to be quarantined stops first: else it would run on for a moment in which everything
    /// is refused to it, and end of that. [`Kernel::freeze`] waits until it has stopped.
    pub fn set_state(&self, aid: AgentId, state: AgentState) -> Result<()> {
        if state == AgentState::Quarantined {
            self.write_freeze(aid, "1")?;
        }
        self.shared.control(CONTROL_SET_STATE, self.shared.agent(aid)?.id, state as u64)
    }

    /// Makes the agent's process, which waits until it may start its program; on failure none is left.
    pub fn prepare(&self, aid: AgentId, launch: Launch) -> Result<Waiting> {
        let agent = self.shared.agent(aid)?;
        if agent.launched.swap(true, Ordering::SeqCst) {
            return Err(Error::Invalid("the agent's program was started already".to_owned()));
        }
        launch::prepare(&self.shared, agent, launch)
    }

    /// Freezes all processes of the agent.
    pub fn freeze(&self, aid: AgentId) -> Result<()> {
        let dir = self.write_freeze(aid, "1")?;
        cgroup::await_frozen(&dir)
    }

    /// Lets a frozen agent run.
    pub fn thaw(&self, aid: AgentId) -> Result<()> {
        self.write_freeze(aid, "0").map(|_| ())
    }

    /// Has every call of the agent that waits begin anew, and be decided by what it holds now: a task that is to
    /// be frozen leaves its call, as for a signal that nobody handles (`cgroup_freeze_task`). Until it has, what it waited
    /// for may come and be its; a task that waits where nothing interrupts it is not waited for longer than that takes.
    /// Not for one that is frozen: it would run.
    pub fn interrupt(&self, aid: AgentId) -> Result<()> {
        let dir = self.write_freeze(aid, "1")?;
        let stood = cgroup::await_frozen_within(&dir, INTERRUPTED);
        self.thaw(aid)?;
        match stood {
            Err(Error::File { source, .. }) if source.kind() == std::io::ErrorKind::TimedOut => {
                Ok(())
            }
            other => other,
        }
    }

    fn write_freeze(&self, aid: AgentId, value: &str) -> Result<PathBuf> {
        let agent = self.shared.agent(aid)?;
        let _still = lock(&agent.moving);
        let leaf = agent.leaf();
        cgroup::write(&leaf, "cgroup.freeze", value)?;
        Ok(leaf)
    }

    /// Ends every process of the agent at once (`cgroup.kill`).
    pub fn kill(&self, aid: AgentId) -> Result<()> {
        cgroup::write(&self.shared.agent(aid)?.leaf(), "cgroup.kill", "1")
    }

    /// Sets an agent's CPU weight, 1 to 10,000: among its siblings, and its own processes' among its
    /// children.
    pub fn set_weight(&self, aid: AgentId, weight: u32) -> Result<()> {
        let agent = self.shared.agent(aid)?;
        let _alone = lock(&agent.moving);
        let (domain, leaf, weight) = (&agent.domain, agent.leaf(), weight.to_string());
        if leaf != *domain {
            cgroup::write(&leaf, "cpu.weight", &weight)?;
        }
        cgroup::write(domain, "cpu.weight", &weight)
    }

    /// Sets a tenant's CPU weight among the tenants.
    pub fn set_tenant_weight(&self, tenant: &str, weight: u32) -> Result<()> {
        let _alone = lock(&self.folders);
        let dir = self.shared.tenant_dir(tenant)?;
        if !dir.exists() {
            cgroup::make(&dir)?;
            cgroup::delegate(&dir)?;
        }
        cgroup::write(&dir, "cpu.weight", &weight.to_string())
    }

    /// Live file mappings of all its processes; freeze the agent first for an exact answer.
    pub fn live_mappings(&self, aid: AgentId) -> Result<Vec<Mapping>> {
        let mut all = Vec::new();
        for pid in self.processes(aid)? {
            all.extend(mappings::of(pid)?);
        }
        Ok(all)
    }

    /// Cuts the connections of all its processes, but for those to UNIX sockets of these paths; how many there were.
    /// Freeze the agent first, or it makes new ones.
    pub fn cut(&self, aid: AgentId, spared: &[PathBuf]) -> Result<usize> {
        self.processes(aid)?.into_iter().map(|pid| connections::cut(pid, spared)).sum()
    }

    /// What its processes are at this moment.
    pub fn snapshot(&self, aid: AgentId) -> Result<Vec<Snapshot>> {
        Ok(self.processes(aid)?.into_iter().filter_map(snapshot::of).collect())
    }

    /// Process ids in the agent's cgroup.
    pub fn processes(&self, aid: AgentId) -> Result<Vec<u32>> {
        cgroup::processes(&self.shared.agent(aid)?.leaf())
    }

    /// Whether any process of the agent is left.
    pub fn populated(&self, aid: AgentId) -> Result<bool> {
        cgroup::populated(&self.shared.agent(aid)?.leaf())
    }

    /// Removes the agent's cgroup and state, and what nobody else holds; its processes must have ended.
    ///
    /// Where children live on below its cgroup, that stays for as long as they do.
    pub fn remove_agent(&self, aid: AgentId) -> Result<()> {
        let agent = self.shared.agent(aid)?;
        let still = lock(&agent.moving);
        let leaf = agent.leaf();
        let keeps = self.shared.known(&agent).is_ok_and(|known| known.flags & FLAG_KEEPS != 0);
        cgroup::remove(&leaf)?;
        if agent.moved.get().is_some() {
            // Children may live on below it, and are nobody's but their own.
            maps::remove(&self.shared.maps.agents, "agents", &agent.cgroup.as_raw_fd())?;
        }
        let mut agents = self.agents_mut();
        agents.by_aid.remove(&aid);
        for id in std::iter::once(&agent.id).chain(agent.moved.get()) {
            agents.by_cgroup.remove(id);
        }
        drop((agents, still));
        self.remove_empty_above(&leaf);
        if agent.namespaces == Namespaces::Shared {
            self.shared.commons.leave(&agent.folder_name());
        }
        let rights = std::mem::take(&mut *lock(&agent.rights));
        if rights.list != 0 {
            self.shared.discard(Discarded::List(rights.list));
        }
        if let Some(private) = rights.private {
            self.shared.discard(Discarded::Set(private));
        }
        let m = &self.shared.maps;
        if agent.keeps_on.load(Ordering::SeqCst) || keeps {
            self.shared.forget_kept(aid)?;
        }
        self.shared.discard(Discarded::Parent(aid));
        maps::remove(&m.peer_counts, "peer_counts", &aid.0)
    }

    /// What the kernel counted for the agent.
    pub fn counters(&self, aid: AgentId) -> Result<Counters> {
        let value = self.shared.known(self.shared.agent(aid)?.as_ref())?;
        Ok(Counters { denials: value.denials, uses: value.uses })
    }

    /// Which agent owns the client end of an established TCP connection on this machine.
    pub fn peer_of_tcp(&self, client: SocketAddr, server: SocketAddr) -> Result<Option<AgentId>> {
        let key = TcpPeerKey {
            client_addr: mapped(client.ip()),
            server_addr: mapped(server.ip()),
            client_port: client.port(),
            server_port: server.port(),
            reserved: 0,
        };
        let aid: Option<u64> = maps::get(&self.shared.maps.tcp_peers, "tcp_peers", &key)?;
        Ok(aid.map(AgentId).filter(|aid| self.shared.agents().by_aid.contains_key(aid)))
    }

    /// Which agent a process belongs to, free of PID reuse.
    pub fn agent_of_pidfd(&self, fd: BorrowedFd<'_>) -> Result<Option<AgentId>> {
        self.shared.agent_of_pidfd(fd)
    }

    /// Has the ring's reader look now: uses, which are many, do not wake it by themselves.
    pub fn read_events_now(&self) {
        // A full counter means that it has been told already.
        let _ = rustix::io::write(&self.shared.bell, &1u64.to_ne_bytes());
    }

    /// The audit ring; may be taken once.
    pub fn events(&self) -> Result<EventReader> {
        if self.reader.swap(true, Ordering::SeqCst) {
            return Err(Error::Invalid("the ring has its reader already".to_owned()));
        }
        EventReader::new(Arc::clone(&self.shared))
    }
}

pub(crate) fn check_count(sets: &[SetId]) -> Result<()> {
    match sets.len() {
        0..=SETS_MAX => Ok(()),
        many => Err(Error::Invalid(format!("{many} sets for one agent, at most {SETS_MAX}"))),
    }
}

fn mapped(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// The program that this process runs.
fn own_program() -> Result<OwnedFd> {
    let path = PathBuf::from("/proc/self/exe");
    let opened = std::fs::File::open(&path);
    Ok(opened.map_err(|source| Error::File { action: "open", path, source })?.into())
}
