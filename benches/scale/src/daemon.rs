//! What coconutd is asked, over the API that the command line uses.

use anyhow::{Context as _, Result, ensure};
use api::agent::{Agent, AgentDetail, CapabilityChange, CapabilityList, ChangeReport, Exit};
use api::client::{Client, query};
use serde::{Deserialize, Serialize};
use std::ops::ControlFlow;
use uuid::Uuid;

/// A connection to the daemon, for one thread.
pub struct Daemon {
    client: Client,
    /// Its process.
    pub pid: u32,
}

/// A page of agents; a daemon that answers with all at once leaves `next` out.
#[derive(Deserialize)]
struct Page {
    agents: Vec<Agent>,
    #[serde(default)]
    next: Option<String>,
}

impl Daemon {
    /// # Errors
    /// When no daemon answers.
    pub fn new() -> Result<Self> {
        let client = Client::new(api::broker::API_SOCKET.as_ref())?;
        let status: api::Status = client.get("/v1/status")?;
        Ok(Self { client, pid: status.pid })
    }

    /// Its own state.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn status(&self) -> Result<api::Status> {
        Ok(self.client.get("/v1/status")?)
    }

    /// Every live agent, page by page.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn agents(&self) -> Result<Vec<Agent>> {
        let (mut all, mut after) = (Vec::new(), None::<String>);
        loop {
            let pairs: Vec<_> = after.iter().map(|after| ("after", after.as_str())).collect();
            let page: Page = self.client.get(&query("/v1/agents", &pairs))?;
            ensure!(
                page.next.is_none() || !page.agents.is_empty(),
                "a page without agents has a next one"
            );
            all.extend(page.agents);
            after = page.next;
            if after.is_none() {
                return Ok(all);
            }
        }
    }

    /// Starts an agent.
    ///
    /// # Errors
    /// When it is refused.
    pub fn spawn<B: Serialize>(&self, request: &B) -> Result<AgentDetail> {
        Ok(self.client.post("/v1/agents", request)?)
    }

    /// How an agent stands.
    ///
    /// # Errors
    /// When it is refused.
    pub fn state(&self, aid: Uuid) -> Result<abi::AgentState> {
        let detail: AgentDetail = self.client.get(&format!("/v1/agents/{aid}"))?;
        Ok(detail.agent.state)
    }

    /// Ends an agent.
    ///
    /// # Errors
    /// When it is refused.
    pub fn kill(&self, aid: Uuid) -> Result<Exit> {
        Ok(self.client.post(&format!("/v1/agents/{aid}/kill"), &())?)
    }

    /// Takes a capability away, from the agent and all below it.
    ///
    /// # Errors
    /// When it is refused.
    pub fn revoke(&self, aid: Uuid, capability: &str) -> Result<ChangeReport> {
        let change =
            CapabilityChange { capability: capability.to_owned(), expires_ms: None, uses: None };
        Ok(self.client.post(&format!("/v1/agents/{aid}/revoke"), &change)?)
    }

    /// What an agent may do now.
    ///
    /// # Errors
    /// When it is refused.
    pub fn capabilities(&self, aid: Uuid) -> Result<CapabilityList> {
        Ok(self.client.get(&format!("/v1/agents/{aid}/capabilities"))?)
    }

    /// The lines that a background agent has written so far.
    ///
    /// # Errors
    /// When it is refused.
    pub fn lines(&self, aid: Uuid) -> Result<Vec<String>> {
        let mut bytes = Vec::new();
        self.client.bytes(&format!("/v1/agents/{aid}/logs"), |data| {
            bytes.extend_from_slice(data);
            ControlFlow::Continue(())
        })?;
        let text = String::from_utf8(bytes).context("an agent wrote what is no text")?;
        Ok(text.lines().map(str::to_owned).collect())
    }
}
