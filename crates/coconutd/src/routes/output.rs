//! What background agents wrote.

use super::{Asked, Shared, streamed};
use crate::authority::access::{self, Act};
use crate::error::{Answer, Refusal};
use crate::identity::Caller;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::response::Response;
use futures_util::stream;
use serde::Deserialize;
use std::time::Duration;
use tokio::fs::File;
use tokio::io::AsyncReadExt;
use tokio::sync::watch;

/// How often a followed file is looked at; only while somebody follows it.
const LOOK: Duration = Duration::from_millis(200);
/// Bytes of one read.
const CHUNK: usize = 64 << 10;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct How {
    #[serde(default)]
    follow: bool,
}

struct Reading {
    file: File,
    follow: bool,
    ended: watch::Receiver<Option<api::Exit>>,
    buffer: Vec<u8>,
}

pub async fn logs(
    State(daemon): Shared,
    caller: Caller,
    Path(id): Path<String>,
    Asked(how): Asked<How>,
) -> Answer<Response> {
    let aid = access::agent(&daemon, &caller, &id, Act::See)?;
    let known = daemon.inner().info.get(&aid).map(|i| (i.log_file.clone(), i.exit.subscribe()));
    let (path, ended) = known.ok_or_else(|| Refusal::failed("the agent has been forgotten"))?;
    let path = path.ok_or_else(|| {
        Refusal::usage("it ran in the foreground: its output went to whoever ran it")
    })?;
    let file =
        File::open(&path).await.map_err(|e| Refusal::failed(format!("cannot read {path}: {e}")))?;
    let reading = Reading { file, follow: how.follow, ended, buffer: vec![0; CHUNK] };
    streamed("application/octet-stream", stream::unfold(reading, next))
}

async fn next(mut reading: Reading) -> Option<(std::io::Result<Bytes>, Reading)> {
    loop {
        // Asked before the read: what was written until the end is read after it.
        let over = !reading.follow || reading.ended.borrow().is_some();
        match reading.file.read(&mut reading.buffer).await {
            Ok(0) if over => return None,
            Ok(0) => {
                let _ = tokio::time::timeout(LOOK, reading.ended.changed()).await;
            }
            Ok(n) => {
                let bytes = Bytes::copy_from_slice(&reading.buffer[..n]);
                return Some((Ok(bytes), reading));
            }
            Err(error) => return Some((Err(error), reading)),
        }
    }
}
