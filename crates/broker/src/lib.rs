//! Identity, lane, admission, backend: the OpenAI-compatible inference broker.
//!
//! A call flows through the modules in this order: [`entrance`] lets it in, [`server`] takes its bytes,
//! [`identity`] says who sends it, [`openai`] what it asks for, [`admission`] when its turn is (by the pure queue in
//! [`fair`]), [`backend`] computes, [`respond`] carries the answer back, [`session`] leaves a record.

pub mod admission;
pub mod backend;
pub mod callers;
mod daemon;
pub mod entrance;
pub mod fair;
pub mod identity;
pub mod metrics;
mod notify;
pub mod openai;
pub mod reserve;
mod respond;
pub mod server;
mod session;
mod sse;
pub mod usage;

pub use notify::ready as notify_ready;
