//! What operators and agents may ask for, and what happens by itself: every way on from a state.

use crate::rights::{self, GIVEN, TAKEN};
use crate::steps::{Start, Task};
use crate::world::{Info, Process, World};
use abi::{AgentId, AgentState};
use coconut_supervisor::{Admission, Event, SetKeys};
use manifest::{Children, Memory};
use std::sync::Arc;
use uuid::Uuid;

/// What a new agent asks for, and whether it leaves its children to its parent.
const WANTED: [(&[usize], bool); 2] = [(&[0], true), (&[2], false)];

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    Spawn {
        parent: AgentId,
        wanted: usize,
    },
    Grant {
        aid: AgentId,
        rule: usize,
    },
    Revoke {
        aid: AgentId,
        taken: usize,
    },
    Stand {
        aid: AgentId,
        event: Event,
    },
    Kill(AgentId),
    /// It ends by itself.
    Exit(AgentId),
    /// A task goes on.
    Step(usize),
    /// What the end of an agent brings with it.
    Reap(AgentId),
    /// The daemon writes down what nobody waits for.
    Save,
    Die,
    TakeUp,
}

/// How much may happen.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Operations in all.
    pub operations: u8,
    /// Tasks in the daemon at once.
    pub tasks: usize,
    pub deaths: u8,
    /// Agents that are there at once.
    pub agents: usize,
}

pub fn actions(world: &World, bounds: &Bounds, all: &mut Vec<Action>) {
    let runs =
        world.kernel.iter().filter(|(_, known)| known.process == Process::Runs && !known.stands);
    let runs: Vec<AgentId> = runs.map(|(aid, _)| *aid).collect();
    let begins = world.budget > 0;
    if begins {
        all.extend(runs.iter().map(|aid| Action::Exit(*aid)));
    }
    let Some(daemon) = &world.daemon else {
        all.push(Action::TakeUp);
        return;
    };
    all.extend((0..daemon.tasks.len()).map(Action::Step));
    all.extend(
        daemon.info.keys().filter(|aid| is_to_reap(world, **aid)).map(|aid| Action::Reap(*aid)),
    );
    // What is written down makes a difference to the next daemon only.
    if world.deaths > 0 {
        all.push(Action::Die);
        all.extend(daemon.dirty.then_some(Action::Save));
    }
    if begins && daemon.tasks.len() < bounds.tasks {
        operations(world, &runs, bounds, all);
    }
}

fn operations(world: &World, runs: &[AgentId], bounds: &Bounds, all: &mut Vec<Action>) {
    let free = !world.daemon().locked;
    let living: Vec<AgentId> = world.books().living().map(|agent| agent.aid).collect();
    all.extend(living.iter().map(|aid| Action::Kill(*aid)));
    if !free {
        return;
    }
    for aid in living.iter().copied() {
        all.extend((0..GIVEN.len()).map(|rule| Action::Grant { aid, rule }));
        all.extend((0..TAKEN.len()).map(|taken| Action::Revoke { aid, taken }));
        all.extend([Event::Quarantine, Event::Release].map(|event| Action::Stand { aid, event }));
    }
    if world.books().all_since(None).count() < bounds.agents {
        for parent in runs.iter().copied() {
            all.extend((0..WANTED.len()).map(|wanted| Action::Spawn { parent, wanted }));
        }
    }
}

/// Nothing of it runs, nobody is starting it, and its end is not through.
fn is_to_reap(world: &World, aid: AgentId) -> bool {
    let daemon = world.daemon();
    let starts = daemon
        .tasks
        .iter()
        .any(|task| matches!(task, Task::Start { aid: other, .. } if *other == aid));
    let runs = world.kernel.get(&aid).is_some_and(|known| known.process != Process::None);
    daemon.ends.contains_key(&aid) || (world.lives(aid) && !starts && !runs)
}

impl World {
    /// What comes of an action; none if it is refused.
    pub fn after(&self, action: Action, keys: &Arc<SetKeys>) -> Option<World> {
        let mut next = self.clone();
        match action {
            Action::Step(index) => next.step(index),
            Action::Reap(aid) => next.reap(aid),
            Action::Save => next.save(),
            Action::Die => next.die(),
            Action::TakeUp => next.take_up(keys),
            asked => {
                next.budget -= 1;
                let task = next.begin(asked, keys)?;
                next.daemon.iter_mut().for_each(|daemon| daemon.tasks.extend(task.clone()));
            }
        }
        Some(next)
    }

