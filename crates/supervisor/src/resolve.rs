//! What people type: a whole UUID, the end of one, or a name.

use crate::agent::Agent;
use crate::registry::Supervisor;
use abi::{AgentId, AgentState};
use uuid::Uuid;

/// Fewest hex digits of a suffix.
const SUFFIX_MIN: usize = 4;

/// One of several agents that a text could mean.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Candidate {
    /// Its id outside.
    pub uuid: Uuid,
    /// Its name.
    pub name: String,
    /// Where it is in its life.
    pub state: AgentState,
}

/// Why a text names no agent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// Nobody has that id or name.
    #[error("there is no agent `{0}`")]
    NotFound(String),
    /// Several could be meant.
    #[error("`{text}` could be {} agents", .candidates.len())]
    Ambiguous {
        /// What was typed.
        text: String,
        /// Whom it could mean, at most ten.
        candidates: Vec<Candidate>,
    },
}

impl Supervisor {
    /// Finds the agent that `text` means. Living agents go before ended ones, names before
    /// suffixes.
    pub fn resolve(&self, text: &str) -> Result<AgentId, ResolveError> {
        if let Some(agent) = text.parse().ok().and_then(|uuid| self.by_uuid(uuid)) {
            return Ok(agent.aid);
        }
        let suffix = text.replace('-', "").to_ascii_lowercase();
        let is_suffix = suffix.len() >= SUFFIX_MIN && suffix.bytes().all(|b| b.is_ascii_hexdigit());
        let by_name = |agent: &Agent| agent.name == text;
        let by_suffix =
            |agent: &Agent| is_suffix && agent.uuid.simple().to_string().ends_with(&suffix);
        let living = |agent: &Agent| !agent.state().is_terminal();
        let rounds: [&dyn Fn(&Agent) -> bool; 4] = [
            &|agent| living(agent) && by_name(agent),
            &|agent| living(agent) && by_suffix(agent),
            &by_name,
            &by_suffix,
        ];
        for matches in rounds {
            let found: Vec<&Agent> =
                self.all().into_iter().filter(|agent| matches(agent)).collect();
            match found.as_slice() {
                [] => {}
                [one] => return Ok(one.aid),
                several => return Err(ambiguous(text, several)),
            }
        }
        Err(ResolveError::NotFound(text.to_owned()))
    }
}

fn ambiguous(text: &str, several: &[&Agent]) -> ResolveError {
    let candidates = several.iter().take(10).map(|agent| Candidate {
        uuid: agent.uuid,
        name: agent.name.clone(),
        state: agent.state(),
    });
    ResolveError::Ambiguous { text: text.to_owned(), candidates: candidates.collect() }
}
