//! The log, for those who may read it.

use super::{Asked, NDJSON, Shared, blocking, line, streamed};
use crate::authority::access::{self, Readable};
use crate::caller::Caller;
use crate::callers::Key;
use crate::error::{Answer, Refusal};
use crate::identity;
use crate::sink::Written;
use crate::state::Daemon;
use abi::{Code, Kind};
use api::audit::{Head, Query, Record, RecordRef};
use audit::{Filter, Page, Reader, Scan};
use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::Response;
use connections::Place;
use futures_util::stream;
use std::sync::Arc;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use uuid::Uuid;

/// The newest checkpoint.
#[utoipa::path(
    get,
    path = "/v1/audit/head",
    responses((status = 200, body = Head, description = "How far the log is")),
)]
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
struct Selection {
    filter: Filter,
    readable: Readable,
}

impl Selection {
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
        Ok(Selection { filter, readable })
    }

    fn matches(&self, written: &Written) -> bool {
        let entry = &written.entry;
        let filter = &self.filter;
        let any = |kinds: &[Kind]| kinds.is_empty() || kinds.contains(&entry.kind);
        (filter.agents.is_empty() || filter.agents.contains(&entry.agent))
            && filter.tenant.as_ref().is_none_or(|tenant| *tenant == entry.tenant)
            && any(&filter.kinds)
            && filter.capability.is_none_or(|c| c == entry.capability)
            && filter.verdict.is_none_or(|v| v == entry.verdict)
            && filter.object.as_ref().is_none_or(|part| entry.object.contains(part))
            && filter.since_ns.is_none_or(|since| entry.time_ns >= since)
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

/// Audit records by filter.
#[utoipa::path(
    get,
    path = "/v1/audit/records",
    params(Query),
    responses((status = 200, body = Record, content_type = NDJSON, description = "One JSON document a line")),
)]
pub async fn records(
    State(daemon): Shared,
    caller: Caller,
    Asked(query): Asked<Query>,
) -> Answer<Response> {
    let readable = access::audit(&daemon, &caller)?;
    if query.follow && query.from.is_some() && query.limit.is_some() {
        return Err(Refusal::usage("what comes after a limit from a record on cannot be followed"));
    }
    let place = daemon.callers.queries.take(&caller).map_err(|full| {
        identity::too_many(full, "queries of the log").hint("wait until one of them has ended")
    })?;
    let wanted = Selection::of(&daemon, &query, readable)?;
    let (new, next) = (query.follow.then(|| daemon.sink.follow()), daemon.sink.records());
    // The reader sees what a checkpoint covers: what is on its way is sealed first.
    daemon.sink.flush().await;
    let mut answer =
        Answering { daemon, caller, wanted, scan: None, new, next, ready: None, _place: place };
    answer.begin(query.from, query.limit).await?;
    // The first step here: what is wrong with the log is a refusal, not half an answer.
    answer.ready = answer.step().await?;
    streamed(NDJSON, stream::unfold(answer, Answering::next))
}

fn broken(error: &audit::Error) -> Refusal {
    Refusal::new(api::ErrorCode::Integrity, format!("the log cannot be read: {error}"))
        .hint("coconut audit verify")
}

/// A query that is being answered. It holds a page at most, and its caller's place.
struct Answering {
    daemon: Arc<Daemon>,
    caller: Caller,
    wanted: Selection,
    /// What is still read from the log.
    scan: Option<Scan>,
    /// What is followed afterwards.
    new: Option<Receiver<Written>>,
    /// The first record that was not looked at.
    next: u64,
    /// A page that was read ahead.
    ready: Option<Bytes>,
    _place: Place<Key>,
}

impl Answering {
    /// The next page. Between two pages nothing is held.
    async fn next(mut self) -> Option<(std::io::Result<Bytes>, Answering)> {
        let page = match self.ready.take() {
            Some(page) => Ok(Some(page)),
            None => self.page().await,
        };
        let page = page.map_err(|refusal| std::io::Error::other(refusal.0));
        page.transpose().map(|page| (page, self))
    }

