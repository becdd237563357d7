//! What tests ask the daemon for.

use super::Running;
use abi::AgentId;
use api::agent::SpawnSource;
use api::{AgentDetail, SpawnRequest};

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
