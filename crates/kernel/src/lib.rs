//! The only crate that touches libbpf, cgroupfs, namespaces and unsafe.
//!
//! [`Kernel::load`] attaches the LSM programs of `bpf/`, [`Kernel::seal`] closes the door behind
//! it. An agent is a cgroup with a value in its local storage; what it may do is a set of
//! [`Rule`]s that [`Kernel::apply`] turns into map entries; [`Kernel::launch`] brings a program
//! into it; [`Kernel::events`] tells what was decided.

mod cgroup;
mod child;
mod error;
mod events;
mod features;
mod grants;
mod kernel;
mod launch;
pub mod lease;
mod mappings;
mod maps;
mod object;
mod resolve;
mod state;
mod sys;
mod types;

pub use error::{Error, Result, SpawnStep};
pub use events::EventReader;
pub use features::{Features, Lockdown};
pub use kernel::Kernel;
pub use types::{Counters, Launch, LoadOptions, Mapping, NewAgent, Process, Rule, Scope};
