//! Files that stay open while there is no daemon: those that rules stand on, whose inode numbers would be
//! another's else, and the reading ends of agents' output.

use sd_notify::NotifyState;
use std::os::fd::{BorrowedFd, OwnedFd};

/// Keeps descriptors under names.
pub trait Keeper: Send + Sync + 'static {
    /// Keeps a copy, until it is forgotten.
    fn keep(&self, name: &str, file: BorrowedFd<'_>);
    /// Closes the copy.
    fn forget(&self, name: &str);
    /// What an earlier daemon had kept; each once.
    fn kept(&self) -> Vec<(String, OwnedFd)>;
}

/// The file descriptor store of the service manager (`sd_notify(3)`, `FDSTORE=1`).
pub struct Systemd;

impl Keeper for Systemd {
    fn keep(&self, name: &str, file: BorrowedFd<'_>) {
        // Without FDPOLL=0 a pipe whose writer has ended is closed, and what it holds is lost.
        let state =
            [NotifyState::FdStore, NotifyState::FdName(name), NotifyState::Custom("FDPOLL=0")];
        if let Err(error) = sd_notify::notify_with_fds(&state, &[file]) {
            tracing::warn!(name, %error, "a file is not kept for the next daemon");
        }
    }

    fn forget(&self, name: &str) {
        let state = [NotifyState::FdStoreRemove, NotifyState::FdName(name)];
        if let Err(error) = sd_notify::notify(&state) {
            tracing::warn!(name, %error, "a file is kept for the next daemon that needs not be");
        }
    }

    fn kept(&self) -> Vec<(String, OwnedFd)> {
        match sd_notify::listen_fds_with_names() {
            Ok(all) => all.map(|(fd, name)| (name, kernel::passed(fd))).collect(),
            Err(error) => {
                tracing::error!(%error, "what was kept for this daemon is lost");
                Vec::new()
            }
        }
    }
}
