//! Changes: each is a task of its own that owns its guards and runs to its end, whoever hangs up.
//!
//! A change of rights holds the lock of its tree of agents ([`Tree`](crate::tree::Tree)) and of no other. Under it there
//! is neither a file nor a name server, and nobody waits: names are looked up before, room in the
//! audit queue is taken before, and the records are waited for after. It is on record before it is
//! acknowledged. The registry has it together with its records, until the log has those: a daemon that is killed in
//! between leaves both to the next one, or neither.
//!
//! | step | under the tree's lock |
//! |---|---|
//! | look names up, compare with whoever answers for it | no |
//! | take room in the audit queue | no |
//! | plan (supervisor), write new sets, assign them, book (supervisor), hand records over, write the registry | yes |
//! | wait until the records are durable, answer | no |

mod children;
pub mod oversteps;
pub mod quarantine;
mod remains;
pub mod rights;
pub mod sets;
pub mod spawn;
pub mod state;
pub mod weights;

use crate::error::{Answer, Refusal};
use crate::state::Daemon;
use abi::AgentId;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use tokio::sync::OwnedMutexGuard;

/// Waits until nobody else changes the tree of an agent.
///
/// # Errors
/// When the agent is not known any more.
pub async fn lock(daemon: &Daemon, aid: AgentId) -> Answer<OwnedMutexGuard<()>> {
    let tree = daemon.inner().info.get(&aid).map(|info| info.tree.clone());
    let forgotten = || Refusal::new(api::ErrorCode::NotFound, "the agent has been forgotten");
    Ok(tree.ok_or_else(forgotten)?.lock().await)
}

/// Runs a change to its end, even if whoever asked for it is gone by then. The daemon waits for it before it ends.
///
/// # Errors
/// Those of the change; a daemon that is stopping begins none.
pub async fn whole<T: Send + 'static>(
    daemon: &Arc<Daemon>,
    change: impl Future<Output = Answer<T>> + Send + 'static,
) -> Answer<T> {
    // Whoever stops the daemon sees this change, or this change sees that it stops.
    let counted = Counted::one_more(daemon, |daemon| &daemon.changing);
    if daemon.is_stopping() {
        return Err(stopping());
    }
    let change = async move {
        let _counted = counted;
        change.await
    };
    tokio::spawn(change).await.unwrap_or_else(|error| {
        Err(Refusal::failed(format!("the daemon's own code failed: {error}")))
    })
}

fn stopping() -> Refusal {
    Refusal::new(api::ErrorCode::Unavailable, "coconutd is stopping")
}

/// One of those that are counted, while it lives.
struct Counted {
    daemon: Arc<Daemon>,
    count: fn(&Daemon) -> &AtomicU32,
}

impl Counted {
    fn one_more(daemon: &Arc<Daemon>, count: fn(&Daemon) -> &AtomicU32) -> Self {
        count(daemon).fetch_add(1, Ordering::SeqCst);
        Counted { daemon: daemon.clone(), count }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        (self.count)(&self.daemon).fetch_sub(1, Ordering::SeqCst);
    }
}

/// What waits for the kernel, without keeping others from running.
pub fn blocking<T>(act: impl FnOnce() -> T) -> T {
    tokio::task::block_in_place(act)
}