    async fn page(&mut self) -> Answer<Option<Bytes>> {
        loop {
            while self.scan.is_some() {
                if let Some(page) = self.step().await? {
                    return Ok(Some(page));
                }
            }
            let Some(new) = &mut self.new else { return Ok(None) };
            match new.recv().await {
                Ok(written) if written.sequence < self.next => {}
                Ok(written) => {
                    self.next = written.sequence + 1;
                    if self.wanted.matches(&written) && self.may_see(written.entry.agent)? {
                        return Ok(Some(fresh(&self.daemon, &written)));
                    }
                }
                // Too slow for what is handed round: it reads the log itself.
                Err(RecvError::Lagged(_)) => {
                    self.daemon.sink.flush().await;
                    self.begin(Some(self.next), None).await?;
                }
                Err(RecvError::Closed) => return Ok(None),
            }
        }
    }

    /// Asked again each time: a right to read that was taken away ends what is going on.
    fn may_see(&mut self, agent: Uuid) -> Answer<bool> {
        self.wanted.readable = access::audit(&self.daemon, &self.caller)?;
        Ok(access::reads(&self.daemon.inner(), self.wanted.readable, agent))
    }

    async fn begin(&mut self, from: Option<u64>, limit: Option<u64>) -> Answer<()> {
        let (directory, filter) = (self.daemon.config.audit.clone(), self.wanted.filter.clone());
        let made = blocking(move || {
            let reader = Reader::open(&directory).map_err(|e| broken(&e))?;
            match from {
                None => Ok(Scan::newest(reader, filter, limit)),
                Some(seq) => Ok(Scan::from(reader, filter, seq, limit)),
            }
        });
        self.scan = Some(made.await?);
        Ok(())
    }

    /// One step through the log, when it is the caller's turn: a page, if it found something.
    async fn step(&mut self) -> Answer<Option<Bytes>> {
        let Some(scan) = self.scan.take() else { return Ok(None) };
        self.wanted.readable = access::audit(&self.daemon, &self.caller)?;
        let turn = self.daemon.callers.turns.turn(self.caller.is_operator()).await;
        let (daemon, readable) = (self.daemon.clone(), self.wanted.readable);
        let (scan, page, more) = blocking(move || {
            let done = step(&daemon, scan, readable);
            drop(turn);
            done
        })
        .await?;
        self.next = self.next.max(scan.reached());
        self.scan = more.then_some(scan);
        Ok((!page.is_empty()).then_some(page))
    }
}

/// What a step found, and whether there is more to find.
fn step(daemon: &Daemon, mut scan: Scan, readable: Readable) -> Answer<(Scan, Bytes, bool)> {
    // Records of one agent often follow each other.
    let mut last: Option<(Uuid, bool)> = None;
    let mut visible = |record: &audit::RecordView<'_>| match last {
        Some((agent, seen)) if agent == record.agent => seen,
        _ => {
            let seen = access::reads(&daemon.inner(), readable, record.agent);
            last = Some((record.agent, seen));
            seen
        }
    };
    let (mut lines, mut held) = (Vec::new(), 0);
    let more = scan.step(Page::default(), &mut visible, &mut |record| {
        held += 1;
        lines.extend_from_slice(&shown(daemon, record));
    });
    daemon.callers.turns.note_held(held);
    Ok((scan, lines.into(), more))
}

fn name(daemon: &Daemon, agent: Uuid) -> Option<String> {
    daemon.inner().supervisor.by_uuid(agent).map(|agent| agent.name.clone())
}

/// A record of the log as a line of an answer.
fn shown(daemon: &Daemon, record: &audit::RecordView<'_>) -> Bytes {
    let (name, body) = (name(daemon, record.agent), record.body());
    line(&RecordRef {
        sequence: record.seq,
        time_ns: record.time_ns,
        agent: record.agent,
        name: name.as_deref(),
        parent: record.parent,
        tenant: record.tenant,
        kind: record.kind.into(),
        capability: record.capability.into(),
        verdict: record.verdict.into(),
        object: record.object,
        detail: body.words(),
        body: body.fields(),
        cut: record.cut,
        count: record.count,
    })
}

/// What was written just now as a line of an answer.
fn fresh(daemon: &Daemon, written: &Written) -> Bytes {
    let entry = &written.entry;
    line(&RecordRef {
        sequence: written.sequence,
        time_ns: entry.time_ns,
        agent: entry.agent,
        name: name(daemon, entry.agent).as_deref(),
        parent: entry.parent,
        tenant: &entry.tenant,
        kind: Code::Known(entry.kind),
        capability: Code::Known(entry.capability),
        verdict: Code::Known(entry.verdict),
        object: &entry.object,
        detail: entry.body.words(),
        body: entry.body.fields(),
        cut: entry.cut,
        count: entry.count,
    })
}
