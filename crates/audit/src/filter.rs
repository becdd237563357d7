//! Which records somebody wants to see.

use abi::{Capability, Kind, Verdict};
use record::RecordView;
use uuid::Uuid;

/// All conditions must hold; an empty filter lets everything through.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// One of these agents; empty is any.
    pub agents: Vec<Uuid>,
    /// This tenant.
    pub tenant: Option<String>,
    /// One of these kinds; empty is any.
    pub kinds: Vec<Kind>,
    /// This capability.
    pub capability: Option<Capability>,
    /// This verdict.
    pub verdict: Option<Verdict>,
    /// Not before, in nanoseconds since the UNIX epoch.
    pub since_ns: Option<u64>,
    /// Before, in nanoseconds since the UNIX epoch.
    pub until_ns: Option<u64>,
    /// A part of the object.
    pub object: Option<String>,
    /// Not before this record.
    pub from_seq: Option<u64>,
}

impl Filter {
    /// True if the record is wanted.
    pub fn matches(&self, record: &RecordView<'_>) -> bool {
        let any_of =
            |codes: &[Kind]| codes.is_empty() || codes.iter().any(|k| *k as u32 == record.kind);
        (self.agents.is_empty() || self.agents.contains(&record.agent))
            && self.tenant.as_deref().is_none_or(|tenant| tenant == record.tenant)
            && any_of(&self.kinds)
            && self.capability.is_none_or(|c| c as u32 == record.capability)
            && self.verdict.is_none_or(|v| v as u32 == record.verdict)
            && self.since_ns.is_none_or(|since| record.time_ns >= since)
            && self.until_ns.is_none_or(|until| record.time_ns < until)
            && self.object.as_deref().is_none_or(|part| record.object.contains(part))
            && self.from_seq.is_none_or(|seq| record.seq >= seq)
    }
}
