//! What must hold in every state, and what must be reached in some.

use crate::Exploration;
use crate::steps::Task;
use crate::world::{Process, State, World};
use abi::{AgentId, AgentState};
use stateright::Property;

type Condition = fn(&Exploration, &State) -> bool;

fn always(name: &'static str, condition: Condition) -> Property<Exploration> {
    Property::always(name, condition)
}

fn sometimes(name: &'static str, condition: Condition) -> Property<Exploration> {
    Property::sometimes(name, condition)
}

/// What must hold in every state, and what must be reached in some: else nothing of interest happens here.
pub fn all() -> Vec<Property<Exploration>> {
    let gives = "the kernel gives no child what its parent lacks";
    vec![
        always(gives, |_, s| !s.world.kernel_amplifies()),
        always("nor do the books", |_, s| books_are_sound(&s.world)),
        always("what was revoked stays revoked below", |_, s| revoked_stays(&s.world)),
        always("below a quarantined agent all are", |_, s| quarantine_reaches_all(&s.world)),
        always("whom the books stop the kernel stops", |_, s| kernel_stops(&s.world)),
        always("what has ended holds nothing", |_, s| ended_holds_nothing(&s.world)),
        always("kernel and books agree at rest", |_, s| agree(&s.world)),
        always("who runs can be stopped", |_, s| can_be_stopped(&s.world)),
        always("whose parent is gone has another", |_, s| has_parent(&s.world)),
        always("no step was found wrong", |_, s| s.world.past.wrong.is_none()),
        sometimes("a daemon dies in half of a revocation", |model, s| {
            model.bounds.deaths == 0 || (s.world.past.halved && s.world.daemon.is_some())
        }),
        sometimes("a revocation holds over a restart", |model, s| {
            model.bounds.deaths == 0 || (s.world.past.followed && s.world.past.gone.len() > 1)
        }),
        sometimes("an agent is ended while it starts", |_, s| is_ended_early(&s.world)),
        sometimes("an orphan stands still", |_, s| orphan_stands(&s.world)),
    ]
}

fn is_ended_early(world: &World) -> bool {
    let Some(daemon) = &world.daemon else { return false };
    let early = |task: &Task| matches!(task, Task::Start { aid, .. } if daemon.info[aid].ending);
    daemon.tasks.iter().any(early)
}

fn orphan_stands(world: &World) -> bool {
    let Some(daemon) = &world.daemon else { return false };
    let parent =
        |aid: &AgentId| daemon.books.supervisor.get(*aid).ok().and_then(|agent| agent.parent);
    daemon.info.iter().any(|(aid, info)| {
        let above = parent(aid);
        let stops = |above| {
            daemon.books.supervisor.get(above).is_ok_and(|a| a.state() == AgentState::Quarantined)
        };
        info.held_with.is_some() && world.lives(*aid) && !above.is_some_and(stops)
    })
}

fn books_are_sound(world: &World) -> bool {
    let Some(daemon) = &world.daemon else { return true };
    // One of which nothing runs any more, and whose end is only not booked, may lie below another by then.
    let over = |aid: AgentId| {
        let known = world.kernel.get(&aid).is_some_and(|known| known.process != Process::None);
        daemon.info.get(&aid).is_some_and(|info| info.ending) && !known
    };
    daemon.books.supervisor.living().filter(|agent| !over(agent.aid)).all(|agent| {
        let parent = agent.parent.filter(|parent| world.lives(*parent));
        parent.is_none_or(|parent| world.may(agent.aid) & !world.may(parent) == 0)
    })
}

/// Nobody who is not being ended is left below an agent that is gone.
fn has_parent(world: &World) -> bool {
    let Some(daemon) = &world.daemon else { return true };
    let runs = world.kernel.iter().filter(|(_, known)| known.process == Process::Runs);
    let mut parents = runs.filter_map(|(aid, _)| daemon.books.supervisor.get(*aid).ok()?.parent);
    parents.all(|parent| world.kernel.contains_key(&parent))
}

fn revoked_stays(world: &World) -> bool {
    world.past.gone.iter().all(|(aid, files)| {
        let known = world.kernel.get(aid).filter(|known| known.process == Process::Runs);
        known.is_none_or(|known| known.may & files == 0)
    })
}

fn quarantine_reaches_all(world: &World) -> bool {
    let Some(daemon) = &world.daemon else { return true };
    let s = &daemon.books.supervisor;
    let stopped = s.living().filter(|agent| agent.state() == AgentState::Quarantined);
    let below = stopped.flat_map(|agent| s.descendants(agent.aid));
    let runs =
        |aid: &AgentId| world.kernel.get(aid).is_some_and(|known| known.process == Process::Runs);
    below.filter(runs).all(|below| {
        let ending = daemon.info.get(&below).is_none_or(|info| info.ending);
        let freed = world.past.freed.contains(&below);
        s.get(below).is_ok_and(|agent| agent.state() == AgentState::Quarantined) || ending || freed
    })
}

fn is_told(world: &World) -> bool {
    let at_work = |task: &Task| matches!(task, Task::Stand { .. } | Task::Start { .. });
    world.daemon.as_ref().is_some_and(|daemon| !daemon.tasks.iter().any(at_work))
}

fn kernel_stops(world: &World) -> bool {
    !is_told(world)
        || world.books().living().all(|agent| {
            let known = world.kernel.get(&agent.aid).filter(|known| known.process == Process::Runs);
            known.is_none_or(|known| known.stands == (agent.state() == AgentState::Quarantined))
        })
}

/// Who has ended runs no more; whose slot is free, or who is not known, is not in the kernel.
fn ended_holds_nothing(world: &World) -> bool {
    let Some(daemon) = &world.daemon else { return true };
    world.kernel.iter().all(|(aid, known)| match daemon.books.supervisor.saved(*aid) {
        Some(agent) => !agent.released && (world.lives(*aid) || known.process != Process::Runs),
        None => false,
    })
}

fn agree(world: &World) -> bool {
    let Some(daemon) = &world.daemon else { return true };
    !daemon.tasks.is_empty()
        || world.kernel.iter().all(|(aid, known)| {
            let agent = daemon.books.supervisor.get(*aid).ok().filter(|_| world.lives(*aid));
            agent.is_none_or(|agent| {
                let parent = agent.parent.filter(|parent| world.lives(*parent));
                let ends = daemon.info.get(aid).is_none_or(|info| info.ending)
                    || known.process == Process::None;
                known.may == world.may(*aid)
                    && (ends || known.parent == parent.unwrap_or(AgentId::NOBODY))
            })
        })
}

/// Nobody's program runs whose books do not know it as running once its start is through.
fn can_be_stopped(world: &World) -> bool {
    let Some(daemon) = &world.daemon else { return true };
    let starts = |aid: AgentId| {
        daemon
            .tasks
            .iter()
            .any(|task| matches!(task, Task::Start { aid: other, .. } if *other == aid))
    };
    world.kernel.iter().filter(|(_, known)| known.process == Process::Runs).all(|(aid, _)| {
        let state = daemon.books.supervisor.get(*aid).map(|agent| agent.state());
        starts(*aid) || !matches!(state, Ok(AgentState::Spawning | AgentState::Attested))
    })
}
