//! How many children an agent may have, and how many processes that is.

use manifest::Scope;
use supervisor::Held;

/// How many children a rule allows.
pub(super) fn spawn_count(held: Held<'_>) -> Option<u32> {
    match held.rule.rule.scope {
        Scope::Spawn { count } => Some(count),
        _ => None,
    }
}

/// Processes of an agent and all below it: its limit holds for its children too, so it grows with them.
pub(super) fn processes(own: u64, children: Option<u32>) -> u64 {
    const EACH_CHILD: u64 = 64;
    own + EACH_CHILD * u64::from(children.unwrap_or(0))
}
