//! One at a time decides what state the kernel has of an agent, and whether it is frozen.

use crate::state::Daemon;
use abi::{AgentId, AgentState};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError, TryLockError};

/// What the kernel was last told. Whoever has it tells the kernel what the supervisor says at that
/// moment, never what it said when somebody decided to tell: a late state cannot undo a newer one.
#[derive(Debug, Default)]
pub struct Owner {
    told: Mutex<Told>,
    /// Somebody came while it was in use: whoever has it looks again.
    again: AtomicBool,
}

#[derive(Debug, Default)]
struct Told {
    state: Option<AgentState>,
    frozen: bool,
}

impl Owner {
    /// Tells the kernel the agent's state as it is now, frozen if it is quarantined. Does not wait:
    /// whoever is at it does it once more.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn tell(&self, daemon: &Daemon, aid: AgentId) -> kernel::Result<()> {
        self.again.store(true, Ordering::SeqCst);
        while self.again.load(Ordering::SeqCst) {
            let mut told = match self.told.try_lock() {
                Ok(told) => told,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => return Ok(()),
            };
            self.again.store(false, Ordering::SeqCst);
            told.tell(daemon, aid)?;
        }
        Ok(())
    }

    /// The same, but waits for whoever is at it: afterwards the kernel has been told.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn tell_now(&self, daemon: &Daemon, aid: AgentId) -> kernel::Result<()> {
        let done = self.told.lock().unwrap_or_else(PoisonError::into_inner).tell(daemon, aid);
        done.and_then(|()| self.rest(daemon, aid))
    }

    /// Looks at an agent while it is frozen; afterwards it runs if it is to run then.
    ///
    /// # Errors
    /// When it cannot be frozen.
    pub fn while_frozen<T>(
        &self,
        daemon: &Daemon,
        aid: AgentId,
        look: impl FnOnce() -> T,
    ) -> kernel::Result<T> {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if !told.frozen {
            daemon.kernel.freeze(aid)?;
            told.frozen = true;
        }
        let seen = look();
        let thawed = told.tell(daemon, aid);
        drop(told);
        thawed.and_then(|()| self.rest(daemon, aid))?;
        Ok(seen)
    }

    /// What came meanwhile.
    fn rest(&self, daemon: &Daemon, aid: AgentId) -> kernel::Result<()> {
        if self.again.load(Ordering::SeqCst) { self.tell(daemon, aid) } else { Ok(()) }
    }
}

impl Told {
    fn tell(&mut self, daemon: &Daemon, aid: AgentId) -> kernel::Result<()> {
        let state = daemon.inner().supervisor.get(aid).map(supervisor::Agent::state);
        let Ok(state) = state else { return Ok(()) };
        let freeze = state == AgentState::Quarantined;
        if self.state != Some(state) {
            daemon.kernel.set_state(aid, state)?;
            self.state = Some(state);
        }
        if freeze != self.frozen && !state.is_terminal() {
            if freeze {
                daemon.kernel.freeze(aid)?
            } else {
                daemon.kernel.thaw(aid)?
            }
            self.frozen = freeze;
        }
        Ok(())
    }
}
