//! Identity, lane, admission, backend: the OpenAI-compatible inference broker.
//!
//! A call flows through the modules in this order: [`entrance`] lets it in, `server` knows where it goes,
//! [`identity`] who sends it, [`openai`] what it asks for, [`accounts`] open its account, [`route`] finds the
//! backend that answers, [`admission`] says when its turn is there (by the pure queue in [`fair`]), the
//! backend computes ([`ports::Backend`]; [`remote`] is any server), `respond` carries the answer back, and the
//! account is settled; `call` is the whole way. Nothing here knows an engine.

pub mod accounts;
pub mod admission;
pub mod broker;
mod call;
pub mod callers;
mod daemon;
pub mod entrance;
pub mod fair;
pub mod identity;
pub mod metrics;
pub mod openai;
pub mod remote;
pub mod reserve;
mod respond;
pub mod route;
mod server;
