//! Request and response types and the UNIX-socket client of coconutd.
//!
//! One schema, versioned by the path prefix `/v1`. `coconut` (the command line) and the broker
//! speak it; coconutd serves it. HTTP/1.1 with JSON over a UNIX socket; the peer is known by
//! `SO_PEERCRED` and `SO_PEERPIDFD`, never by anything it sends. The OpenAPI
//! document `openapi.json` beside this crate lists every route: coconutd makes it of its handlers
//! and of these types, and a test of its own keeps it so.

pub mod agent;
pub mod audit;
pub mod broker;
#[cfg(feature = "client")]
pub mod client;
pub mod error;
pub mod feed;
pub mod lane;
pub mod status;

pub use agent::{Agent, AgentDetail, AgentList, Exit, Explanation, HeldCapability, SpawnRequest};
pub use error::{ErrorBody, ErrorCode};
pub use status::Status;

/// Version of every request and response; the path prefix is `/v1`.
pub const VERSION: u32 = 1;

/// Where coconutd takes the descriptors of a foreground agent: see [`agent::Stdio`].
pub const STDIO_SOCKET: &str = "/run/coconut/stdio.sock";

/// Folder beside the sockets in which operators find their own, by the same names.
pub const OPERATORS: &str = "operators";
