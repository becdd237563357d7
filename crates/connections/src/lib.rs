//! What one caller may hold of what all share, and HTTP for callers that may be hostile.
//!
//! [`pool`] counts: connections, bytes, queries. Whoever asks for more than its part is refused;
//! nobody ever loses what it holds to another. [`serve`] accepts, asks who it is, counts, and
//! only then reads.

pub mod body;
pub mod descriptors;
pub mod pool;
pub mod serve;

pub use pool::{Full, Limits, Place, Pool};
pub use serve::{Entrance, Guest, Patience, Turned, serve};
