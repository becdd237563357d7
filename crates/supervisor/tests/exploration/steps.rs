//! What the daemon does one after another for each change, in the order of `crates/coconutd/src/change` and `reap.rs`.
//! Between any two steps another task may come, and the daemon may be killed.

use crate::rights::{self, Files};
use crate::world::{Process, World, hash_change};
use abi::{AgentId, AgentState};
use coconut_supervisor::{Change, End, Event};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// What is at work in the daemon.
#[derive(Clone, Debug)]
pub enum Task {
    /// A grant or a revocation: told from the leaves up, booked, written.
    Rights {
        changes: Arc<Vec<Change>>,
        told: usize,
        booked: bool,
        taken: Option<(Arc<[AgentId]>, Files)>,
    },
    /// A quarantine or a release: decided in the books, told from the top down, written.
    Stand { event: Event, reached: Arc<[AgentId]>, told: usize, doomed: Arc<[AgentId]> },
    /// An agent is made and started.
    Start { aid: AgentId, at: Start },
    /// An agent is ended, with what its tree says goes with it.
    End { reparented: Arc<[(AgentId, Option<AgentId>)]>, doomed: Arc<[AgentId]>, at: u8 },
}

/// How far a start has come.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Start {
    Admitted,
    InKernel,
    Attested,
    Recorded,
    Made,
    Runs,
    Active,
    /// It cannot go on; nothing of it is to be left.
    Failed,
    Ended,
}

impl Hash for Task {
    fn hash<H: Hasher>(&self, state: &mut H) {
        std::mem::discriminant(self).hash(state);
        match self {
            Task::Rights { changes, told, booked, taken } => {
                changes.iter().for_each(|change| hash_change(change, state));
                (told, booked, taken).hash(state);
            }
            Task::Stand { event, reached, told, doomed } => {
                (event, reached, told, doomed).hash(state)
            }
            Task::Start { aid, at } => (aid, at).hash(state),
            Task::End { reparented, doomed, at } => (reparented, doomed, at).hash(state),
        }
    }
}

impl World {
    /// One step of a task.
    pub fn step(&mut self, index: usize) {
        let mut task = self.daemon().tasks[index].clone();
        let goes_on = match &mut task {
            Task::Rights { changes, told, booked, taken } => {
                self.rights(&changes.clone(), told, booked, taken.as_ref())
            }
            Task::Stand { event, reached, told, doomed } => {
                self.stand(*event, reached, told, doomed)
            }
            Task::Start { aid, at } => self.start(*aid, at),
            Task::End { reparented, doomed, at } => self.end(reparented, doomed, at),
        };
        let tasks = &mut self.daemon_mut().tasks;
        if goes_on {
            tasks[index] = task;
        } else {
            tasks.remove(index);
        }
    }

    /// True if the kernel has the agent, and was told.
    fn assign(&mut self, aid: AgentId, may: Files) -> bool {
        self.kernel.get_mut(&aid).map(|known| known.may = may).is_some()
    }

    fn unlock(&mut self) -> bool {
        self.daemon_mut().locked = false;
        false
    }

    fn rights(
        &mut self,
        changes: &[Change],
        told: &mut usize,
        booked: &mut bool,
        taken: Option<&(Arc<[AgentId]>, Files)>,
    ) -> bool {
        if *told < changes.len() {
            let change = &changes[changes.len() - 1 - *told];
            *told += 1;
            if self.assign(change.aid, rights::files(&change.sets)) {
                return true;
            }
            if taken.is_some() {
                self.end_at_once(change.aid);
                return true;
            }
            // A grant is taken back from those who were told.
            for back in changes.iter().rev().take(*told - 1) {
                let may = self.may(back.aid);
                self.assign(back.aid, may);
            }
            return self.unlock();
        }
        if !*booked {
            *booked = true;
            self.book(|s| s.commit(changes, 0));
            for aid in taken.into_iter().flat_map(|(below, _)| below.iter()) {
                *self.past.booked.entry(*aid).or_default() |= taken.map_or(0, |(_, files)| *files);
            }
            return true;
        }
        self.save();
        self.unlock()
    }

    fn stand(
        &mut self,
        event: Event,
        reached: &[AgentId],
        told: &mut usize,
        doomed: &[AgentId],
    ) -> bool {
        if let Some(aid) = reached.get(*told) {
            *told += 1;
            self.tell(*aid);
            return true;
        }
        if *told == reached.len() && !doomed.is_empty() {
            *told += 1;
            doomed.iter().for_each(|aid| self.end_at_once(*aid));
            return true;
        }
        let _ = event;
        self.save();
        self.unlock()
    }

    /// The kernel is told an agent's state as it is now.
    fn tell(&mut self, aid: AgentId) {
        let stands =
            self.books().get(aid).is_ok_and(|agent| agent.state() == AgentState::Quarantined);
        if let Some(known) = self.kernel.get_mut(&aid) {
            known.stands = stands;
        }
    }

