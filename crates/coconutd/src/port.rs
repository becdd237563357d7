//! What the daemon needs of the machine, as traits: tests give it a kernel that only remembers, and
//! look-ups that fail when they are told to.

use abi::event::Event;
use abi::{AgentId, AgentState};
use futures_util::future::BoxFuture;
use kernel::{
    Counters, EventReader, Exited, Footing, Found, Handle, Kernel, KernelRule, Launch, Mapping,
    NewAgent, Process, Remains, Result, SetId, Snapshot, Standing,
};
use manifest::AbsPath;
use resolve::programs::{Leases, Program, ProgramError, Programs};
use resolve::targets::{Absent, Handles, Resolver, RuleError};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// A process that waits for its program; dropped, it is ended. Documented at [`kernel::Waiting`].
pub trait Ready: Send {
    /// Starts the program.
    ///
    /// # Errors
    /// Names the step that refused; no process is left.
    fn go(self: Box<Self>) -> Result<Process>;
}

impl Ready for kernel::Waiting {
    fn go(self: Box<Self>) -> Result<Process> {
        kernel::Waiting::go(*self)
    }
}

/// The policy in the kernel; documented at [`Kernel`].
#[allow(missing_docs)]
pub trait KernelPort: Send + Sync + 'static {
    fn adopted(&self) -> bool;
    fn seal(&self) -> Result<()>;
    fn keep_secret(&self, file: OwnedFd) -> Result<()>;
    fn keep_folders(&self, folders: Vec<OwnedFd>) -> Result<()>;
    fn handle(&self, fd: OwnedFd) -> Result<Handle>;
    fn make_set(&self, rules: &[KernelRule]) -> Result<SetId>;
    fn add_uses(&self, key: u64, uses: u64) -> Result<bool>;
    fn uses_left(&self, key: u64) -> Result<Option<u64>>;
    fn follow(
        &self,
        set: SetId,
        rule: u32,
        old: Option<&Handle>,
        new: Option<&Arc<Handle>>,
    ) -> Result<()>;
    fn drop_set(&self, set: SetId) -> Result<()>;
    fn create_agent(&self, agent: &NewAgent, sets: &[SetId]) -> Result<()>;
    fn assign(&self, aid: AgentId, sets: &[SetId]) -> Result<Remains>;
    fn pins(&self, aid: AgentId) -> Result<bool>;
    fn set_parent(&self, aid: AgentId, parent: AgentId) -> Result<()>;
    fn set_state(&self, aid: AgentId, state: AgentState) -> Result<()>;
    fn prepare(&self, aid: AgentId, launch: Launch) -> Result<Box<dyn Ready>>;
    fn make_room(&self, aid: AgentId, pids_max: Option<u64>) -> Result<()>;
    fn freeze(&self, aid: AgentId) -> Result<()>;
    fn thaw(&self, aid: AgentId) -> Result<()>;
    fn interrupt(&self, aid: AgentId) -> Result<()>;
    fn cut(&self, aid: AgentId, spared: &[PathBuf]) -> Result<usize>;
    fn snapshot(&self, aid: AgentId) -> Result<Vec<Snapshot>>;
    fn kill(&self, aid: AgentId) -> Result<()>;
    fn set_weight(&self, aid: AgentId, weight: u32) -> Result<()>;
    fn set_tenant_weight(&self, tenant: &str, weight: u32) -> Result<()>;
    fn live_mappings(&self, aid: AgentId) -> Result<Vec<Mapping>>;
    fn populated(&self, aid: AgentId) -> Result<bool>;
    fn remove_agent(&self, aid: AgentId) -> Result<()>;
    fn counters(&self, aid: AgentId) -> Result<Counters>;
    fn footing(&self, aid: AgentId) -> Result<Footing>;
    fn adopt_agent(&self, standing: &Standing, sets: &[SetId]) -> Result<Found>;
    fn adoption_done(&self) -> Result<Vec<AgentId>>;
    fn exit_of(&self, aid: AgentId) -> Result<Option<Exited>>;
    fn peer_of_tcp(&self, client: SocketAddr, server: SocketAddr) -> Result<Option<AgentId>>;
    fn agent_of_pidfd(&self, fd: BorrowedFd<'_>) -> Result<Option<AgentId>>;
    fn read_events_now(&self);
    fn events(&self) -> Result<Box<dyn EventSource>>;
    fn programs(&self) -> Vec<String>;
}

