//! The lanes as coconutd tells them, kept current by its stream; without the stream nobody is served.

use super::Payer;
use super::limits::AgentState;
use super::right::Infer;
use crate::daemon;
use crate::fair;
use crate::openai::ApiError;
use api::broker::{Lane, LaneEvent, Peer};
use http_body_util::BodyExt;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::timeout;
use uuid::Uuid;

/// All live lanes.
pub struct LaneBook {
    socket: PathBuf,
    /// A request waits so long for a lost stream.
    patience: Duration,
    lanes: RwLock<HashMap<Uuid, Entry>>,
    /// The stream is open and its first part has been read whole.
    synced: watch::Sender<bool>,
}

#[derive(Clone)]
struct Entry {
    lane: Lane,
    state: Arc<AgentState>,
    /// What those who are being served by it look at.
    infer: Arc<Infer>,
}

impl Entry {
    /// Whoever is being served is cut off.
    fn end(&self) {
        self.infer.send_replace(None);
    }
}

const FIRST_RETRY: Duration = Duration::from_millis(100);
const LAST_RETRY: Duration = Duration::from_secs(2);
/// How long a request waits for a coconutd that is being restarted: its stream is asked for every two seconds.
pub const PATIENCE: Duration = Duration::from_secs(10);

impl LaneBook {
    /// A book that `follow` fills.
    pub fn new(socket: PathBuf, patience: Duration) -> Arc<Self> {
        let synced = watch::Sender::new(false);
        Arc::new(Self { socket, patience, lanes: RwLock::default(), synced })
    }

    /// Reads coconutd's stream for ever; while it is lost, nobody is served.
    pub async fn follow(self: Arc<Self>) {
        let mut wait = FIRST_RETRY;
        loop {
            let end = self.read_stream().await;
            if self.synced.send_replace(false) {
                wait = FIRST_RETRY;
            }
            let reason = end.map_or_else(|e| format!("{e:#}"), |()| "it was closed".to_owned());
            tracing::warn!(
                reason,
                "coconutd's lane stream is lost; requests wait for it, and are refused when it does not come back"
            );
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(LAST_RETRY);
        }
    }

    async fn read_stream(&self) -> anyhow::Result<()> {
        let mut body = daemon::get(&self.socket, "/v1/broker/lanes").await?.into_body();
        let mut fresh: Option<HashMap<Uuid, Entry>> = Some(HashMap::new());
        let mut line = Vec::new();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame?.into_data() else { continue };
            for part in data.split_inclusive(|b| *b == b'\n') {
                line.extend_from_slice(part);
                if line.last() == Some(&b'\n') {
                    if !line.trim_ascii().is_empty() {
                        self.apply(serde_json::from_slice(&line)?, &mut fresh);
                    }
                    line.clear();
                }
            }
        }
        Ok(())
    }

    /// `fresh` collects the first part of a stream; from `Synced` on changes apply at once.
    fn apply(&self, event: LaneEvent, fresh: &mut Option<HashMap<Uuid, Entry>>) {
        let mut current = self.lanes.write().unwrap_or_else(PoisonError::into_inner);
        match event {
            LaneEvent::Set { lane } => {
                // An agent that is known keeps what it has used and has open, also over a lost stream.
                let known = current.get(&lane.agent);
                let (used, infer) =
                    known.map(|e| (e.state.clone(), e.infer.clone())).unwrap_or_default();
                infer.send_replace(lane.infer.clone());
                let entry = Entry { state: used, infer, lane };
                fresh.as_mut().unwrap_or(&mut current).insert(entry.lane.agent, entry);
            }
            LaneEvent::Gone { agent } => {
                let gone = fresh.as_mut().unwrap_or(&mut current).remove(&agent);
                gone.iter().for_each(Entry::end);
            }
            LaneEvent::Synced => {
                if let Some(lanes) = fresh.take() {
                    tracing::info!(lanes = lanes.len(), "coconutd's lanes are known");
                    let before = std::mem::replace(&mut *current, lanes);
                    let ended = |(agent, _): &(&Uuid, &Entry)| !current.contains_key(*agent);
                    before.iter().filter(ended).for_each(|(_, entry)| entry.end());
                }
                self.synced.send_replace(true);
            }
        }
    }

    /// The stream is there.
    pub fn is_synced(&self) -> bool {
        *self.synced.borrow()
    }

    /// Says whether the stream is there, each time that it comes or goes.
    pub fn watch(&self) -> watch::Receiver<bool> {
        self.synced.subscribe()
    }

    /// Waits for the stream where it is lost.
    ///
    /// # Errors
    /// When it does not come back.
    pub async fn synced(&self) -> Result<(), ApiError> {
        let mut synced = self.synced.subscribe();
        if matches!(timeout(self.patience, synced.wait_for(|synced| *synced)).await, Ok(Ok(_))) {
            return Ok(());
        }
        Err(ApiError::unavailable(format!(
            "the lanes are not known: coconutd at {} does not answer\nhint: coconut doctor",
            self.socket.display()
        )))
    }

    /// The agent that owns the client end of a TCP connection; None if no agent does.
    pub async fn peer(
        &self,
        client: SocketAddr,
        server: SocketAddr,
    ) -> Result<Option<Uuid>, ApiError> {
        let path = format!("/v1/broker/peer?client={client}&server={server}");
        let failed = |e: anyhow::Error| {
            tracing::warn!(error = %format!("{e:#}"), "coconutd did not name a caller");
            ApiError::unavailable("coconutd does not say who is calling")
        };
        match daemon::get_json::<Peer>(&self.socket, &path).await {
            Ok(peer) => Ok(peer.map(|p| p.agent)),
            Err(error) => Err(failed(error)),
        }
    }

    /// The agent's lane, as a caller.
    pub fn caller(&self, agent: Uuid) -> Result<Payer, ApiError> {
        let lanes = self.lanes.read().unwrap_or_else(PoisonError::into_inner);
        let Some(Entry { lane, state, infer }) = lanes.get(&agent) else {
            return Err(ApiError::forbidden(format!("agent {agent} has no lane: it has ended")));
        };
        let denied = || {
            ApiError::forbidden(format!(
                "agent {} holds no infer capability\n\
                 hint: add `infer = {{ models = [\"*\"] }}` to its manifest",
                lane.name
            ))
            .code("capability_missing")
        };
        Ok(Payer {
            agent,
            lane: levels(lane),
            limits: lane.infer.clone(),
            denied: lane.infer.is_none().then(denied),
            state: state.clone(),
            infer: Some(infer.subscribe()),
        })
    }
}

