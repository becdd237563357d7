//! The root daemon: wiring only; the audit log's only writer.
//!
//! [`boot`] starts and stops it. [`state`] is what it knows, [`port`] what it needs of the
//! kernel, [`sink`] the way into the log. A request passes [`identity`] (who calls), [`routes`],
//! [`access`] (may he), then [`spawn`], [`change`] or [`control`]. The kernel's decisions come in
//! through [`events`], the end of agents through [`reap`].

pub mod access;
pub mod audit_log;
pub mod boot;
pub mod callers;
pub mod change;
pub mod clock;
pub mod config;
pub mod control;
pub mod digest;
pub mod error;
pub mod events;
pub mod features;
pub mod identity;
pub mod lanes;
pub mod members;
pub mod names;
pub mod paths;
pub mod pins;
pub mod port;
pub mod reap;
pub mod routes;
pub mod rules;
pub mod sink;
pub mod source;
pub mod spawn;
pub mod state;
pub mod stdio;
pub mod translate;
pub mod trust;
pub mod users;
pub mod view;
