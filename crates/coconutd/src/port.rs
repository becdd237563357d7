//! What the daemon needs of the kernel, as a trait: tests give it a kernel that only remembers.

use abi::event::Event;
use abi::{AgentId, AgentState};
use kernel::{Counters, EventReader, Kernel, Launch, Mapping, NewAgent, Process, Result, Rule};
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::time::Duration;

/// The policy in the kernel; documented at [`Kernel`].
#[allow(missing_docs)]
pub trait KernelPort: Send + Sync + 'static {
    fn seal(&self) -> Result<()>;
    fn create_agent(&self, agent: &NewAgent) -> Result<()>;
    fn apply(&self, aid: AgentId, rules: &[Rule]) -> Result<()>;
    fn set_state(&self, aid: AgentId, state: AgentState) -> Result<()>;
    fn launch(&self, aid: AgentId, launch: Launch) -> Result<Process>;
    fn freeze(&self, aid: AgentId) -> Result<()>;
    fn thaw(&self, aid: AgentId) -> Result<()>;
    fn kill(&self, aid: AgentId) -> Result<()>;
    fn set_weight(&self, aid: AgentId, weight: u32) -> Result<()>;
    fn set_tenant_weight(&self, tenant: &str, weight: u32) -> Result<()>;
    fn mappings_below(&self, aid: AgentId, path: &Path) -> Result<Vec<Mapping>>;
    fn processes(&self, aid: AgentId) -> Result<Vec<u32>>;
    fn remove_agent(&self, aid: AgentId) -> Result<()>;
    fn counters(&self, aid: AgentId) -> Result<Counters>;
    fn peer_of_tcp(&self, client: SocketAddr, server: SocketAddr) -> Result<Option<AgentId>>;
    fn agent_of_pidfd(&self, fd: BorrowedFd<'_>) -> Result<Option<AgentId>>;
    fn events(&self) -> Result<Box<dyn EventSource>>;
    fn programs(&self) -> Vec<String>;
}

/// The audit ring; documented at [`EventReader`].
#[allow(missing_docs)]
pub trait EventSource: Send {
    fn poll(&mut self, timeout: Duration, sink: &mut dyn FnMut(&Event)) -> Result<usize>;
    fn lost(&self) -> Result<u64>;
}

impl EventSource for EventReader {
    fn poll(&mut self, timeout: Duration, sink: &mut dyn FnMut(&Event)) -> Result<usize> {
        EventReader::poll(self, timeout, sink)
    }
    fn lost(&self) -> Result<u64> {
        EventReader::lost(self)
    }
}

impl KernelPort for Kernel {
    fn seal(&self) -> Result<()> {
        Kernel::seal(self)
    }
    fn create_agent(&self, agent: &NewAgent) -> Result<()> {
        Kernel::create_agent(self, agent)
    }
    fn apply(&self, aid: AgentId, rules: &[Rule]) -> Result<()> {
        Kernel::apply(self, aid, rules)
    }
    fn set_state(&self, aid: AgentId, state: AgentState) -> Result<()> {
        Kernel::set_state(self, aid, state)
    }
    fn launch(&self, aid: AgentId, launch: Launch) -> Result<Process> {
        Kernel::launch(self, aid, launch)
    }
    fn freeze(&self, aid: AgentId) -> Result<()> {
        Kernel::freeze(self, aid)
    }
    fn thaw(&self, aid: AgentId) -> Result<()> {
        Kernel::thaw(self, aid)
    }
    fn kill(&self, aid: AgentId) -> Result<()> {
        Kernel::kill(self, aid)
    }
    fn set_weight(&self, aid: AgentId, weight: u32) -> Result<()> {
        Kernel::set_weight(self, aid, weight)
    }
    fn set_tenant_weight(&self, tenant: &str, weight: u32) -> Result<()> {
        Kernel::set_tenant_weight(self, tenant, weight)
    }
    fn mappings_below(&self, aid: AgentId, path: &Path) -> Result<Vec<Mapping>> {
        Kernel::mappings_below(self, aid, path)
    }
    fn processes(&self, aid: AgentId) -> Result<Vec<u32>> {
        Kernel::processes(self, aid)
    }
    fn remove_agent(&self, aid: AgentId) -> Result<()> {
        Kernel::remove_agent(self, aid)
    }
    fn counters(&self, aid: AgentId) -> Result<Counters> {
        Kernel::counters(self, aid)
    }
    fn peer_of_tcp(&self, client: SocketAddr, server: SocketAddr) -> Result<Option<AgentId>> {
        Kernel::peer_of_tcp(self, client, server)
    }
    fn agent_of_pidfd(&self, fd: BorrowedFd<'_>) -> Result<Option<AgentId>> {
        Kernel::agent_of_pidfd(self, fd)
    }
    fn events(&self) -> Result<Box<dyn EventSource>> {
        Ok(Box::new(Kernel::events(self)?))
    }
    fn programs(&self) -> Vec<String> {
        // Each attached program's link is pinned under its name.
        let pins = std::fs::read_dir(kernel::LoadOptions::default().pin_dir);
        let names = pins.into_iter().flatten().flatten().map(|pin| pin.file_name());
        let mut names: Vec<String> = names.filter_map(|name| name.into_string().ok()).collect();
        names.sort();
        names
    }
}
