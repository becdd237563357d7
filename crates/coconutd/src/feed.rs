//! One feed of changes: whoever wants to know what changed is told here, and nobody has to look again.
//!
//! The feed is part of what lies behind the daemon's lock, so a listener's place in it and what it is shown at its
//! start are of one moment. Changes are numbered one by one. To tell them never waits: what listeners have not taken
//! yet is kept up to a bound, and one that is further behind is told so and begins anew.

mod ring;

pub use self::ring::{Listener, Ring, TooSlow};

use abi::{AgentId, AgentState};
use api::Exit;
use api::broker::LaneEvent;
use api::feed::Delta;
use std::collections::HashMap;
use tokio::sync::watch;
use uuid::Uuid;

/// Deltas that a listener may be behind: twice as many as there may be agents, because one change of a tenant's
/// weight is a delta for the lane of each.
const BEHIND: usize = 32_768;
/// Bytes of them.
const BYTES: usize = 16 << 20;

/// What somebody is told, and who may know it.
#[derive(Debug)]
pub struct Change {
    /// What has changed.
    pub delta: Delta,
    /// Who may know.
    pub about: About,
}

/// Whose a change is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum About {
    /// An agent's.
    Agent {
        /// Which.
        aid: AgentId,
        /// Its id outside.
        uuid: Uuid,
        /// The user that asked for it.
        owner: u32,
        /// Who is above it now, the nearest first.
        above: Vec<AgentId>,
    },
    /// A tenant's.
    Tenant,
}

/// What changes of an agent and is told; counters are not, because any use of a file moves them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Row {
    /// Its state.
    pub state: AgentState,
    /// Its first process.
    pub pid: Option<u32>,
    /// Who is above it.
    pub parent: Option<AgentId>,
    /// Its weight.
    pub weight: u32,
    /// When it ended.
    pub ended_ns: Option<u64>,
    /// It is known how it ended.
    pub ended: bool,
}

/// What was told of an agent last.
#[derive(Clone, Copy, Debug)]
pub struct Told {
    /// Its id outside.
    pub uuid: Uuid,
    /// The user that asked for it.
    pub owner: u32,
    /// How it is.
    pub row: Row,
}

/// How an agent ended, for one who waits for it; closed where that will never be known.
pub type Ended = watch::Receiver<Option<Exit>>;

/// Every change, for all who are told.
#[derive(Debug)]
pub struct Feed {
    /// Agents and tenants.
    pub changes: Ring<Change>,
    /// Lanes, for brokers. Apart from the rest: an agent that goes from one state to the other all the time cuts no
    /// broker off.
    pub lanes: Ring<LaneEvent>,
    told: HashMap<AgentId, Told>,
    /// Those who wait for the end of an agent; only of agents for which somebody does.
    ends: HashMap<AgentId, watch::Sender<Option<Exit>>>,
}

impl Default for Feed {
    fn default() -> Self {
        Feed {
            changes: Ring::new(BEHIND, BYTES),
            lanes: Ring::new(BEHIND, BYTES),
            told: HashMap::new(),
            ends: HashMap::new(),
        }
    }
}

impl Feed {
    /// What was told of an agent last.
    pub fn told(&self, aid: AgentId) -> Option<&Told> {
        self.told.get(&aid)
    }

    /// Remembers what is told of an agent now; what was before.
    pub fn tell(&mut self, aid: AgentId, now: Told) -> Option<Told> {
        self.told.insert(aid, now)
    }

    /// Nobody knows the agent any more: who waits for its end waits for nothing.
    pub fn forget(&mut self, aid: AgentId) -> Option<Told> {
        self.ends.remove(&aid);
        self.told.remove(&aid)
    }

    /// One who waits for the end of an agent that has not ended.
    pub fn await_end(&mut self, aid: AgentId) -> Ended {
        self.ends.entry(aid).or_insert_with(|| watch::Sender::new(None)).subscribe()
    }

    /// Tells those who wait for an agent's end how it ended.
    pub fn end(&mut self, aid: AgentId, exit: &Exit) {
        if let Some(waiting) = self.ends.remove(&aid) {
            waiting.send_replace(Some(exit.clone()));
        }
    }
}
