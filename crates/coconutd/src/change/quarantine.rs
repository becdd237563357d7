//! Quarantine: an agent and all below it stand still, and what they are connected to is cut off.

use super::{blocking, lock, whole};
use crate::error::{Answer, Refusal};
use crate::owner::Owner;
use crate::reap;
use crate::sink::Room;
use crate::state::{Daemon, Ending, Inner};
use abi::{AgentId, AgentState, Kind};
use record::Entry;
use std::sync::Arc;
use supervisor::{End, Event, Transition};
use uuid::Uuid;

/// Why one cannot stand still.
const STARTING: &str = "it was being started";

/// Freezes an agent and all its descendants; everything that they try is denied until its release, and who is connected
/// to them sees the end.
///
/// # Errors
/// When it cannot be frozen in its state, or the kernel refuses: then it is as it was.
pub async fn quarantine(daemon: &Arc<Daemon>, by: String, aid: AgentId) -> Answer<()> {
    change(daemon, by, aid, Event::Quarantine).await
}

/// Ends a quarantine; descendants that were reached by it go on, too.
///
/// # Errors
/// When it is not quarantined, or the kernel refuses: then it still is.
pub async fn release(daemon: &Arc<Daemon>, by: String, aid: AgentId) -> Answer<()> {
    change(daemon, by, aid, Event::Release).await
}

async fn change(daemon: &Arc<Daemon>, by: String, aid: AgentId, event: Event) -> Answer<()> {
    let daemon = daemon.clone();
    whole(&daemon.clone(), async move {
        let room = daemon.sink.room().await?;
        let records = {
            let _tree = lock(&daemon, aid).await?;
            blocking(|| Step { daemon: &daemon, by: &by, aid, event }.take(room))?
        };
        records.written().await?;
        Ok(())
    })
    .await
}

/// One step of an agent's, and of those below it.
struct Step<'a> {
    daemon: &'a Daemon,
    /// Who wants it, for the record.
    by: &'a str,
    aid: AgentId,
    event: Event,
}

/// Whom it reaches: the agent itself first, parents before their children.
struct Reached {
    /// With whose quarantine had reached it before.
    agents: Vec<(AgentId, Arc<Owner>, Option<Uuid>)>,
    /// Those that are only being started cannot be stopped, and must not start.
    doomed: Vec<AgentId>,
}

