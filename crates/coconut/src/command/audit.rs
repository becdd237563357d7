//! `audit tail`, `query`, `verify`, `head`: from the daemon, or from a directory without it.

use super::{Context, Showing};
use crate::cli::{Audit, Filter};
use crate::failure::{Done, Failure, file_error};
use crate::render::{self, time};
use ::audit::{Page, Reader, Scan, VerifyOptions};
use api::ErrorCode;
use api::audit::{Head, LOG_DIRECTORY, Record};
use serde::Serialize;
use std::path::Path;

/// `coconut audit …`.
pub fn audit(cx: &Context, audit: Audit) -> Done {
    match audit {
        Audit::Tail { lines, follow, filter } => read(cx, &filter, Some(lines), follow),
        Audit::Query { limit, filter } => read(cx, &filter, limit, false),
        Audit::Verify { dir, key, since, current } => {
            // What lies elsewhere than the live log was copied from it, maybe while it was written.
            let copy = dir != Path::new(LOG_DIRECTORY);
            let options = VerifyOptions { copy, current, ..VerifyOptions::default() };
            verify(cx, &dir, key.as_deref(), since.as_deref(), options)
        }
        Audit::Head { dir } => head(cx, &dir),
        Audit::Prove(_) => Err(Failure::planned("audit prove")),
        Audit::Export(_) => Err(Failure::planned("audit export")),
    }
}

fn read(cx: &Context, filter: &Filter, limit: Option<usize>, follow: bool) -> Done {
    let since = filter
        .since
        .as_deref()
        .map(|text| time::parse_since(text, time::now_ns()))
        .transpose()
        .map_err(|e| Failure::new(ErrorCode::Usage, e))?;
    match &filter.dir {
        Some(_) if follow => Err(Failure::new(ErrorCode::Usage, "a directory is not followed")
            .hint("leave out --dir to follow the live log")),
        Some(dir) => from_directory(cx, dir, filter, since, limit),
        None => from_daemon(cx, filter, since, limit, follow),
    }
}

/// Asks the daemon for records and prints each as it comes.
fn from_daemon(
    cx: &Context,
    filter: &Filter,
    since: Option<u64>,
    limit: Option<usize>,
    follow: bool,
) -> Done {
    let all = [
        ("agent", filter.agent.clone()),
        ("tenant", filter.tenant.clone()),
        ("kind", filter.kind.map(|k| k.name().to_owned())),
        ("capability", filter.cap.map(|c| c.name().to_owned())),
        ("verdict", filter.verdict.map(|v| v.name().to_owned())),
        ("object", filter.object.clone()),
        ("since_ns", since.map(|ns| ns.to_string())),
        ("follow", follow.then(|| "true".to_owned())),
    ];
    let pairs: Vec<(&str, &str)> =
        all.iter().filter_map(|(name, value)| value.as_deref().map(|v| (*name, v))).collect();
    let mut showing = Showing::default();
    let mut first = true;
    let limit = limit.map(|n| n as u64);
    cx.client()?.records(&pairs, limit, |record| showing.goes_on(show(cx, &record, &mut first)))?;
    showing.end()
}

fn show(cx: &Context, record: &Record, first: &mut bool) -> Result<(), Failure> {
    if std::mem::take(first) && !cx.out.json {
        crate::output::put(&render::audit::heading())?;
    }
    cx.out.item("coconut.record/1", record, |width| render::audit::record(record, width))
}

/// Reads a log without the daemon.
fn from_directory(
    cx: &Context,
    dir: &Path,
    filter: &Filter,
    since_ns: Option<u64>,
    limit: Option<usize>,
) -> Done {
    let agent = |text: &String| {
        text.parse().map_err(|_| {
            Failure::new(ErrorCode::Usage, format!("{text:?} is no UUID")).hint(
                "names and suffixes are known to the daemon only; with --dir give the whole AID",
            )
        })
    };
    let wanted = ::audit::Filter {
        agents: filter.agent.as_ref().map(agent).transpose()?.into_iter().collect(),
        tenant: filter.tenant.clone(),
        kinds: filter.kind.into_iter().collect(),
        capability: filter.cap,
        verdict: filter.verdict,
        since_ns,
        object: filter.object.clone(),
        ..::audit::Filter::default()
    };
    let reader = Reader::open(dir).map_err(log_error)?;
    let mut scan = Scan::newest(reader, wanted, limit.map(|n| n as u64));
    let (mut first, mut more) = (true, true);
    while more {
        let mut page = Vec::new();
        more = scan.step(Page::default(), &mut |_| true, &mut |record| page.push(shown(record)));
        for record in &page {
            show(cx, record, &mut first)?;
        }
    }
    match scan.damaged() {
        0 => Ok(0),
        leaves => {
            let what = format!("{leaves} leaves of the log cannot be read and were left out");
            Err(Failure::new(ErrorCode::Integrity, what).hint("`coconut audit verify` says more"))
        }
    }
}

