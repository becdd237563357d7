//! The only crate that touches libbpf, cgroupfs, namespaces and unsafe.
//!
//! [`Kernel::start`] attaches the LSM programs of `bpf/`, or takes over what an earlier daemon left;
//! [`Kernel::seal`] closes the door behind it. An agent is a cgroup with a value in its local storage. What agents may do lies in sets of
//! [`KernelRule`]s that [`Kernel::make_set`] turns into map entries, each on files that a [`Handle`] keeps;
//! an agent holds a list of sets, and [`Kernel::assign`] gives it another one. [`Kernel::prepare`]
//! brings a process into it, [`Waiting::go`] its program; [`Kernel::events`] tells what was decided.

mod adopt;
mod cgroup;
mod child;
mod children;
mod commons;
mod connections;
mod counted;
mod create;
mod entries;
mod error;
mod events;
mod features;
mod files;
mod filter;
mod handle;
pub mod hooks;
mod kernel;
mod launch;
pub mod lease;
mod lock;
mod mappings;
mod maps;
mod object;
mod own;
mod ring;
mod rooms;
mod seats;
mod sets;
mod snapshot;
mod state;
mod step;
mod sys;
mod tree;
mod types;

pub use adopt::{Exited, Footing, Found, Standing};
pub use counted::Uses;
pub use error::{Error, Result, SpawnStep};
pub use events::EventReader;
pub use features::{Features, Lockdown};
pub use handle::{Handle, Node};
pub use kernel::Kernel;
pub use launch::Waiting;
pub use snapshot::Snapshot;
pub use sys::passed;
pub use types::{
    Counters, KernelRule, KernelScope, Launch, LoadOptions, Mapping, Namespaces, NewAgent, Process,
    Remains, SETS_MAX, SetId,
};