/// The lane as the fair queue takes it: agents by their ids, which are unique.
fn levels(lane: &Lane) -> fair::Lineage {
    let above = lane.above.iter().map(|above| (above.agent, above.weight));
    let agents = above.chain(std::iter::once((lane.agent, lane.weight)));
    fair::Lineage {
        tenant: fair::Level::new(lane.tenant.as_str(), lane.tenant_weight),
        agents: agents.map(|(agent, weight)| fair::Level::new(agent.to_string(), weight)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::broker::{Above, InferLimits};

    fn lane(agent: u128, tenant: &str) -> LaneEvent {
        LaneEvent::Set {
            lane: Lane {
                agent: Uuid::from_u128(agent),
                name: "a".into(),
                tenant: tenant.into(),
                tenant_weight: 100,
                weight: 100,
                above: Vec::new(),
                infer: None,
            },
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_is_served_before_the_first_part_is_whole() {
        let book = LaneBook::new("/nowhere".into(), PATIENCE);
        let mut fresh = Some(HashMap::new());
        book.apply(lane(1, "t"), &mut fresh);
        let refused = book.synced().await.unwrap_err();
        assert_eq!((refused.status.as_u16(), refused.retry_after), (503, Some(1)));
        book.apply(LaneEvent::Synced, &mut fresh);
        assert!(book.synced().await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_while_the_daemon_is_restarted_waits_for_it() {
        let book = LaneBook::new("/nowhere".into(), PATIENCE);
        let waits = tokio::spawn({
            let book = book.clone();
            async move { book.synced().await.is_ok() }
        });
        tokio::time::sleep(PATIENCE / 2).await;
        assert!(!waits.is_finished());
        book.apply(LaneEvent::Synced, &mut Some(HashMap::new()));
        assert!(waits.await.unwrap());
    }

    #[test]
    fn who_is_above_is_on_the_way_to_the_queue() {
        let book = LaneBook::new("/nowhere".into(), PATIENCE);
        let LaneEvent::Set { mut lane } = lane(3, "t") else { unreachable!() };
        let above = |agent, weight| Above { agent: Uuid::from_u128(agent), weight };
        lane.above = vec![above(1, 50), above(2, 40)];
        lane.infer = Some(InferLimits {
            models: vec!["*".into()],
            tokens_per_minute: None,
            concurrency: None,
            context: None,
        });
        book.apply(LaneEvent::Set { lane }, &mut None);
        let lane = book.caller(Uuid::from_u128(3)).unwrap().lane;
        assert_eq!(lane.tenant, fair::Level::new("t", 100));
        let agents = [(1, 50), (2, 40), (3, 100)];
        let level = |(agent, weight)| fair::Level::new(Uuid::from_u128(agent).to_string(), weight);
        assert_eq!(lane.agents, agents.map(level));
    }

    #[test]
    fn agents_without_the_capability_and_ended_ones_are_refused() {
        let book = LaneBook::new("/nowhere".into(), PATIENCE);
        let mut fresh = None;
        book.apply(lane(1, "t"), &mut fresh);
        let without = book.caller(Uuid::from_u128(1)).unwrap().denied.unwrap();
        assert_eq!(without.code, Some("capability_missing"));
        book.apply(LaneEvent::Gone { agent: Uuid::from_u128(1) }, &mut fresh);
        assert_eq!(book.caller(Uuid::from_u128(1)).unwrap_err().status.as_u16(), 403);
    }
}