    fn start(&mut self, aid: AgentId, at: &mut Start) -> bool {
        let ending = self.daemon().info.get(&aid).is_none_or(|info| info.ending);
        let process = self.kernel.get(&aid).map_or(Process::None, |known| known.process);
        *at = match *at {
            Start::Admitted => {
                self.make(aid);
                Start::InKernel
            }
            Start::InKernel => {
                self.book(|s| s.event(aid, Event::Attest)).unwrap().unwrap();
                Start::Attested
            }
            Start::Attested => {
                self.save();
                self.unlock();
                Start::Recorded
            }
            Start::Recorded => {
                if let Some(known) = self.kernel.get_mut(&aid) {
                    known.process = Process::Made;
                }
                Start::Made
            }
            Start::Made if ending || process == Process::None => Start::Failed,
            Start::Made => {
                if let Some(known) = self.kernel.get_mut(&aid) {
                    known.process = Process::Runs;
                }
                let info = self.daemon_mut().info.get_mut(&aid);
                info.into_iter().for_each(|info| info.footing = true);
                self.book(|s| s.touch(aid));
                Start::Runs
            }
            Start::Runs => {
                let _ = self.book(|s| s.event(aid, Event::Activate));
                Start::Active
            }
            Start::Active => {
                if ending {
                    self.kill_in_kernel(aid);
                }
                self.tell(aid);
                self.save();
                return false;
            }
            Start::Failed => {
                let _ = self.book(|s| s.event(aid, Event::Terminate(End::Failed)));
                Start::Ended
            }
            Start::Ended => {
                self.save();
                self.kernel.remove(&aid);
                self.book(|s| s.withdraw(aid)).unwrap();
                self.daemon_mut().info.remove(&aid);
                self.save();
                return false;
            }
        };
        true
    }

    fn make(&mut self, aid: AgentId) {
        let parent = self.books().get(aid).unwrap().parent.unwrap_or(AgentId::NOBODY);
        let may = self.may(aid);
        let known = crate::world::InKernel { may, parent, stands: false, process: Process::None };
        self.kernel.insert(aid, known);
    }

    fn end(
        &mut self,
        reparented: &[(AgentId, Option<AgentId>)],
        doomed: &[AgentId],
        at: &mut u8,
    ) -> bool {
        match *at {
            0 => self.tell_parents(reparented),
            1 => self.save(),
            _ => doomed.iter().for_each(|aid| self.kill_in_kernel(*aid)),
        }
        *at += 1;
        *at < 3
    }

    fn tell_parents(&mut self, reparented: &[(AgentId, Option<AgentId>)]) {
        for (child, heir) in reparented {
            if let Some(known) = self.kernel.get_mut(child) {
                known.parent = heir.unwrap_or(AgentId::NOBODY);
            }
        }
    }

    /// What ending an agent does to the books: who else goes, and who gets another parent.
    pub fn decide_end(&mut self, aid: AgentId) -> Option<Task> {
        let plan = self.books().plan_end(aid).ok()?;
        self.book(|s| s.reparent(&plan)).unwrap();
        let doomed: Vec<AgentId> = plan.end.into_iter().filter(|aid| self.lives(*aid)).collect();
        doomed.iter().for_each(|aid| self.note_ending(*aid));
        Some(Task::End { reparented: plan.reparented.into(), doomed: doomed.into(), at: 0 })
    }

    /// Somebody ends it.
    pub fn note_ending(&mut self, aid: AgentId) {
        self.daemon_mut().info.entry(aid).or_default().ending = true;
        self.book(|s| s.touch(aid));
    }

    /// The same, with all that follows.
    fn end_at_once(&mut self, aid: AgentId) {
        let Some(Task::End { reparented, doomed, .. }) = self.decide_end(aid) else { return };
        self.tell_parents(&reparented);
        self.save();
        doomed.iter().for_each(|aid| self.kill_in_kernel(*aid));
    }

    /// What the end of an agent of which nothing runs brings with it, one step after another.
    pub fn reap(&mut self, aid: AgentId) {
        let at = self.daemon().ends.get(&aid).copied().unwrap_or(0);
        match at {
            0 => {
                let Ok(plan) = self.books().plan_end(aid) else { return };
                self.book(|s| s.reparent(&plan)).unwrap();
                self.tell_parents(&plan.reparented);
                let children = plan.end.into_iter().filter(|child| *child != aid);
                children.for_each(|child| self.end_at_once(child));
            }
            1 => {
                let _ = self.book(|s| s.event(aid, Event::Terminate(End::Clean)));
                self.book(|s| s.touch(aid));
                self.save();
            }
            _ => {
                self.kernel.remove(&aid);
                let forgotten = self.book(|s| s.release_slot(aid)).unwrap();
                if let Some(forgotten) = forgotten {
                    self.daemon_mut().info.remove(&forgotten);
                }
                self.save();
                self.daemon_mut().ends.remove(&aid);
                return;
            }
        }
        self.daemon_mut().ends.insert(aid, at + 1);
    }
}