/// The audit ring; documented at [`EventReader`].
#[allow(missing_docs)]
pub trait EventSource: Send {
    fn poll(&mut self, timeout: Duration, sink: &mut dyn FnMut(&Event, u64)) -> Result<usize>;
    fn release(&mut self, position: u64);
    fn position(&self) -> u64;
    fn waiting(&self, position: u64) -> HashMap<AgentId, Counters>;
    fn lost(&mut self) -> Result<u64>;
}

impl EventSource for EventReader {
    fn poll(&mut self, timeout: Duration, sink: &mut dyn FnMut(&Event, u64)) -> Result<usize> {
        EventReader::poll(self, timeout, sink)
    }
    fn release(&mut self, position: u64) {
        EventReader::release(self, position);
    }
    fn position(&self) -> u64 {
        EventReader::position(self)
    }
    fn waiting(&self, position: u64) -> HashMap<AgentId, Counters> {
        EventReader::waiting(self, position)
    }
    fn lost(&mut self) -> Result<u64> {
        EventReader::lost(self)
    }
}

impl KernelPort for Kernel {
    fn adopted(&self) -> bool {
        Kernel::adopted(self)
    }
    fn seal(&self) -> Result<()> {
        Kernel::seal(self)
    }
    fn keep_secret(&self, file: OwnedFd) -> Result<()> {
        Kernel::keep_secret(self, file)
    }
    fn keep_folders(&self, folders: Vec<OwnedFd>) -> Result<()> {
        Kernel::keep_folders(self, folders)
    }
    fn handle(&self, fd: OwnedFd) -> Result<Handle> {
        Kernel::handle(self, fd)
    }
    fn make_set(&self, rules: &[KernelRule]) -> Result<SetId> {
        Kernel::make_set(self, rules)
    }
    fn add_uses(&self, key: u64, uses: u64) -> Result<bool> {
        Kernel::add_uses(self, key, uses)
    }
    fn uses_left(&self, key: u64) -> Result<Option<u64>> {
        Kernel::uses_left(self, key)
    }
    fn follow(
        &self,
        set: SetId,
        rule: u32,
        old: Option<&Handle>,
        new: Option<&Arc<Handle>>,
    ) -> Result<()> {
        Kernel::follow(self, set, rule, old, new)
    }
    fn drop_set(&self, set: SetId) -> Result<()> {
        Kernel::drop_set(self, set)
    }
    fn create_agent(&self, agent: &NewAgent, sets: &[SetId]) -> Result<()> {
        Kernel::create_agent(self, agent, sets)
    }
    fn assign(&self, aid: AgentId, sets: &[SetId]) -> Result<Remains> {
        Kernel::assign(self, aid, sets)
    }
    fn pins(&self, aid: AgentId) -> Result<bool> {
        Kernel::pins(self, aid)
    }
    fn set_parent(&self, aid: AgentId, parent: AgentId) -> Result<()> {
        Kernel::set_parent(self, aid, parent)
    }
    fn set_state(&self, aid: AgentId, state: AgentState) -> Result<()> {
        Kernel::set_state(self, aid, state)
    }
    fn prepare(&self, aid: AgentId, launch: Launch) -> Result<Box<dyn Ready>> {
        Ok(Box::new(Kernel::prepare(self, aid, launch)?))
    }
    fn make_room(&self, aid: AgentId, pids_max: Option<u64>) -> Result<()> {
        Kernel::make_room(self, aid, pids_max)
    }
    fn freeze(&self, aid: AgentId) -> Result<()> {
        Kernel::freeze(self, aid)
    }
    fn interrupt(&self, aid: AgentId) -> Result<()> {
        Kernel::interrupt(self, aid)
    }
    fn cut(&self, aid: AgentId, spared: &[PathBuf]) -> Result<usize> {
        Kernel::cut(self, aid, spared)
    }
    fn snapshot(&self, aid: AgentId) -> Result<Vec<Snapshot>> {
        Kernel::snapshot(self, aid)
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
    fn live_mappings(&self, aid: AgentId) -> Result<Vec<Mapping>> {
        Kernel::live_mappings(self, aid)
    }
    fn populated(&self, aid: AgentId) -> Result<bool> {
        Kernel::populated(self, aid)
    }
    fn remove_agent(&self, aid: AgentId) -> Result<()> {
        Kernel::remove_agent(self, aid)
    }
    fn counters(&self, aid: AgentId) -> Result<Counters> {
        Kernel::counters(self, aid)
    }
    fn footing(&self, aid: AgentId) -> Result<Footing> {
        Kernel::footing(self, aid)
    }
    fn adopt_agent(&self, standing: &Standing, sets: &[SetId]) -> Result<Found> {
        Kernel::adopt_agent(self, standing, sets)
    }
    fn adoption_done(&self) -> Result<Vec<AgentId>> {
        Kernel::adoption_done(self)
    }
    fn exit_of(&self, aid: AgentId) -> Result<Option<Exited>> {
        Kernel::exit_of(self, aid)
    }
    fn peer_of_tcp(&self, client: SocketAddr, server: SocketAddr) -> Result<Option<AgentId>> {
        Kernel::peer_of_tcp(self, client, server)
    }
    fn agent_of_pidfd(&self, fd: BorrowedFd<'_>) -> Result<Option<AgentId>> {
        Kernel::agent_of_pidfd(self, fd)
    }
    fn read_events_now(&self) {
        Kernel::read_events_now(self);
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

/// A rule with what its name led to.
pub type Resolved = resolve::targets::Resolved<Handle>;
/// What a rule stands on.
pub type Target = resolve::targets::Target<Handle>;

/// Where names are looked up: each once, and never under a lock.
pub trait Lookup: Send + Sync + 'static {
    /// Rules of one tenant, in their order.
    fn rules<'a>(
        &'a self,
        tenant: &'a str,
        rules: &'a [(manifest::Rule, Absent)],
    ) -> BoxFuture<'a, std::result::Result<Vec<Resolved>, RuleError>>;
    /// A program: opened, held and hashed.
    fn program<'a>(
        &'a self,
        path: &'a AbsPath,
    ) -> BoxFuture<'a, std::result::Result<Program, ProgramError>>;
}

