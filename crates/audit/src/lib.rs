//! Append, checkpoint, prove, verify, query: the tamper-evident log.
//!
//! On disk it is a C2SP tile log (c2sp.org/tlog-tiles) with signed checkpoints
//! (c2sp.org/tlog-checkpoint), so that others' verifiers can check it. A leaf is a batch of
//! records; a record holds the hash of the same agent's previous one. There is one [`Writer`];
//! [`Reader`] and [`verify`] need neither it nor the daemon.

mod aside;
mod chain;
pub mod checkpoint;
mod edge;
mod error;
mod filter;
pub mod hash;
mod journal;
pub mod keys;
pub mod layout;
mod load;
mod minimum;
mod note;
mod proof;
mod query;
mod reader;
mod recent;
mod report;
mod retain;
mod scan;
mod state;
mod store;
mod strays;
mod suspects;
mod tiles;
pub mod tree;
mod verify;
mod writer;

pub use aside::ASIDE_FOLDER;
pub use checkpoint::{Checkpoint, CheckpointError};
pub use error::Error;
pub use filter::Filter;
pub use note::{NoteError, NoteSigner, VerifierKey};
pub use proof::{Proof, ProofError};
pub use query::{Page, Scan};
pub use reader::{Cursor, Place, Reader, Walk};
pub use record::{MalformedRecord, NO_PREV, Record, RecordView, records};
pub use report::{Report, Violation, ViolationKind};
pub use retain::{Pruned, Retention};
pub use verify::{VerifyOptions, verify};
pub use writer::{Recovery, SetAside, Writer, WriterOptions};
