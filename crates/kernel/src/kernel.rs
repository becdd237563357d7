//! The interface alone: what loads the programs is not linked here.
#![allow(missing_docs, clippy::needless_pass_by_value)]

use crate::*;
use abi::event::Event;
use abi::{AgentId, AgentState};
use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

pub struct Kernel;
pub struct EventReader;

fn not_linked<T>() -> Result<T> {
    Err(Error::Invalid("not linked here".to_owned()))
}

impl EventReader {
    pub fn poll(&mut self, _: Duration, _: &mut dyn FnMut(&Event)) -> Result<usize> {
        not_linked()
    }
    pub fn lost(&self) -> Result<u64> {
        not_linked()
    }
}

impl Kernel {
    pub fn probe() -> Features {
        Features::probe()
    }
    pub fn load(_: &LoadOptions) -> Result<Kernel> {
        not_linked()
    }
    pub fn weaker(&self) -> &[String] {
        &[]
    }
    pub fn seal(&self) -> Result<()> {
        not_linked()
    }
    pub fn unload(&self) -> Result<()> {
        not_linked()
    }
    pub fn handle(&self, _fd: OwnedFd) -> Result<Handle> {
        not_linked()
    }
    pub fn make_set(&self, _rules: &[Rule]) -> Result<SetId> {
        not_linked()
    }
    pub fn follow(
        &self,
        _set: SetId,
        _rule: u32,
        _old: Option<&Handle>,
        _new: Option<&Handle>,
    ) -> Result<()> {
        not_linked()
    }
    pub fn drop_set(&self, _set: SetId) -> Result<()> {
        not_linked()
    }
    pub fn create_agent(&self, _new: &NewAgent, _sets: &[SetId]) -> Result<()> {
        not_linked()
    }
    pub fn assign(&self, _aid: AgentId, _sets: &[SetId]) -> Result<()> {
        not_linked()
    }
    pub fn set_state(&self, _aid: AgentId, _state: AgentState) -> Result<()> {
        not_linked()
    }
    pub fn launch(&self, _aid: AgentId, _launch: Launch) -> Result<Process> {
        not_linked()
    }
    pub fn freeze(&self, _aid: AgentId) -> Result<()> {
        not_linked()
    }
    pub fn thaw(&self, _aid: AgentId) -> Result<()> {
        not_linked()
    }
    pub fn kill(&self, _aid: AgentId) -> Result<()> {
        not_linked()
    }
    pub fn set_weight(&self, _aid: AgentId, _weight: u32) -> Result<()> {
        not_linked()
    }
    pub fn set_tenant_weight(&self, _tenant: &str, _weight: u32) -> Result<()> {
        not_linked()
    }
    pub fn live_mappings(&self, _aid: AgentId) -> Result<Vec<Mapping>> {
        not_linked()
    }
    pub fn populated(&self, _aid: AgentId) -> Result<bool> {
        not_linked()
    }
    pub fn remove_agent(&self, _aid: AgentId) -> Result<()> {
        not_linked()
    }
    pub fn counters(&self, _aid: AgentId) -> Result<Counters> {
        not_linked()
    }
    pub fn peer_of_tcp(&self, _client: SocketAddr, _server: SocketAddr) -> Result<Option<AgentId>> {
        not_linked()
    }
    pub fn agent_of_pidfd(&self, _fd: BorrowedFd<'_>) -> Result<Option<AgentId>> {
        not_linked()
    }
    pub fn events(&self) -> Result<EventReader> {
        not_linked()
    }
}