/// Look-ups on this machine.
pub struct Machine {
    resolver: Resolver<Files>,
    programs: Arc<Programs>,
}

impl Machine {
    /// Within a tokio runtime.
    ///
    /// # Errors
    /// When the signal that tells of broken leases cannot be handled.
    pub fn start(kernel: Arc<dyn KernelPort>) -> std::io::Result<Machine> {
        let names = resolve::names::Names::new(resolve::names::Settings::default());
        let resolver = Resolver::new(Arc::new(Files(kernel)), names);
        let programs = Programs::start(Arc::new(KernelLeases), resolve::programs::REMEMBERED)?;
        Ok(Machine { resolver, programs })
    }
}

impl Lookup for Machine {
    fn rules<'a>(
        &'a self,
        tenant: &'a str,
        rules: &'a [(manifest::Rule, Absent)],
    ) -> BoxFuture<'a, std::result::Result<Vec<Resolved>, RuleError>> {
        Box::pin(self.resolver.rules(tenant, rules))
    }

    fn program<'a>(
        &'a self,
        path: &'a AbsPath,
    ) -> BoxFuture<'a, std::result::Result<Program, ProgramError>> {
        Box::pin(async {
            let (programs, name) = (self.programs.clone(), path.clone());
            let opening = tokio::task::spawn_blocking(move || programs.open(&name));
            opening.await.unwrap_or_else(|error| {
                let source = std::io::Error::other(error);
                Err(ProgramError::Io { action: "open", path: path.clone(), source })
            })
        })
    }
}

/// Handles are the kernel's.
struct Files(Arc<dyn KernelPort>);

impl Handles for Files {
    type Handle = Handle;
    type Error = kernel::Error;

    fn handle(&self, fd: OwnedFd) -> Result<Handle> {
        self.0.handle(fd)
    }
}

struct KernelLeases;

impl Leases for KernelLeases {
    fn take(&self, file: BorrowedFd<'_>) -> std::io::Result<()> {
        kernel::lease::take(file)
    }
    fn give_back(&self, file: BorrowedFd<'_>) -> std::io::Result<()> {
        kernel::lease::give_back(file)
    }
    fn is_held(&self, file: BorrowedFd<'_>) -> std::io::Result<bool> {
        kernel::lease::is_held(file)
    }
    fn verity_digest(&self, file: BorrowedFd<'_>) -> std::io::Result<Option<Vec<u8>>> {
        kernel::lease::verity_digest(file)
    }
}
