//! Every order in which grants, revocations, spawns, ends, quarantines, releases and deaths of the daemon can meet, in a
//! small world: the books are the real ones, and what the daemon does between two steps is cut open, so that another
//! change comes in between, or the daemon is killed there and the next one goes on from what was written down.
#![allow(clippy::unwrap_used)] // helpers are test code outside of test functions

mod operations;
mod properties;
mod restart;
mod rights;
mod steps;
mod world;

use abi::AgentId;
use coconut_supervisor::{Event, SetKeys, Supervisor};
use operations::{Action, Bounds, actions};
use restart::{LIMITS, Written};
use stateright::{Checker, DiscoveryClassification, Model, Property};
use std::collections::BTreeMap;
use std::sync::Arc;
use world::{Books, Daemon, InKernel, Past, Process, State, World};

struct Exploration {
    bounds: Bounds,
    keys: Arc<SetKeys>,
}

impl Exploration {
    /// Agents in a row, each made by the one before, that run and hold these rules.
    fn row(&self, rows: &[(Option<usize>, usize, bool)]) -> State {
        let s = Supervisor::new(LIMITS, self.keys.clone());
        let (info, tasks, ends) = (BTreeMap::new(), Vec::new(), BTreeMap::new());
        let daemon = Daemon { books: Books::of(s), info, tasks, ends, locked: false, dirty: false };
        let budget = self.bounds.operations;
        let (kernel, past) = (BTreeMap::new(), Past::default());
        let written = Arc::new(Written::default());
        let mut world = World {
            daemon: Some(daemon),
            kernel,
            written,
            past,
            budget,
            deaths: self.bounds.deaths,
            born: 0,
        };
        let mut made: Vec<AgentId> = Vec::new();
        for (parent, rule, reparents) in rows {
            let set = rights::set(&self.keys, &[*rule]);
            let parent = parent.map(|at| made[at]);
            let aid = world.admit(parent, set, *reparents).unwrap();
            for event in [Event::Attest, Event::Activate] {
                world.book(|s| s.event(aid, event)).unwrap().unwrap();
            }
            world.daemon_mut().info.get_mut(&aid).unwrap().footing = true;
            let parent = parent.unwrap_or(AgentId::NOBODY);
            let may = world.may(aid);
            world
                .kernel
                .insert(aid, InKernel { may, parent, stands: false, process: Process::Runs });
            made.push(aid);
        }
        world.save();
        State::of(world)
    }
}

impl Model for Exploration {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![
            self.row(&[(None, 0, false), (Some(0), 0, false), (Some(1), 2, false)]),
            self.row(&[(None, 0, false), (Some(0), 0, true), (Some(1), 2, false)]),
            self.row(&[(None, 0, true), (Some(0), 2, false), (Some(0), 0, false)]),
        ]
    }

    fn actions(&self, state: &State, all: &mut Vec<Action>) {
        actions(&state.world, &self.bounds, all);
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        last.world.after(action, &self.keys).map(State::of)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::all()
    }
}

/// So many states it found last: fewer mean that less is explored than was.
fn explored(bounds: Bounds, at_least: usize) {
    let model = Exploration { bounds, keys: Arc::default() };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let checker = model.checker().threads(threads).spawn_dfs().join();
    println!("{bounds:?}: {} states, {} ways", checker.unique_state_count(), checker.state_count());
    let is_broken = |name: &&str| {
        let class = checker.discovery_classification(name);
        matches!(class, DiscoveryClassification::Counterexample)
    };
    let broken: Vec<&str> = checker.discoveries().into_keys().filter(is_broken).collect();
    println!("broken: {broken:?}");
    checker.assert_properties();
    assert!(checker.is_done() && checker.unique_state_count() >= at_least);
}

#[test]
fn no_order_of_two_changes_and_a_restart_breaks_a_promise() {
    explored(Bounds { operations: 2, tasks: 2, deaths: 1, agents: 4 }, 300_000);
}

#[test]
fn nor_does_one_of_three_changes_and_what_their_ends_bring_with_them() {
    explored(Bounds { operations: 3, tasks: 1, deaths: 0, agents: 4 }, 950_000);
}

/// `COCONUT_EXPLORATION=operations,tasks,deaths` goes further, for minutes or hours.
#[test]
fn nor_does_a_larger_world_where_it_is_asked_for() {
    let Ok(wanted) = std::env::var("COCONUT_EXPLORATION") else { return };
    let numbers: Vec<u8> = wanted.split(',').map(|number| number.parse().unwrap()).collect();
    let [operations, tasks, deaths] = numbers[..] else { panic!("three numbers: {wanted}") };
    explored(Bounds { operations, tasks: tasks.into(), deaths, agents: 4 }, 1);
}
