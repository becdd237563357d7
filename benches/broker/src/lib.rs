//! Load for OpenAI-compatible servers, and what it measures: time to first token, tokens a second,
//! Jain's index. Knows nothing of the broker but its public API, so that rivals are measured alike.

pub mod asked;
pub mod client;
pub mod crowd;
pub mod fairness;
pub mod overhead;
pub mod stats;
pub mod tenant;
