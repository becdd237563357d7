//! The broker as its callers meet it, with engines, servers and a daemon. One program: each further one would be compiled
//! and linked with all of it again.
#![allow(clippy::unwrap_used)] // a test may fall over where it stands

mod common;

mod accounts;
mod connections;
mod daemon;
mod embedded;
mod remote;
mod routes;
mod tls;