/// A record as the API has it.
fn shown(record: &::audit::RecordView<'_>) -> Record {
    let body = record.body();
    Record {
        sequence: record.seq,
        time_ns: record.time_ns,
        agent: record.agent,
        name: None,
        parent: record.parent,
        tenant: record.tenant.to_owned(),
        kind: record.kind.into(),
        capability: record.capability.into(),
        verdict: record.verdict.into(),
        object: record.object.to_owned(),
        detail: body.words().to_string(),
        body: body.fields().and_then(|body| serde_json::to_value(body).ok()),
        cut: record.cut,
        count: record.count,
    }
}

fn log_error(error: ::audit::Error) -> Failure {
    let code = match &error {
        ::audit::Error::NoLog(_) => ErrorCode::NotFound,
        ::audit::Error::Damaged(_) | ::audit::Error::Checkpoint(_) => ErrorCode::Integrity,
        ::audit::Error::Io { source, .. } => match source.kind() {
            std::io::ErrorKind::PermissionDenied => ErrorCode::Denied,
            std::io::ErrorKind::NotFound => ErrorCode::NotFound,
            _ => ErrorCode::Failed,
        },
        _ => ErrorCode::Failed,
    };
    let failure = Failure::from_error(code, error.into());
    match code {
        ErrorCode::Denied => failure.hint("the log is root's: use sudo"),
        ErrorCode::NotFound => {
            failure.hint("give the directory of a log: coconut audit verify DIR")
        }
        _ => failure,
    }
}

/// `coconut audit verify`: 0 if the log is sound, 6 if not.
fn verify(
    cx: &Context,
    dir: &Path,
    key: Option<&Path>,
    since: Option<&Path>,
    mut options: VerifyOptions,
) -> Done {
    let beside = dir.join(::audit::keys::VKEY_FILE);
    let trusted = ::audit::keys::load_verifier(key.unwrap_or(&beside)).map_err(log_error)?;
    if let Some(path) = since {
        options.heads.push(std::fs::read(path).map_err(|e| file_error(path, e))?);
    } else if let Some(head) = remembered(cx, dir) {
        options.heads.push(head);
    }
    let report = ::audit::verify(dir, &trusted, &options).map_err(log_error)?;
    cx.out.answer("coconut.audit-verify/1", &report, |width| {
        render::verify::report(&report, time::now_ns(), width)
    })?;
    Ok(if report.is_sound() { 0 } else { ErrorCode::Integrity.exit_code() })
}

/// The live log's head as the daemon remembers it: a tail that was cut off cannot hide from it.
fn remembered(cx: &Context, dir: &Path) -> Option<Vec<u8>> {
    if dir != Path::new(LOG_DIRECTORY) {
        return None;
    }
    let head: Head = cx.client().ok()?.get("/v1/audit/head").ok()?;
    Some(head.checkpoint.into_bytes())
}

#[derive(Serialize)]
struct Newest {
    checkpoint: String,
    origin: String,
    leaves: u64,
}

/// `coconut audit head`: the signed note as it is, to be kept elsewhere.
fn head(cx: &Context, dir: &Path) -> Done {
    let note = ::audit::checkpoint::read(dir).map_err(log_error)?;
    let parsed = ::audit::Checkpoint::peek(dir).map_err(log_error)?;
    let checkpoint = String::from_utf8_lossy(&note).into_owned();
    let newest = Newest { checkpoint, origin: parsed.origin, leaves: parsed.size };
    cx.out.answer("coconut.audit-head/1", &newest, |_| newest.checkpoint.clone())?;
    Ok(0)
}
