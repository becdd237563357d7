//! Who waits for a model, as coconutd is told: the agents whose accounts are open. It is looked at now and then, so
//! that calls which are over at once cost coconutd nothing.

use crate::daemon;
use api::broker::Waiting;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use uuid::Uuid;

/// From one message to the next: what is shorter than that is not told.
pub const PAUSE: Duration = Duration::from_millis(250);

/// Agents in one message.
const BATCH: usize = 1000;

/// How many calls each agent has open.
#[derive(Default)]
pub struct Waits {
    calls: Mutex<BTreeMap<Uuid, u32>>,
    changed: Notify,
}

impl Waits {
    fn calls(&self) -> MutexGuard<'_, BTreeMap<Uuid, u32>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A call of this agent is open; nil is nobody's.
    pub fn began(&self, agent: Uuid) {
        if agent.is_nil() {
            return;
        }
        let mut calls = self.calls();
        let open = calls.entry(agent).or_default();
        *open += 1;
        if *open == 1 {
            self.changed.notify_one();
        }
    }

    /// One of its calls is over.
    pub fn ended(&self, agent: Uuid) {
        let mut calls = self.calls();
        let Entry::Occupied(mut open) = calls.entry(agent) else { return };
        *open.get_mut() -= 1;
        if *open.get() == 0 {
            open.remove();
            self.changed.notify_one();
        }
    }

    fn now(&self) -> BTreeSet<Uuid> {
        self.calls().keys().copied().collect()
    }
}

/// Tells coconutd for as long as it is followed; `synced` says when its stream of lanes is there, and with a new
/// stream all is told anew.
pub async fn tell(socket: PathBuf, waits: Arc<Waits>, mut synced: watch::Receiver<bool>) {
    // None: it is not known what coconutd knows.
    let mut told: Option<BTreeSet<Uuid>> = None;
    while synced.wait_for(|synced| *synced).await.is_ok() {
        let now = waits.now();
        match send(&socket, told.as_ref(), &now).await {
            Ok(()) => told = Some(now),
            Err(error) => {
                tracing::debug!(error = %format!("{error:#}"), "who waits for a model is not told");
                told = None;
            }
        }
        tokio::time::sleep(PAUSE).await;
        if told.is_some() {
            tokio::select! {
                () = waits.changed.notified() => {}
                lost = synced.changed() => {
                    told = None;
                    if lost.is_err() {
                        return;
                    }
                }
            }
        }
    }
}

async fn send(
    socket: &std::path::Path,
    told: Option<&BTreeSet<Uuid>>,
    now: &BTreeSet<Uuid>,
) -> anyhow::Result<()> {
    for message in messages(told, now) {
        daemon::post(socket, "/v1/broker/waiting", &message).await?;
    }
    Ok(())
}

/// What coconutd has to be told.
fn messages(told: Option<&BTreeSet<Uuid>>, now: &BTreeSet<Uuid>) -> Vec<Waiting> {
    let nobody = BTreeSet::new();
    let before = told.unwrap_or(&nobody);
    let list = |of: Vec<Uuid>| of.chunks(BATCH).map(<[Uuid]>::to_vec).collect::<Vec<_>>();
    let mut began = list(now.difference(before).copied().collect()).into_iter();
    let ended = list(before.difference(now).copied().collect());
    let first = told.is_none().then(|| Waiting {
        afresh: true,
        began: began.next().unwrap_or_default(),
        ended: Vec::new(),
    });
    let begun = began.map(|began| Waiting { began, ..Waiting::default() });
    let over = ended.into_iter().map(|ended| Waiting { ended, ..Waiting::default() });
    first.into_iter().chain(begun).chain(over).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agents(range: std::ops::Range<u128>) -> BTreeSet<Uuid> {
        range.map(|n| Uuid::from_u128(n + 1)).collect()
    }

    #[test]
    fn an_agent_waits_from_its_first_call_to_the_end_of_its_last() {
        let waits = Waits::default();
        let agent = Uuid::from_u128(1);
        waits.began(agent);
        waits.began(agent);
        waits.began(Uuid::nil());
        waits.ended(agent);
        assert_eq!(waits.now(), BTreeSet::from([agent]));
        waits.ended(agent);
        waits.ended(Uuid::nil());
        assert_eq!(waits.now(), BTreeSet::new());
    }

    #[test]
    fn what_is_told_is_what_is_new() {
        let told = messages(Some(&agents(0..3)), &agents(2..4));
        assert_eq!(told.len(), 2);
        assert_eq!((&told[0].began, &told[1].ended), (&vec![Uuid::from_u128(4)], &told[1].ended));
        assert_eq!(told[1].ended, [Uuid::from_u128(1), Uuid::from_u128(2)]);
        assert!(messages(Some(&agents(0..3)), &agents(0..3)).is_empty());
    }

    #[test]
    fn afresh_is_said_once_and_first() {
        let told = messages(None, &agents(0..2500));
        let sizes: Vec<(bool, usize)> = told.iter().map(|m| (m.afresh, m.began.len())).collect();
        assert_eq!(sizes, [(true, 1000), (false, 1000), (false, 500)]);
        assert_eq!(messages(None, &agents(0..0)), [Waiting { afresh: true, ..Waiting::default() }]);
    }
}
