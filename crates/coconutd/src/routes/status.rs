//! The daemon's own state.

use super::Shared;
use crate::caller::Caller;
use api::Status;
use axum::Json;
use axum::extract::State;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

/// The daemon's own state.
#[utoipa::path(
    get,
    path = "/v1/status",
    responses((status = 200, body = Status, description = "What it is and how it fares")),
)]
pub async fn status(State(daemon): Shared, _caller: Caller) -> Json<Status> {
    let (live, total, broker_connected) = {
        let inner = daemon.inner();
        let heard = inner.feed.lanes.is_heard();
        (inner.supervisor.living_count() as u64, inner.admitted, heard)
    };
    Json(Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        started_ns: daemon.started_ns,
        sealed: daemon.sealed.load(Ordering::Acquire),
        programs: daemon.kernel.programs(),
        features: daemon.features.clone(),
        agents_live: live,
        agents_total: total,
        records: daemon.sink.records(),
        log_key: daemon.log_key.clone(),
        broker_connected,
        log_check: daemon.log_check.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        log_stuck: daemon.sink.stuck(),
        registry_stuck: daemon.registry.stuck(),
        events_lost: daemon.lost.load(Ordering::Acquire),
        trusted_keys: daemon.trust.names(),
        degraded: daemon.degraded.clone(),
    })
}
