//! What people type: a whole UUID, the end of one, or a name.

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
    #[error("`{text}` could be {} agents{}", .candidates.len(), if .candidates.len() == SHOWN { " or more" } else { "" })]
    Ambiguous {
        /// What was typed.
        text: String,
        /// Whom it could mean, at most ten.
        candidates: Vec<Candidate>,
    },
}

/// Of those that a text could mean, so many are named.
const SHOWN: usize = 10;

impl Supervisor {
    /// Finds the agent that `text` means. Living agents go before ended ones, names before
    /// suffixes.
    pub fn resolve(&self, text: &str) -> Result<AgentId, ResolveError> {
        if let Some(agent) = text.parse().ok().and_then(|uuid| self.by_uuid(uuid)) {
            return Ok(agent.aid);
        }
        let suffix = text.replace('-', "").to_ascii_lowercase();
        let is_suffix = suffix.len() >= SUFFIX_MIN && suffix.bytes().all(|b| b.is_ascii_hexdigit());
        for half in [&self.living, &self.ended] {
            let mut found: Vec<AgentId> = half.named(text).take(SHOWN + 1).collect();
            if found.is_empty() && is_suffix {
                found = half.ending(&suffix).take(SHOWN + 1).collect();
            }
            match found.as_slice() {
                [] => {}
                [one] => return Ok(*one),
                several => return Err(self.ambiguous(text, several)),
            }
        }
        Err(ResolveError::NotFound(text.to_owned()))
    }

    fn ambiguous(&self, text: &str, several: &[AgentId]) -> ResolveError {
        let agents = several.iter().take(SHOWN).filter_map(|aid| self.agents.get(aid));
        let candidates = agents.map(|agent| Candidate {
            uuid: agent.uuid,
            name: agent.name.clone(),
            state: agent.state(),
        });
        ResolveError::Ambiguous { text: text.to_owned(), candidates: candidates.collect() }
    }
}
