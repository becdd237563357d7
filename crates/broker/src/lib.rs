//! Identity, lane, admission, backend: the OpenAI-compatible inference broker.
//!
//! A call flows through the modules in this order: [`entrance`] lets it in, [`server`] knows where it goes,
//! [`identity`] who sends it, [`openai`] what it asks for, [`admission`] when its turn is (by the pure queue in
//! [`fair`]), [`backend`] computes, `respond` or `upstream` carries the answer back, `session` leaves a record;
//! `call` is the whole way.

pub mod admission;
mod aside;
pub mod backend;
mod call;
pub mod callers;
mod counted;
mod daemon;
pub mod entrance;
pub mod fair;
pub mod identity;
pub mod metrics;
pub mod openai;
pub mod reserve;
mod respond;
pub mod server;
mod session;
mod upstream;
pub mod usage;
