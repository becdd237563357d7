//! The daemon as its callers meet it, in front of a kernel that can be told to refuse. One program: each further one
//! would be compiled and linked with all of it again.
#![allow(clippy::unwrap_used)] // a test may fall over where it stands

mod fake;

mod adoption;
mod api;
mod feed;
mod hoard;
mod killed;
mod log;
mod manifests;
mod meetings;
mod openapi;
mod oversteps;
mod rights;
mod transactions;
mod trees;
mod unwritten;
