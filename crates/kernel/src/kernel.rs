//! The handle on the loaded policy.

use crate::grants::Entries;
use crate::launch::launch_process;
use crate::maps;
use crate::state::{Agent, Shared, lock};
use crate::{
    Counters, Error, EventReader, Features, Launch, LoadOptions, Mapping, NewAgent, Process,
    Result, Rule, cgroup, mappings, object, sys,
};
use abi::agent::{FLAG_SETUP, KernelAgent};
use abi::caps::TcpPeerKey;
use abi::control::{CONTROL_LEARN_SLICE, CONTROL_SET_STATE, GUARDED_CGROUPS};
use abi::{AgentId, AgentState};
use libbpf_rs::Link;
use std::fs::File;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// The loaded policy and the agents under it. Share it by `Arc`.
pub struct Kernel {
    shared: Arc<Shared>,
    links: Mutex<Vec<Link>>,
    weaker: Vec<String>,
    reader: AtomicBool,
}

impl Kernel {
    /// What the running kernel supports; needs no privilege.
    pub fn probe() -> Features {
        Features::probe()
    }

    /// Loads, attaches and pins all programs and makes the slice with its controllers on.
    pub fn load(options: &LoadOptions) -> Result<Kernel> {
        if let Some(what) = Features::probe().missing().first() {
            return Err(Error::Unsupported {
                what: (*what).to_owned(),
                hint: "boot with `lsm=landlock,yama,apparmor,bpf` on a kernel with BTF and cgroup v2",
            });
        }
        let root = &options.cgroup_root;
        let slice = root.join(&options.slice);
        cgroup::delegate(root)?;
        cgroup::make(&slice)?;
        cgroup::delegate(&slice)?;
        let programs = object::load(options)?;
        let ring = u64::from(options.ring_bytes);
        let shared = Shared {
            options: options.clone(),
            maps: programs.maps,
            low_water: ring / 4,
            agents: RwLock::default(),
            next_epoch: AtomicU32::new(1),
        };
        shared.maps.policy.publish(&shared.policy(ring, [0; GUARDED_CGROUPS]));
        shared.control(CONTROL_LEARN_SLICE, cgroup::id(&slice)?, 0)?;
        Ok(Kernel {
            shared: Arc::new(shared),
            links: Mutex::new(programs.links),
            weaker: programs.weaker,
            reader: AtomicBool::new(false),
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
        let ring = u64::from(self.shared.options.ring_bytes);
        maps.policy.publish(&self.shared.policy(ring, guarded));
        maps.policy.set_sealed(true);
        Ok(())
    }

    /// Ends the seal and unloads the policy: the orderly stop, after every agent has ended.
    pub fn unload(&self) -> Result<()> {
        self.shared.maps.policy.set_sealed(false);
        lock(&self.links).clear();
        for dir in [self.shared.options.pin_dir.clone(), object::maps_dir(&self.shared.options)] {
            std::fs::remove_dir_all(&dir).map_err(|source| Error::File {
                action: "remove the pins in",
                path: dir,
                source,
            })?;
        }
        Ok(())
    }

    /// Makes the agent's cgroup, limits and kernel state; checks are off until its program starts.
    pub fn create_agent(&self, new: &NewAgent) -> Result<()> {
        let tenant = self.shared.tenant_dir(&new.tenant)?;
        if self.shared.agents().contains_key(&new.aid) {
            return Err(Error::AgentExists(new.aid));
        }
        if !tenant.exists() {
            cgroup::make(&tenant)?;
            cgroup::delegate(&tenant)?;
        }
        let dir = tenant.join(new.agent.to_string());
        if dir.exists() {
            return Err(Error::AgentExists(new.aid));
        }
        cgroup::make(&dir)?;
        let made = self.furnish(new, &dir);
        match made {
            Ok(agent) => {
                let mut agents = self.shared.agents.write().unwrap_or_else(PoisonError::into_inner);
                agents.insert(new.aid, Arc::new(agent));
                Ok(())
            }
            Err(error) => {
                let _ = cgroup::remove(&dir);
                cgroup::remove_if_empty(&tenant);
                Err(error)
            }
        }
    }

    /// Limits, and the value that makes the cgroup an agent.
    fn furnish(&self, new: &NewAgent, dir: &Path) -> Result<Agent> {
        if new.weight != 100 {
            cgroup::write_limit(dir, "cpu.weight", Some(new.weight.into()))?;
        }
        cgroup::write_limit(dir, "memory.max", new.ram_max)?;
        cgroup::write_limit(dir, "memory.swap.max", new.swap_max)?;
        cgroup::write_limit(dir, "pids.max", new.pids_max)?;
        let file = |source| Error::File { action: "open", path: dir.to_owned(), source };
        let cgroup: OwnedFd = File::open(dir).map_err(file)?.into();
        let value = KernelAgent {
            aid: new.aid.0,
            state: AgentState::Spawning as u32,
            flags: FLAG_SETUP,
            cap_epoch: self.shared.epoch(),
            reserved: 0,
            denials: 0,
            uses: 0,
            parent: new.parent.0,
        };
        maps::put(&self.shared.maps.agents, "agents", &cgroup.as_raw_fd(), &value)?;
        Ok(Agent {
            aid: new.aid,
            dir: dir.to_owned(),
            id: cgroup::id(dir)?,
            cgroup,
            launched: AtomicBool::new(false),
            installed: Mutex::default(),
        })
    }

    /// Makes `rules` the agent's whole set; what is not in it is revoked when this returns.
    pub fn apply(&self, aid: AgentId, rules: &[Rule]) -> Result<()> {
        let agent = self.shared.agent(aid)?;
        let mut installed = lock(&agent.installed);
        let private = installed.private.clone();
        self.shared.install(&agent, &mut installed, rules, private)
    }

    /// Tells the kernel programs the agent's lifecycle state.
    pub fn set_state(&self, aid: AgentId, state: AgentState) -> Result<()> {
        self.shared.control(CONTROL_SET_STATE, self.shared.agent(aid)?.id, state as u32)
    }

    /// Starts the agent's program; on failure no process is left.
    pub fn launch(&self, aid: AgentId, launch: Launch) -> Result<Process> {
        let agent = self.shared.agent(aid)?;
        if agent.launched.swap(true, Ordering::SeqCst) {
            return Err(Error::Invalid("the agent's program was started already".to_owned()));
        }
        launch_process(&self.shared, &agent, launch)
    }

    /// Freezes all processes of the agent.
    pub fn freeze(&self, aid: AgentId) -> Result<()> {
        let dir = &self.shared.agent(aid)?.dir;
        cgroup::write(dir, "cgroup.freeze", "1")?;
        cgroup::await_frozen(dir, true)
    }

    /// Lets a frozen agent run.
    pub fn thaw(&self, aid: AgentId) -> Result<()> {
        cgroup::write(&self.shared.agent(aid)?.dir, "cgroup.freeze", "0")
    }

    /// Ends every process of the agent at once (`cgroup.kill`).
    pub fn kill(&self, aid: AgentId) -> Result<()> {
        cgroup::write(&self.shared.agent(aid)?.dir, "cgroup.kill", "1")
    }

    /// Sends a signal to every process of the agent.
    pub fn signal(&self, aid: AgentId, signal: i32) -> Result<()> {
        for pid in self.processes(aid)? {
            sys::signal(pid, signal)?;
        }
        Ok(())
    }

    /// Sets an agent's CPU weight, 1 to 10,000.
    pub fn set_weight(&self, aid: AgentId, weight: u32) -> Result<()> {
        cgroup::write(&self.shared.agent(aid)?.dir, "cpu.weight", &weight.to_string())
    }

    /// Sets a tenant's CPU weight among the tenants.
    pub fn set_tenant_weight(&self, tenant: &str, weight: u32) -> Result<()> {
        let dir = self.shared.tenant_dir(tenant)?;
        if !dir.exists() {
            cgroup::make(&dir)?;
            cgroup::delegate(&dir)?;
        }
        cgroup::write(&dir, "cpu.weight", &weight.to_string())
    }

    /// Live mappings of files at or below `path`; freeze the agent first for an exact answer.
    pub fn mappings_below(&self, aid: AgentId, path: &Path) -> Result<Vec<Mapping>> {
        let mut all = Vec::new();
        let real = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        for pid in self.processes(aid)? {
            all.extend(mappings::below(pid, &real)?);
        }
        Ok(all)
    }

    /// Process ids in the agent's cgroup.
    pub fn processes(&self, aid: AgentId) -> Result<Vec<u32>> {
        cgroup::processes(&self.shared.agent(aid)?.dir)
    }

    /// Removes the agent's cgroup, grants and state; its processes must have ended.
    pub fn remove_agent(&self, aid: AgentId) -> Result<()> {
        let agent = self.shared.agent(aid)?;
        cgroup::remove(&agent.dir)?;
        let mut installed = lock(&agent.installed);
        let gone = std::mem::take(&mut *installed);
        self.shared.write_entries(&gone.entries, &Entries::default())?;
        let mut agents = self.shared.agents.write().unwrap_or_else(PoisonError::into_inner);
        agents.remove(&aid);
        if let Some(tenant) = agent.dir.parent() {
            cgroup::remove_if_empty(tenant);
        }
        Ok(())
    }

    /// What the kernel counted for the agent.
    pub fn counters(&self, aid: AgentId) -> Result<Counters> {
        let agent = self.shared.agent(aid)?;
        let key = agent.cgroup.as_raw_fd();
        let value: Option<KernelAgent> = maps::get(&self.shared.maps.agents, "agents", &key)?;
        let value = value.ok_or(Error::NoSuchAgent(aid))?;
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
        Ok(aid.map(AgentId).filter(|aid| self.shared.agents().contains_key(aid)))
    }

    /// Which agent a process belongs to, free of PID reuse.
    pub fn agent_of_pidfd(&self, fd: BorrowedFd<'_>) -> Result<Option<AgentId>> {
        let info = cgroup::read(Path::new(&format!("/proc/self/fdinfo/{}", fd.as_raw_fd())))?;
        let pid = info.lines().find_map(|l| l.strip_prefix("Pid:")).map(str::trim);
        let Some(pid) = pid.and_then(|p| p.parse::<u32>().ok()) else { return Ok(None) };
        let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        // Only a process that still lives was surely the one whose file was read.
        if !sys::is_alive(fd) {
            return Ok(None);
        }
        let Some(own) = text.lines().find_map(|l| l.strip_prefix("0::/")) else { return Ok(None) };
        let dir = self.shared.options.cgroup_root.join(own);
        let agents = self.shared.agents();
        Ok(agents.values().find(|a| dir.starts_with(&a.dir)).map(|a| a.aid))
    }

    /// The audit ring; may be taken once.
    pub fn events(&self) -> Result<EventReader> {
        if self.reader.swap(true, Ordering::SeqCst) {
            return Err(Error::Invalid("the ring has its reader already".to_owned()));
        }
        EventReader::new(Arc::clone(&self.shared))
    }
}

fn mapped(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}
