//! Agent lifecycle, delegation tree, capabilities held, denials, lanes. Pure: no I/O, no clock.
//!
//! Time comes in as an argument and what is to be done in the kernel goes out as a value
//! ([`Change`], [`EndPlan`]), so the core needs no ports and its tests need neither root nor BPF.
//! `coconutd` carries the values out and writes one audit record for each.

mod admission;
mod agent;
mod denials;
mod explain;
mod grants;
mod lanes;
mod lifecycle;
mod names;
mod narrow;
mod news;
mod overstep;
mod parts;
mod registry;
mod resolve;
mod saved;
mod sets;
mod slots;
mod tree;
mod unwritten;
mod weights;

pub use admission::{Admission, AdmitError};
pub use agent::{Above, Agent, Removal, RemovedRule};
pub use denials::{Attempt, Denials, Noted};
pub use explain::{Explanation, Reason};
pub use grants::{Change, GrantError, Granting, Revocation, RevokeError, absolute};
pub use lanes::{LaneError, LaneView};
pub use lifecycle::{End, Event, IllegalTransition, Lifecycle, Transition};
pub use narrow::Taken;
pub use news::News;
pub use parts::Part;
pub use registry::{Limits, Supervisor, UnknownAgent};
pub use resolve::{Candidate, ResolveError};
pub use saved::{
    RestoreError, SavedAgent, SavedAttempt, SavedHeld, SavedPlace, SavedRule, SavedSet,
};
pub use sets::{Counter, Held, HeldSet, Inode, Place, RuleSet, SetKey, SetKeys, SetRule};
pub use slots::Slots;
pub use tree::EndPlan;
pub use unwritten::Unwritten;
