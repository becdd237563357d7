//! The only crate that touches libbpf, cgroupfs, namespaces and unsafe.
//!
//! [`Kernel::load`] attaches the LSM programs of `bpf/`, [`Kernel::seal`] closes the door behind
//! it. An agent is a cgroup with a value in its local storage; what it may do is a set of
//! [`Rule`]s that [`Kernel::apply`] turns into map entries; [`Kernel::launch`] brings a program
//! into it; [`Kernel::events`] tells what was decided.

mod error;
mod features;
mod kernel;
pub mod lease;
mod types;

pub use error::{Error, Result, SpawnStep};
pub use features::{Features, Lockdown};
pub use kernel::{EventReader, Kernel};
pub use types::{
    Counters, Handle, Launch, LoadOptions, Mapping, NewAgent, Node, Process, Rule, SETS_MAX, Scope,
    SetId,
};
