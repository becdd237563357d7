//! One event as its producer tells it.

use crate::body::Body;
use abi::{AgentId, Capability, Kind, Verdict};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Most bytes of an object, and of a body's texts, that the log keeps. Both fit into a leaf, whose length
/// is written in two bytes (c2sp.org/tlog-tiles).
pub const TEXT_MAX: usize = 16 << 10;
/// Most bytes of a tenant's name that the log keeps; a manifest's is shorter.
pub const TENANT_MAX: usize = 256;

/// What the log keeps of a text: whole characters, at most so many bytes.
pub fn fitted(text: &str, most: usize) -> &str {
    let end = (0..=most.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
    &text[..end.unwrap_or(0)]
}

/// One event as its producer tells it. The log adds sequence number and chain hash.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Nanoseconds since the UNIX epoch.
    pub time_ns: u64,
    /// The agent in the hot path; [`AgentId::NOBODY`] for the daemon's own records.
    pub aid: u64,
    /// The agent outside; nil for the daemon's own records.
    pub agent: Uuid,
    /// The agent's parent; nil for none.
    pub parent: Uuid,
    /// The tenant that pays.
    pub tenant: String,
    /// What happened.
    pub kind: Kind,
    /// Which capability it is about.
    pub capability: Capability,
    /// What was decided.
    pub verdict: Verdict,
    /// Path, address, model, state…
    pub object: String,
    /// Everything else.
    pub body: Body,
    /// Bytes of these texts that were too many for the log and are left out.
    #[serde(default)]
    pub cut: u32,
    /// How many times it happened: more than once where somebody did the same as fast as he could.
    #[serde(default = "once", skip_serializing_if = "is_once")]
    pub count: u32,
    /// Position in the kernel's ring behind the event that this record ends; 0 for a record of no event. A
    /// daemon that takes over goes on behind the newest.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub ring: u64,
}

/// Keeps so many bytes at most; how many more there were.
fn shorten(text: &mut String, most: usize) -> u32 {
    let kept = fitted(text, most).len();
    let over = text.len() - kept;
    text.truncate(kept);
    u32::try_from(over).unwrap_or(u32::MAX)
}

fn once() -> u32 {
    1
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde asks for a reference
fn is_once(value: &u32) -> bool {
    *value == 1
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde asks for a reference
fn is_zero(value: &u64) -> bool {
    *value == 0
}

impl Entry {
    /// Whether the log can keep all of it.
    pub fn fits(&self) -> bool {
        let texts = self.object.len().max(self.body.texts_len());
        texts <= TEXT_MAX && self.tenant.len() <= TENANT_MAX
    }

    /// Leaves out what is too much for the log, and notes how much that was.
    pub fn fit(&mut self) {
        let mut cut = shorten(&mut self.tenant, TENANT_MAX);
        cut = cut.saturating_add(shorten(&mut self.object, TEXT_MAX));
        let mut left = TEXT_MAX;
        for text in self.body.texts() {
            cut = cut.saturating_add(shorten(text, left));
            left -= text.len();
        }
        self.cut = self.cut.saturating_add(cut);
    }

    /// The agent's hot-path id.
    pub const fn agent_id(&self) -> AgentId {
        AgentId(self.aid)
    }
}