    /// Begins an operation; none (outer) if it is refused.
    fn begin(&mut self, action: Action, keys: &SetKeys) -> Option<Option<Task>> {
        match action {
            Action::Exit(aid) => {
                self.kill_in_kernel(aid);
                return Some(None);
            }
            Action::Kill(aid) => return self.decide_end(aid).map(Some),
            _ => self.daemon_mut().locked = true,
        }
        match action {
            Action::Spawn { parent, wanted } => {
                let (rules, reparents) = WANTED[wanted];
                let set = rights::set(keys, rules);
                let aid = self.admit(Some(parent), set, reparents)?;
                Some(Some(Task::Start { aid, at: Start::Admitted }))
            }
            Action::Grant { aid, rule } => {
                let plan = self.books().plan_grant(aid, rights::rule(rule), 0).ok()?;
                if let Some(gone) = self.past.gone.get_mut(&aid) {
                    *gone &= !GIVEN[rule].files;
                }
                Some(Some(Task::Rights {
                    changes: plan.changes.into(),
                    told: 0,
                    booked: false,
                    taken: None,
                }))
            }
            Action::Revoke { aid, taken } => {
                let rule = format!("fs.read={}", TAKEN[taken].0).parse().unwrap();
                let plan = self.books().plan_revoke(aid, &rule, 0).ok()?;
                let lost = rights::lost(self.books().get(aid).ok()?.sets(), taken);
                let below = [vec![aid], self.books().descendants(aid)].concat();
                let taken = Some((below.into(), lost));
                Some(Some(Task::Rights {
                    changes: plan.changes.into(),
                    told: 0,
                    booked: false,
                    taken,
                }))
            }
            Action::Stand { aid, event } => self.decide_stand(aid, event).map(Some),
            _ => None,
        }
    }

    /// Admits an agent, as far as the books go.
    pub fn admit(
        &mut self,
        parent: Option<AgentId>,
        set: Arc<coconut_supervisor::RuleSet>,
        reparents: bool,
    ) -> Option<AgentId> {
        self.born += 1;
        let admission = Admission {
            uuid: Uuid::from_u128(u128::from(self.born)),
            parent,
            name: "n".into(),
            tenant: "maya".into(),
            children: if reparents { Children::Reparent } else { Children::End },
            weight: 100,
            memory: Memory::default(),
            denial_limit: None,
            sets: vec![set],
        };
        let aid = self.book(|s| s.admit(admission, 0)).ok()?;
        if parent.is_some_and(|parent| self.past.freed.contains(&parent)) {
            self.past.freed.insert(aid);
        }
        self.daemon_mut().info.insert(aid, Info::default());
        Some(aid)
    }

    /// A quarantine reaches all below that are not in one; a release, whom it had reached.
    fn decide_stand(&mut self, aid: AgentId, event: Event) -> Option<Task> {
        self.book(|s| s.event(aid, event)).ok()?.ok()?;
        let (mut reached, mut doomed) = (vec![aid], Vec::new());
        self.daemon_mut().info.entry(aid).or_default().held_with = None;
        for below in self.books().descendants(aid) {
            let state = self.books().get(below).unwrap().state();
            let held = self.daemon().info.get(&below).and_then(|info| info.held_with);
            let reaches = match event {
                Event::Quarantine => !state.is_terminal() && state != AgentState::Quarantined,
                _ => state == AgentState::Quarantined && held == Some(aid),
            };
            if !reaches {
                continue;
            }
            if self.book(|s| s.event(below, event)).unwrap().is_err() {
                // What is only being started cannot be stopped, and must not start.
                self.note_ending(below);
                doomed.push(below);
                continue;
            }
            let with = (event == Event::Quarantine).then_some(aid);
            self.daemon_mut().info.entry(below).or_default().held_with = with;
            reached.push(below);
        }
        for aid in &reached {
            match event {
                Event::Quarantine => self.past.freed.remove(aid),
                _ => self.past.freed.insert(*aid),
            };
        }
        let (reached, doomed) = (reached.into(), doomed.into());
        Some(Task::Stand { event, reached, told: 0, doomed })
    }
}
