//! What can go wrong with a log, apart from its having been changed.

use std::io;
use std::path::{Path, PathBuf};

/// A log cannot be read, written or opened.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file system refused.
    #[error("cannot {action} {}", .path.display())]
    Io {
        /// read, write, …
        action: &'static str,
        /// What.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A key or its file is unusable.
    #[error("{0}")]
    Key(String),
    /// There is no log in the directory.
    #[error("there is no log in {}: it has no `checkpoint`", .0.display())]
    NoLog(PathBuf),
    /// The checkpoint is not what it must be.
    #[error("the checkpoint is not accepted: {0}")]
    Checkpoint(String),
    /// The log is not what its checkpoint says: nothing may be added to it.
    #[error("the log is damaged: {0}")]
    Damaged(String),
    /// The records are in the journal, but no checkpoint covers them yet.
    #[error("records {} to {} wait for a checkpoint", .records.start, .records.end.saturating_sub(1))]
    NotSealed {
        /// Their sequence numbers.
        records: std::ops::Range<u64>,
        /// Why the checkpoint failed.
        source: Box<Error>,
    },
    /// There is no such record.
    #[error("there is no record {0} in the log")]
    NoRecord(u64),
    /// Another process has the log open for writing.
    #[error("{} is open for writing in another process", .0.display())]
    Locked(PathBuf),
}

impl Error {
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Error::Io { action, path: path.to_owned(), source }
    }
}
