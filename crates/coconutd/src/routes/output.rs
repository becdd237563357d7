//! What background agents wrote.

use super::{Asked, BYTES, Of, Shared, streamed};
use crate::authority::access::{self, Act};
use crate::caller::Caller;
use crate::error::{Answer, Refusal};
use crate::feed::Ended;
use crate::output::Reading;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::response::Response;
use futures_util::stream;
use serde::Deserialize;
use std::path::PathBuf;
use std::time::Duration;
use utoipa::IntoParams;

/// How often a followed file is looked at; only while somebody follows it.
const LOOK: Duration = Duration::from_millis(200);

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct How {
    /// Go on with what it writes, until it has ended.
    #[serde(default)]
    #[param(default = false)]
    follow: bool,
}

struct Answering {
    reading: Reading,
    follow: bool,
    ended: Ended,
}

/// A background agent's output.
#[utoipa::path(
    get,
    path = "/v1/agents/{id}/logs",
    params(Of, How),
    responses((status = 200, content_type = BYTES, description = "Bytes, as they come")),
)]
pub async fn logs(
    State(daemon): Shared,
    caller: Caller,
    Path(of): Path<Of>,
    Asked(how): Asked<How>,
) -> Answer<Response> {
    let aid = access::agent(&daemon, &caller, &of.id, Act::See)?;
    let known = {
        let mut inner = daemon.inner();
        let ended = inner.end_of(aid);
        inner.info.get(&aid).map(|i| (i.uuid, i.log_file.clone())).zip(ended)
    };
    let ((agent, path), ended) =
        known.ok_or_else(|| Refusal::failed("the agent has been forgotten"))?;
    let path = path.ok_or_else(|| {
        Refusal::usage("it ran in the foreground: its output went to whoever ran it")
    })?;
    let path = PathBuf::from(path);
    let reading = Reading::open(&path, &daemon.shelf.older(agent)).await.map_err(|e| {
        if e.kind() == std::io::ErrorKind::NotFound {
            return Refusal::new(api::ErrorCode::NotFound, "its output is not kept any more");
        }
        Refusal::failed(format!("cannot read {}: {e}", path.display()))
    })?;
    let answering = Answering { reading, follow: how.follow, ended };
    streamed(BYTES, stream::unfold(answering, next))
}

async fn next(mut answering: Answering) -> Option<(std::io::Result<Bytes>, Answering)> {
    loop {
        // Asked before the read: what was written until the end is read after it.
        let over = !answering.follow || answering.ended.borrow().is_some();
        match answering.reading.read().await {
            Ok(None) if over => return None,
            Ok(None) => {
                let _ = tokio::time::timeout(LOOK, answering.ended.changed()).await;
            }
            Ok(Some(bytes)) => {
                let bytes = Bytes::copy_from_slice(bytes);
                return Some((Ok(bytes), answering));
            }
            Err(error) => return Some((Err(error), answering)),
        }
    }
}
