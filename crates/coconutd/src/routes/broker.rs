//! What the broker is told and tells; only its own user and root may.

use super::{Asked, NDJSON, Sent, Shared, line, streamed};
use crate::authority::access;
use crate::caller::Caller;
use crate::change::{blocking, whole};
use crate::clock;
use crate::error::{Answer, Refusal};
use crate::feed::Listener;
use crate::state::Daemon;
use api::ErrorCode;
use api::broker::{LaneEvent, Peer, SettledCalls, Waiting};
use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use futures_util::stream;
use serde::Deserialize;
use std::net::SocketAddr;
use std::sync::Arc;
use utoipa::IntoParams;

fn allowed(daemon: &Daemon, caller: &Caller) -> Answer<()> {
    match caller {
        Caller::Broker { .. } | Caller::Operator { uid: 0, .. } => Ok(()),
        other => {
            let refusal = Refusal::denied(format!("{} is not the broker", other.name()));
            Err(access::recorded(daemon, caller, abi::Capability::Forbidden, "broker", refusal))
        }
    }
}

/// Every live lane, `Synced`, then changes.
///
/// A broker that falls too far behind is cut off and starts again.
#[utoipa::path(
    get,
    path = "/v1/broker/lanes",
    operation_id = "follow_lanes",
    responses((status = 200, body = LaneEvent, content_type = NDJSON, description = "One JSON document a line")),
    extensions(("x-coconut-caller" = json!("broker"))),
)]
pub async fn lanes(State(daemon): Shared, caller: Caller) -> Answer<Response> {
    allowed(&daemon, &caller)?;
    let broker = match caller {
        Caller::Broker { .. } => Some(Follows(daemon.clone())),
        _ => None,
    };
    let (lanes, changes) = {
        let inner = daemon.inner();
        let now = clock::boot_ns();
        let lanes = inner.supervisor.living().filter_map(|agent| inner.lane(agent.aid, now));
        (lanes.collect::<Vec<_>>(), inner.feed.lanes.listen())
    };
    let all = lanes.into_iter().map(|lane| LaneEvent::Set { lane }).chain([LaneEvent::Synced]);
    let first = all.flat_map(|event| line(&event)).collect();
    streamed(NDJSON, stream::unfold((Some(first), changes, broker), next))
}

type Changes = (Option<Vec<u8>>, Listener<LaneEvent>, Option<Follows>);

async fn next(
    (first, mut changes, broker): Changes,
) -> Option<(Result<Bytes, std::io::Error>, Changes)> {
    if let Some(first) = first {
        return Some((Ok(first.into()), (None, changes, broker)));
    }
    // The end of its stream tells a broker that it has to begin anew.
    let (_, event) = changes.next().await.ok()?;
    Some((Ok(line(&*event)), (None, changes, broker)))
}

/// A broker follows the lanes; when it does no more, nobody waits for it.
struct Follows(Arc<Daemon>);

impl Drop for Follows {
    fn drop(&mut self) {
        let daemon = self.0.clone();
        // Without a runtime the daemon is ending, and the next one begins with nobody who waits.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { daemon.nobody_waits().await });
        }
    }
}

/// Who waits for a model from now on, and who no longer.
#[utoipa::path(
    post,
    path = "/v1/broker/waiting",
    request_body = Waiting,
    responses((status = 204, description = "Shown so")),
    extensions(("x-coconut-caller" = json!("broker"))),
)]
pub async fn waiting(
    State(daemon): Shared,
    caller: Caller,
    Sent(told): Sent<Waiting>,
) -> Answer<StatusCode> {
    allowed(&daemon, &caller)?;
    daemon.book_waits(told).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct Ends {
    /// The caller's end of it, `IP:PORT`.
    #[param(value_type = String)]
    client: SocketAddr,
    /// The broker's end of it, `IP:PORT`.
    #[param(value_type = String)]
    server: SocketAddr,
}

/// Who owns the client end of a TCP connection.
#[utoipa::path(
    get,
    path = "/v1/broker/peer",
    params(Ends),
    responses((status = 200, body = Peer, description = "The agent")),
    extensions(("x-coconut-caller" = json!("broker"))),
)]
pub async fn peer(
    State(daemon): Shared,
    caller: Caller,
    Asked(ends): Asked<Ends>,
) -> Answer<Json<Peer>> {
    allowed(&daemon, &caller)?;
    let owner = daemon.kernel.peer_of_tcp(ends.client, ends.server)?;
    let agent = owner.and_then(|aid| daemon.uuid_of(aid));
    agent
        .map(|agent| Json(Peer { agent }))
        .ok_or_else(|| Refusal::new(ErrorCode::NotFound, "no agent owns that connection"))
}

/// Inference calls that are over, for the log.
///
/// What is booked, its records, and the number up to which it is booked are written down together: whoever is killed
/// in between, each call is on record once.
#[utoipa::path(
    post,
    path = "/v1/broker/usage",
    request_body = SettledCalls,
    responses((status = 204, description = "In the log")),
    extensions(("x-coconut-caller" = json!("broker"))),
)]
pub async fn usage(
    State(daemon): Shared,
    caller: Caller,
    Sent(told): Sent<SettledCalls>,
) -> Answer<StatusCode> {
    allowed(&daemon, &caller)?;
    whole(&daemon.clone(), async move {
        let room = daemon.sink.room().await?;
        let records = blocking(|| {
            let (due, tenants) = {
                let mut inner = daemon.inner();
                let (entries, tenants) = inner.book_calls(&told);
                (room.owe(entries), tenants)
            };
            daemon.remember_of(tenants);
            room.pay(due)
        });
        records.written().await?;
        Ok(())
    })
    .await?;
    Ok(StatusCode::NO_CONTENT)
}
