//! What background agents write: taken through a pipe, kept within limits, read by whoever may.
//!
//! A file handed to the agent itself could be bounded by nobody: the log's file system was full after
//! 700 MiB of one `yes`, and the node stood still.

mod pump;
mod read;
mod shelf;

pub use pump::{Output, Pump};
pub use read::Reading;
pub use shelf::{Kept, Limits, Shelf};
