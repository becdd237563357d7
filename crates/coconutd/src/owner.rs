//! One at a time decides what state the kernel has of an agent, and whether it is frozen.

use crate::port::KernelPort;
use abi::{AgentId, AgentState};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError, TryLockError};

/// Where an agent's state is known, and the kernel that is told of it.
pub trait States {
    /// Its state at this moment; none if it has been forgotten.
    fn state_of(&self, aid: AgentId) -> Option<AgentState>;

    /// What is told.
    fn kernel(&self) -> &dyn KernelPort;
}

/// What the kernel was last told. Whoever has it tells the kernel what is known at that
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
    pub fn tell(&self, states: &impl States, aid: AgentId) -> kernel::Result<()> {
        self.again.store(true, Ordering::SeqCst);
        while self.again.load(Ordering::SeqCst) {
            let mut told = match self.told.try_lock() {
                Ok(told) => told,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => return Ok(()),
            };
            self.again.store(false, Ordering::SeqCst);
            told.tell(states, aid)?;
        }
        Ok(())
    }

    /// The same, but waits for whoever is at it: afterwards the kernel has been told.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn tell_now(&self, states: &impl States, aid: AgentId) -> kernel::Result<()> {
        let done = self.told.lock().unwrap_or_else(PoisonError::into_inner).tell(states, aid);
        done.and_then(|()| self.rest(states, aid))
    }

    /// Looks at an agent while it is frozen; afterwards it runs if it is to run then.
    ///
    /// # Errors
    /// When it cannot be frozen.
    pub fn while_frozen<T>(
        &self,
        states: &impl States,
        aid: AgentId,
        look: impl FnOnce() -> T,
    ) -> kernel::Result<T> {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if !told.frozen {
            states.kernel().freeze(aid)?;
            told.frozen = true;
        }
        let seen = look();
        let thawed = told.tell(states, aid);
        drop(told);
        thawed.and_then(|()| self.rest(states, aid))?;
        Ok(seen)
    }

    /// Has its waiting calls begin anew; one that is frozen has them decided when it runs again.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn interrupt(&self, states: &impl States, aid: AgentId) -> kernel::Result<()> {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let done = if told.frozen { Ok(()) } else { states.kernel().interrupt(aid) };
        drop(told);
        done.and_then(|()| self.rest(states, aid))
    }

    /// What came meanwhile.
    fn rest(&self, states: &impl States, aid: AgentId) -> kernel::Result<()> {
        if self.again.load(Ordering::SeqCst) { self.tell(states, aid) } else { Ok(()) }
    }
}

impl Told {
    fn tell(&mut self, states: &impl States, aid: AgentId) -> kernel::Result<()> {
        let Some(state) = states.state_of(aid) else { return Ok(()) };
        let freeze = state == AgentState::Quarantined;
        if self.state != Some(state) {
            states.kernel().set_state(aid, state)?;
            self.state = Some(state);
        }
        if freeze != self.frozen && !state.is_terminal() {
            if freeze {
                states.kernel().freeze(aid)?
            } else {
                states.kernel().thaw(aid)?
            }
            self.frozen = freeze;
        }
        Ok(())
    }
}
