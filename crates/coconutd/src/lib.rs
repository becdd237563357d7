//! The root daemon: wiring only; the audit log's only writer.
//!
//! | room | job |
//! |---|---|
//! | [`boot`], [`config`], [`features`] | starting and stopping |
//! | [`caller`], [`identity`], [`stdio`], [`handed`], [`routes`] | who calls, and what for |
//! | [`authority`] | may he: callers, keys, users |
//! | [`rights`] | what rules stand on, and which sets of them the kernel has |
//! | [`change`], [`tree`], [`owner`] | every change, as a transaction that owns its guards; the guards |
//! | [`events`], [`translate`] | the kernel's decisions, in the log's words |
//! | [`reap`] | the end of agents |
//! | [`registry`] | what the next daemon needs to know |
//! | [`output`] | what background agents write |
//! | [`sink`], [`audit_log`] | the way into the log |
//! | [`state`], [`view`], [`lanes`], [`waits`] | what is known, and how it is shown |
//! | [`feed`], [`news`] | what changes of it, for everybody who is told |
//! | [`port`] | what is needed of kernel and machine |

pub mod audit_log;
pub mod authority;
pub mod boot;
pub mod caller;
pub mod callers;
pub mod calls;
pub mod change;
pub mod clock;
pub mod config;
pub mod error;
pub mod events;
pub mod evidence;
pub mod features;
pub mod feed;
pub mod handed;
pub mod identity;
pub mod journals;
pub mod lanes;
pub mod members;
pub mod news;
pub mod output;
pub mod owner;
pub mod port;
pub mod reap;
pub mod registry;
pub mod rights;
pub mod routes;
pub mod settings;
pub mod sink;
pub mod state;
pub mod stdio;
pub mod translate;
pub mod tree;
pub mod view;
pub mod waits;

pub use authority::{access, trust};
