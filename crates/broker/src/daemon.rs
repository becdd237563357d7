//! HTTP over coconutd's UNIX socket.

use anyhow::{Context, bail};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use std::path::Path;
use std::time::Duration;
use tokio::net::UnixStream;

/// How long coconutd may take to begin its answer.
const PATIENCE: Duration = Duration::from_secs(10);

async fn send(
    socket: &Path,
    method: Method,
    path: &str,
    body: Vec<u8>,
) -> anyhow::Result<Response<Incoming>> {
    let stream = UnixStream::connect(socket)
        .await
        .with_context(|| format!("cannot connect to coconutd at {}", socket.display()))?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "coconutd")
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(body)))?;
    tokio::time::timeout(PATIENCE, sender.send_request(request))
        .await
        .context("coconutd does not answer")?
        .context("coconutd broke off")
}

/// GET, as a stream.
pub async fn get(socket: &Path, path: &str) -> anyhow::Result<Response<Incoming>> {
    let response = send(socket, Method::GET, path, Vec::new()).await?;
    if !response.status().is_success() {
        bail!("coconutd answered {} to GET {path}", response.status());
    }
    Ok(response)
}

/// GET of a JSON value; None for 404.
pub async fn get_json<T: serde::de::DeserializeOwned>(
    socket: &Path,
    path: &str,
) -> anyhow::Result<Option<T>> {
    let response = send(socket, Method::GET, path, Vec::new()).await?;
    match response.status() {
        StatusCode::NOT_FOUND => Ok(None),
        status if status.is_success() => {
            let bytes = response.into_body().collect().await?.to_bytes();
            Ok(Some(serde_json::from_slice(&bytes)?))
        }
        status => bail!("coconutd answered {status} to GET {path}"),
    }
}

/// POST of a JSON value; done when coconutd says so.
pub async fn post(socket: &Path, path: &str, value: &impl serde::Serialize) -> anyhow::Result<()> {
    let response = send(socket, Method::POST, path, serde_json::to_vec(value)?).await?;
    if !response.status().is_success() {
        bail!("coconutd answered {} to POST {path}", response.status());
    }
    Ok(())
}
