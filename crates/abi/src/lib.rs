//! What kernel programs, daemon and log agree on.
//!
//! Rust is the source: `bpf/include/coconut_abi.h` is generated from [`agent`], [`caps`],
//! [`control`] and [`event`] and checked in; a test fails on a difference, and another compares every size and
//! offset with the BTF of the compiled kernel programs. Depends on nothing of ours.
#![cfg_attr(not(feature = "std"), no_std)]

pub mod agent;
pub mod caps;
pub mod control;
pub mod event;
#[cfg(feature = "std")]
pub mod vocabulary;

pub use agent::{AgentId, AgentState};
#[cfg(feature = "std")]
pub use vocabulary::{Capability, Code, Kind, Verdict};
