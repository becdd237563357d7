//! Who waits for a model, as the broker says: a step in the agent's life, on record like any other.

use crate::change::{blocking, whole};
use crate::error::Answer;
use crate::owner::Owner;
use crate::state::{Daemon, Inner};
use abi::{AgentId, AgentState};
use api::broker::Waiting;
use record::Entry;
use std::sync::Arc;
use supervisor::Event;

/// Whom the kernel has to be told of.
type Moved = Vec<(AgentId, Arc<Owner>)>;

impl Daemon {
    /// Moves those agents on in their lives. Their records are handed over, and not waited for.
    ///
    /// # Errors
    /// When the log has no room.
    pub async fn book_waits(self: &Arc<Self>, told: Waiting) -> Answer<()> {
        let daemon = self.clone();
        whole(self, async move {
            let room = daemon.sink.room().await?;
            blocking(|| {
                let (due, moved) = {
                    let mut inner = daemon.inner();
                    let (entries, moved) = inner.book_waits(&told);
                    (room.owe(entries), moved)
                };
                if !moved.is_empty() {
                    daemon.remember();
                }
                for (aid, owner) in moved {
                    // Told as it is by then: a quarantine that came in between stays one.
                    if let Err(error) = owner.tell(&*daemon, aid) {
                        tracing::debug!(%error, "the kernel did not take the new state");
                    }
                }
                drop(room.pay(due));
            });
            Ok(())
        })
        .await
    }

    /// No broker is there, or one that has said nothing yet: nobody waits.
    pub async fn nobody_waits(self: &Arc<Self>) {
        let told = Waiting { afresh: true, ..Waiting::default() };
        if let Err(refusal) = self.book_waits(told).await {
            tracing::warn!(?refusal, "agents are shown to wait for a model that do not");
        }
    }
}

impl Inner {
    fn book_waits(&mut self, told: &Waiting) -> (Vec<Entry>, Moved) {
        let known = |inner: &Inner, list: &[uuid::Uuid]| -> Vec<AgentId> {
            let agents = list.iter().filter_map(|agent| inner.supervisor.by_uuid(*agent));
            agents.map(|agent| agent.aid).collect()
        };
        let began = known(self, &told.began);
        let mut ended = known(self, &told.ended);
        if told.afresh {
            let waiting = self.supervisor.living();
            let waiting = waiting.filter(|agent| agent.state() == AgentState::InferenceBlocked);
            ended.extend(waiting.map(|agent| agent.aid).filter(|aid| !began.contains(aid)));
        }
        let steps = ended.into_iter().map(|aid| (aid, Event::ModelAnswered));
        let steps = steps.chain(began.into_iter().map(|aid| (aid, Event::AskModel)));
        let (mut entries, mut moved) = (Vec::new(), Vec::new());
        for (aid, event) in steps {
            let Some((_, entry)) = self.step(aid, event) else { continue };
            entries.push(entry);
            moved.extend(self.info.get(&aid).map(|info| (aid, info.kernel.clone())));
        }
        (entries, moved)
    }
}
