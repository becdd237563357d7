//! What tests ask the daemon for.

use super::Running;
use abi::AgentId;
use abi::event::{EVENT_DENIAL, Event, Hook};
use api::agent::SpawnSource;
use api::{AgentDetail, SpawnRequest};
use zerocopy::FromZeros;

/// A sleeping agent of a tenant, with these rights in the command line's form.
pub fn ad_hoc(name: &str, capabilities: &[&str]) -> SpawnRequest {
    SpawnRequest {
        source: SpawnSource::AdHoc {
            tenant: "maya".into(),
            name: Some(name.into()),
            capabilities: capabilities.iter().map(|c| (*c).to_owned()).collect(),
            weight: None,
        },
        args: vec!["/usr/bin/sleep".into(), "600".into()],
        cwd: None,
        env: Vec::new(),
        allow_unsigned: false,
        stdio: None,
    }
}

impl Running {
    /// Spawns one as whoever is asking.
    pub fn spawned(&self, name: &str, capabilities: &[&str]) -> AgentId {
        let detail: AgentDetail =
            self.client().post("/v1/agents", &ad_hoc(name, capabilities)).unwrap();
        self.daemon.inner().supervisor.by_uuid(detail.agent.aid).unwrap().aid
    }
}

/// The kernel refuses to open a file for reading.
pub fn denial(aid: AgentId, sequence: u64) -> Event {
    let mut event = Event::new_zeroed();
    event.aid = aid.0;
    event.kind = EVENT_DENIAL;
    event.hook = Hook::FileOpen as u32;
    event.verdict = -13;
    event.wanted = abi::caps::RIGHT_READ;
    event.sequence = sequence;
    event.object[..5].copy_from_slice(b"/no/f");
    event.object_len = 5;
    event
}
