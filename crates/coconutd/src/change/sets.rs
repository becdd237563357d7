//! From planned sets to the kernel: made first, then assigned, then booked.

use crate::port::Target;
use crate::rights::KernelSet;
use crate::sink::Due;
use crate::state::{Daemon, Info, Inner};
use abi::AgentId;
use kernel::{Remains, SetId};
use std::sync::Arc;
use supervisor::{Change, HeldSet};

/// Ids of sets whose events may still be on their way.
const REMEMBERED: usize = 48;

/// A planned change whose sets the kernel has.
pub struct Made {
    /// Whose, and what it will hold.
    pub change: Change,
    sets: Vec<Arc<KernelSet>>,
    ids: Vec<SetId>,
}

impl Made {
    /// Who.
    pub fn aid(&self) -> AgentId {
        self.change.aid
    }
}

/// Writes the sets of a change that the kernel lacks; nobody holds them yet. `added` is what the
/// last rule of a grant stands on.
///
/// # Errors
/// When the kernel refuses; then nothing has changed.
pub fn make(daemon: &Daemon, change: Change, added: Option<&Target>) -> kernel::Result<Made> {
    let sets = kernel_sets(daemon, &change.sets, added)?;
    let ids = ids(&sets)?;
    Ok(Made { change, sets, ids })
}

/// What the kernel is to have for these sets.
///
/// # Errors
/// When one of them was made out of a set that nobody holds any more.
pub fn kernel_sets(
    daemon: &Daemon,
    held: &[HeldSet],
    added: Option<&Target>,
) -> kernel::Result<Vec<Arc<KernelSet>>> {
    let lost = || kernel::Error::Invalid("a set of rules has lost what it stands on".to_owned());
    let find = |held: &HeldSet| {
        let added = added.filter(|_| held.granted);
        daemon.rights.of(&held.set, None).or_else(|| daemon.rights.of(&held.set, added))
    };
    held.iter().map(|held| find(held).ok_or_else(lost)).collect()
}

/// Their ids; the kernel gets those that it lacks.
///
/// # Errors
/// When it refuses.
pub fn ids(sets: &[Arc<KernelSet>]) -> kernel::Result<Vec<SetId>> {
    sets.iter().map(|set| set.id()).collect()
}

/// Has the kernel decide by the new sets from now on; what the agent may still have of what it lost.
///
/// # Errors
/// When it refuses; then it decides by the old ones.
pub fn assign(daemon: &Daemon, made: &Made) -> kernel::Result<Remains> {
    daemon.kernel.assign(made.aid(), &made.ids)
}

/// Has the kernel decide by the sets that the daemon's books still name.
pub fn assign_back(daemon: &Daemon, aid: AgentId) -> kernel::Result<()> {
    let sets = daemon.inner().info.get(&aid).map(|info| info.sets.clone()).unwrap_or_default();
    daemon.kernel.assign(aid, &ids(&sets)?).map(drop)
}

/// Books changes that the kernel has, together with the records that are owed of them. What nobody holds any more is
/// dropped on return.
pub fn book(daemon: &Daemon, made: Vec<Made>, now_ns: u64, owe: impl FnOnce(&Inner) -> Due) -> Due {
    let mut dropped = Vec::with_capacity(made.len());
    let mut inner = daemon.inner();
    let changes: Vec<Change> = made.iter().map(|made| made.change.clone()).collect();
    inner.supervisor.commit(&changes, now_ns);
    for Made { change, sets, ids } in made {
        let Some(info) = inner.info.get_mut(&change.aid) else { continue };
        remember(info, &change.sets, &sets, &ids);
        dropped.push(std::mem::replace(&mut info.sets, sets));
    }
    let due = owe(&inner);
    // The kernel is told of what is dropped; the books are closed by then.
    drop(inner);
    drop(dropped);
    due
}

/// Keeps the numbers of an agent's rules for its events.
pub fn remember(info: &mut Info, held: &[HeldSet], sets: &[Arc<KernelSet>], ids: &[SetId]) {
    for ((held, set), id) in held.iter().zip(sets).zip(ids) {
        if info.numbers.iter().any(|(known, ..)| known == id) {
            continue;
        }
        if info.numbers.len() == REMEMBERED {
            info.numbers.pop_front();
        }
        info.numbers.push_back((*id, held.first, set.positions().clone()));
    }
}
