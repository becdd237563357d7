//! What is asked of coconutd, and what clients read of its answers: JSON, read as the daemon reads it.

use serde::Serialize;
use serde::de::DeserializeOwned;

type Read = fn(&[u8]);

/// One for each body; the first byte says which.
const BODIES: [Read; 12] = [
    same::<api::SpawnRequest>,
    same::<api::agent::CapabilityChange>,
    same::<api::agent::SignalRequest>,
    same::<api::lane::LaneChange>,
    same::<api::broker::SettledCalls>,
    same::<api::broker::Peer>,
    same::<api::audit::Query>,
    same::<api::AgentDetail>,
    same::<api::audit::Record>,
    same::<api::feed::FeedLine>,
    same::<api::broker::LaneEvent>,
    same::<api::ErrorBody>,
];

/// What is read is written as what was read.
pub fn request(bytes: &[u8]) {
    let Some((which, json)) = bytes.split_first() else { return };
    BODIES[usize::from(*which) % BODIES.len()](json);
}

fn same<T: DeserializeOwned + Serialize>(json: &[u8]) {
    let Ok(read) = serde_json::from_slice::<T>(json) else { return };
    let written = serde_json::to_value(&read).unwrap();
    let again: T =
        serde_json::from_value(written.clone()).unwrap_or_else(|e| panic!("{e}: {written}"));
    assert_eq!(serde_json::to_value(&again).unwrap(), written);
}