impl Step<'_> {
    fn take(&self, room: Room) -> Answer<crate::sink::Durable> {
        let (reached, due) = {
            let mut inner = self.daemon.inner();
            let (reached, entries) = self.decide(&mut inner)?;
            (reached, room.owe(entries))
        };
        let [(aid, owner, _), below @ ..] = reached.agents.as_slice() else {
            return Err(Refusal::failed("it has been forgotten"));
        };
        if let Err(error) = owner.tell_now(self.daemon, *aid) {
            self.take_back(&reached);
            reached.doomed.iter().for_each(|aid| self.end(*aid, STARTING));
            return Err(error.into());
        }
        for (aid, owner, _) in below {
            if let Err(error) = owner.tell_now(self.daemon, *aid) {
                self.end(*aid, &error.to_string());
            }
        }
        for aid in &reached.doomed {
            self.end(*aid, STARTING);
        }
        if self.event == Event::Quarantine {
            reached.agents.iter().for_each(|(aid, ..)| self.cut(*aid));
        }
        self.daemon.remember();
        Ok(room.pay(due))
    }

    /// What the books say from now on, and the records of it.
    fn decide(&self, inner: &mut Inner) -> Answer<(Reached, Vec<Entry>)> {
        let step = inner.supervisor.event(self.aid, self.event)?;
        let step = step.map_err(|illegal| Refusal::usage(illegal.to_string()))?;
        let mut entries = Vec::new();
        let mut reached = Reached { agents: Vec::new(), doomed: Vec::new() };
        self.enter(inner, self.aid, step, None, &mut reached, &mut entries);
        let by = inner.info.get(&self.aid).map(|info| info.uuid);
        for below in inner.supervisor.descendants(self.aid) {
            if !self.reaches(inner, below, by) {
                continue;
            }
            match inner.supervisor.event(below, self.event) {
                Ok(Ok(step)) => self.enter(inner, below, step, by, &mut reached, &mut entries),
                Ok(Err(_)) => {
                    // Written down with the rest: it must not start for the next daemon either.
                    if let Some(info) = inner.info.get_mut(&below) {
                        info.ending.get_or_insert_with(|| self.ending(STARTING));
                    }
                    inner.supervisor.touch(below);
                    reached.doomed.push(below);
                }
                Err(_) => {}
            }
        }
        Ok((reached, entries))
    }

    /// A quarantine reaches all that are not in one; a release, whom it had reached.
    fn reaches(&self, inner: &Inner, below: AgentId, by: Option<Uuid>) -> bool {
        let Ok(agent) = inner.supervisor.get(below) else { return false };
        let state = agent.state();
        match self.event {
            Event::Quarantine => !state.is_terminal() && state != AgentState::Quarantined,
            _ => {
                let with = inner.info.get(&below).and_then(|info| info.held_with);
                state == AgentState::Quarantined && with.is_some() && with == by
            }
        }
    }

    fn enter(
        &self,
        inner: &mut Inner,
        aid: AgentId,
        step: Option<Transition>,
        by: Option<Uuid>,
        reached: &mut Reached,
        entries: &mut Vec<Entry>,
    ) {
        entries.extend(step.map(|step| {
            let mut entry = inner.state_entry(aid, step);
            let (from, by) = (step.from.name().to_owned(), self.by.to_owned());
            entry.body = record::body::State { from, by }.into();
            entry
        }));
        if let Some(info) = inner.info.get_mut(&aid) {
            let with = by.filter(|_| self.event == Event::Quarantine);
            let before = std::mem::replace(&mut info.held_with, with);
            reached.agents.push((aid, info.kernel.clone(), before));
        }
    }

    /// As it was, for all of them.
    fn take_back(&self, reached: &Reached) {
        let back = match self.event {
            Event::Quarantine => Event::Release,
            _ => Event::Quarantine,
        };
        for (aid, owner, before) in &reached.agents {
            let mut inner = self.daemon.inner();
            let _ = inner.supervisor.event(*aid, back);
            if let Some(info) = inner.info.get_mut(aid) {
                info.held_with = *before;
            }
            drop(inner);
            if let Err(error) = owner.tell_now(self.daemon, *aid) {
                tracing::error!(?aid, %error, "cannot take a failed step back");
            }
        }
    }

    fn end(&self, aid: AgentId, why: &str) {
        let what = self.what();
        tracing::error!(?aid, what, why, "it cannot be what its ancestor was; it is ended");
        reap::end(self.daemon, aid, &self.ending(why));
    }

    fn ending(&self, why: &str) -> Ending {
        let what = self.what();
        Ending::new(End::Failed, format!("an ancestor was {what}, and it could not be: {why}"))
    }

    fn what(&self) -> &'static str {
        match self.event {
            Event::Quarantine => "quarantined",
            _ => "released",
        }
    }

    /// It stands still; a frozen one makes no new connections.
    fn cut(&self, aid: AgentId) {
        let owner = self.daemon.inner().info.get(&aid).map(|info| info.kernel.clone());
        let kernel = &self.daemon.kernel;
        let Some(owner) = owner else { return };
        // By these it holds its children, whose life is none of its connections.
        let config = &self.daemon.config;
        let spared = [config.api_socket(), config.stdio_socket()];
        match owner.while_frozen(self.daemon, aid, || kernel.cut(aid, &spared)).and_then(|cut| cut)
        {
            Ok(cut) => tracing::debug!(?aid, cut, "connections cut"),
            Err(kernel::Error::NoSuchAgent(_)) => {}
            Err(error) => {
                tracing::error!(?aid, %error, "cannot cut its connections");
                // It stands still all the same, and its end would take away what is to be looked at.
                let due = {
                    let inner = self.daemon.inner();
                    let mut entry = inner.entry(aid, Kind::Degraded);
                    entry.object = format!("quarantined, and still connected: {error}");
                    self.daemon.sink.owe(vec![entry])
                };
                self.daemon.sink.pay(due);
            }
        }
    }
}
