//! What there is and what changes of it, for whoever may see it.

use super::{Asked, NDJSON, Shared, line, streamed};
use crate::caller::Caller;
use crate::callers::Key;
use crate::error::{Answer, Refusal};
use crate::feed::{About, Change, Listener};
use crate::identity;
use api::feed::{Delta, FeedEnd, FeedLine};
use axum::body::Bytes;
use axum::extract::State;
use axum::response::Response;
use connections::Place;
use futures_util::stream;
use serde::Deserialize;
use std::collections::HashSet;
use std::sync::Arc;
use utoipa::IntoParams;
use uuid::Uuid;

/// What is ready goes out together, up to so many bytes.
const TOGETHER: usize = 32 << 10;

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct Which {
    /// Also those that have ended.
    #[serde(default)]
    #[param(default = false)]
    all: bool,
}

/// Agents now, then every change.
#[utoipa::path(
    get,
    path = "/v1/feed",
    params(Which),
    responses((status = 200, body = FeedLine, content_type = NDJSON, description = "One JSON document a line")),
)]
pub async fn feed(
    State(daemon): Shared,
    caller: Caller,
    Asked(which): Asked<Which>,
) -> Answer<Response> {
    if matches!(caller, Caller::Broker { .. }) {
        return Err(Refusal::denied("the broker may not: it has its own routes"));
    }
    let place = daemon.callers.queries.take(&caller).map_err(|full| {
        identity::too_many(full, "queries and feeds").hint("wait until one of them has ended")
    })?;
    // Of one moment: nothing is in both of them, and nothing in neither.
    let (snapshot, changes) = {
        let inner = daemon.inner();
        (inner.snapshot(&caller, which.all), inner.feed.changes.listen())
    };
    let shown = snapshot.agents.iter().map(|agent| agent.aid).collect();
    let first = line(&FeedLine::Snapshot { number: 0, snapshot });
    let eye = Eye { caller, shown };
    let telling =
        Telling { first: Some(first), changes, eye, number: 0, over: false, _place: place };
    streamed(NDJSON, stream::unfold(telling, Telling::next))
}

/// A caller who is told.
struct Telling {
    first: Option<Bytes>,
    changes: Listener<Change>,
    eye: Eye,
    /// Of the last line. Of this stream: it says nothing of what others do.
    number: u64,
    over: bool,
    _place: Place<Key>,
}

impl Telling {
    async fn next(mut self) -> Option<(std::io::Result<Bytes>, Telling)> {
        if let Some(first) = self.first.take() {
            return Some((Ok(first), self));
        }
        let mut lines = Vec::new();
        while !self.over && lines.is_empty() {
            let mut next = Some(self.changes.next().await);
            while let Some(change) = next.take() {
                match change {
                    Ok((_, change)) => self.tell(&change, &mut lines),
                    Err(_) => {
                        self.over = true;
                        lines.extend_from_slice(&line(&FeedLine::End { end: FeedEnd::TooSlow }));
                    }
                }
                if !self.over && lines.len() < TOGETHER {
                    next = self.changes.take();
                }
            }
        }
        (!lines.is_empty()).then(|| (Ok(lines.into()), self))
    }

    fn tell(&mut self, change: &Arc<Change>, lines: &mut Vec<u8>) {
        if let Some(delta) = self.eye.sees(change) {
            self.number += 1;
            lines.extend_from_slice(&line(&FeedLine::Delta { number: self.number, delta }));
        }
    }
}

/// What a caller sees of changes.
struct Eye {
    caller: Caller,
    /// The agents that it was shown.
    shown: HashSet<Uuid>,
}

impl Eye {
    fn sees(&mut self, change: &Change) -> Option<Delta> {
        let About::Agent { uuid, .. } = &change.about else {
            return self.caller.is_operator().then(|| change.delta.clone());
        };
        if matches!(change.delta, Delta::Gone { .. }) || !self.may_see(&change.about) {
            // What went out of sight is gone for who saw it.
            return self.shown.remove(uuid).then_some(Delta::Gone { aid: *uuid });
        }
        match change.delta {
            Delta::Added { .. } => _ = self.shown.insert(*uuid),
            // It had ended before the snapshot, which was of those that run.
            _ if !self.shown.contains(uuid) => return None,
            _ => {}
        }
        Some(change.delta.clone())
    }

    /// As in the list of agents.
    fn may_see(&self, about: &About) -> bool {
        let About::Agent { aid, owner, above, .. } = about else { return false };
        match &self.caller {
            Caller::Operator { .. } => true,
            Caller::Broker { .. } => false,
            Caller::User { uid, .. } => uid == owner,
            Caller::Agent { aid: own, .. } => own == aid || above.contains(own),
        }
    }
}
