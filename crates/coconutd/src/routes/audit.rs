//! The log, for those who may read it.

use super::{Asked, Shared, blocking, line, streamed};
use crate::access::{self, Readable};
use crate::error::{Answer, Refusal};
use crate::identity::Caller;
use crate::sink::Written;
use crate::state::Daemon;
use abi::Kind;
use api::audit::{Head, Query, Record};
use audit::{Filter, Reader};
use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::Response;
use futures_util::{StreamExt, stream};
use std::sync::Arc;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use uuid::Uuid;

/// Records that one query answers at most.
const QUERY_MAX: usize = 1_000_000;

pub async fn head(State(daemon): Shared, caller: Caller) -> Answer<Json<Head>> {
    access::audit(&daemon, &caller)?;
    let checkpoint = daemon.sink.head();
    let leaves = checkpoint.lines().nth(1).and_then(|line| line.parse().ok()).unwrap_or(0);
    let key = daemon.config.audit.join(audit::keys::VKEY_FILE);
    let verifier_key = std::fs::read_to_string(&key)
        .map_err(|e| Refusal::failed(format!("cannot read {}: {e}", key.display())))?;
    Ok(Json(Head {
        checkpoint,
        leaves,
        records: daemon.sink.records(),
        verifier_key: verifier_key.trim().to_owned(),
        directory: daemon.config.audit.display().to_string(),
    }))
}

/// What a query asks for, and what the caller may see of it.
struct Wanted {
    filter: Filter,
    readable: Readable,
}

impl Wanted {
    fn of(daemon: &Daemon, query: &Query, readable: Readable) -> Answer<Self> {
        let mut filter = Filter {
            tenant: query.tenant.clone(),
            kinds: query.kind.into_iter().collect(),
            capability: query.capability,
            verdict: query.verdict,
            since_ns: query.since_ns,
            object: query.object.clone(),
            ..Filter::default()
        };
        if let Some(text) = &query.agent {
            filter.agents = vec![agent(daemon, text)?];
        }
        Ok(Wanted { filter, readable })
    }

    fn takes(&self, daemon: &Daemon, written: &Written) -> bool {
        let entry = &written.entry;
        let filter = &self.filter;
        let any = |kinds: &[Kind]| kinds.is_empty() || kinds.contains(&entry.kind);
        (filter.agents.is_empty() || filter.agents.contains(&entry.agent))
            && filter.tenant.as_ref().is_none_or(|tenant| *tenant == entry.tenant)
            && any(&filter.kinds)
            && filter.capability.is_none_or(|c| c == entry.capability)
            && filter.verdict.is_none_or(|v| v == entry.verdict)
            && filter.object.as_ref().is_none_or(|part| entry.object.contains(part))
            && access::reads(&daemon.inner(), self.readable, entry.agent)
    }
}

/// An agent that is known, or the UUID of one that has been forgotten and is in the log only.
fn agent(daemon: &Daemon, text: &str) -> Answer<Uuid> {
    if let Ok(uuid) = text.parse() {
        return Ok(uuid);
    }
    let inner = daemon.inner();
    let aid = inner.supervisor.resolve(text)?;
    Ok(inner.supervisor.get(aid)?.uuid)
}

pub async fn records(
    State(daemon): Shared,
    caller: Caller,
    Asked(query): Asked<Query>,
) -> Answer<Response> {
    let readable = access::audit(&daemon, &caller)?;
    let wanted = Wanted::of(&daemon, &query, readable)?;
    let follow = query.follow.then(|| daemon.sink.follow());
    // The reader sees what a checkpoint covers: what is on its way is sealed first.
    daemon.sink.flush().await;
    let worker = daemon.clone();
    let limit = query.limit.unwrap_or(QUERY_MAX).min(QUERY_MAX);
    let (past, wanted) = blocking(move || {
        let past = read(&worker, &wanted, limit)?;
        Ok((past, wanted))
    })
    .await?;
    let last = past.last().map_or(0, |record| record.sequence + 1);
    let lines: Vec<Bytes> = past.iter().map(line).collect();
    let past = stream::iter(lines.into_iter().map(Ok::<Bytes, std::io::Error>));
    match follow {
        None => streamed("application/x-ndjson", past),
        Some(new) => {
            let state = Following { daemon, wanted, new, last };
            streamed("application/x-ndjson", past.chain(stream::unfold(state, next)))
        }
    }
}

fn read(daemon: &Daemon, wanted: &Wanted, limit: usize) -> Answer<Vec<Record>> {
    let broken = |error: audit::Error| {
        let refusal =
            Refusal::new(api::ErrorCode::Integrity, format!("the log cannot be read: {error}"));
        refusal.hint("coconut audit verify")
    };
    let reader = Reader::open(&daemon.config.audit).map_err(broken)?;
    let found = reader.tail(&wanted.filter, limit).map_err(broken)?;
    let inner = daemon.inner();
    let mine = found.into_iter().filter(|r| access::reads(&inner, wanted.readable, r.agent));
    Ok(mine.map(|record| shown(&inner, &record)).collect())
}

fn shown(inner: &crate::state::Inner, record: &audit::Record) -> Record {
    Record {
        sequence: record.seq,
        time_ns: record.time_ns,
        agent: record.agent,
        name: inner.supervisor.by_uuid(record.agent).map(|agent| agent.name.clone()),
        parent: record.parent,
        tenant: record.tenant.clone(),
        kind: record.kind.try_into().unwrap_or(Kind::Syscall),
        capability: record.capability.try_into().unwrap_or(abi::Capability::None),
        verdict: record.verdict.try_into().unwrap_or(abi::Verdict::None),
        object: record.object.clone(),
        detail: record.detail.clone(),
    }
}

struct Following {
    daemon: Arc<Daemon>,
    wanted: Wanted,
    new: Receiver<Written>,
    last: u64,
}

/// The next new record. A follower that is too slow is cut off: a hole is worse than an end.
async fn next(mut state: Following) -> Option<(Result<Bytes, std::io::Error>, Following)> {
    loop {
        match state.new.recv().await {
            Ok(written) if written.sequence < state.last => {}
            Ok(written) if !state.wanted.takes(&state.daemon, &written) => {}
            Ok(written) => {
                let bytes = line(&fresh(&state.daemon, &written));
                return Some((Ok(bytes), state));
            }
            Err(RecvError::Lagged(missed)) => {
                let text = format!("the reader is too slow: {missed} records were not sent");
                return Some((Err(std::io::Error::other(text)), state));
            }
            Err(RecvError::Closed) => return None,
        }
    }
}

fn fresh(daemon: &Daemon, written: &Written) -> Record {
    let entry = &written.entry;
    let inner = daemon.inner();
    Record {
        sequence: written.sequence,
        time_ns: entry.time_ns,
        agent: entry.agent,
        name: inner.supervisor.by_uuid(entry.agent).map(|agent| agent.name.clone()),
        parent: entry.parent,
        tenant: entry.tenant.clone(),
        kind: entry.kind,
        capability: entry.capability,
        verdict: entry.verdict,
        object: entry.object.clone(),
        detail: entry.detail.clone(),
    }
}
