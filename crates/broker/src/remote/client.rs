//! HTTP to another server.

use anyhow::{Context, bail};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Request, Response, Uri, header};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use ports::{Failure, ModelCard};
use serde_json::Value;
use uuid::Uuid;

/// By which the server's own log may name the call.
const REQUEST_ID: &str = "x-request-id";

/// A server and how to reach it.
pub struct Client {
    base: String,
    authorization: Option<header::HeaderValue>,
    http: legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

impl Client {
    /// `url` is the server's root, with or without `/v1`; `key` is sent as a bearer token.
    pub fn new(url: &str, key: Option<&str>) -> anyhow::Result<Self> {
        let base = url.trim_end_matches('/').trim_end_matches("/v1").to_owned();
        let uri: Uri = base.parse().with_context(|| format!("{url} is not a URL"))?;
        match uri.scheme_str() {
            Some("http" | "https") => {}
            _ => bail!("{url} is no URL\nhint: write http://HOST:PORT or https://HOST"),
        }
        let mut tcp = HttpConnector::new();
        tcp.set_nodelay(true);
        tcp.enforce_http(false);
        let connector = HttpsConnectorBuilder::new()
            .with_native_roots()
            .context("no certificates to trust\nhint: install ca-certificates")?
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        let http = legacy::Client::builder(TokioExecutor::new()).build(connector);
        let bearer = |key: &str| header::HeaderValue::from_str(&format!("Bearer {key}"));
        let authorization =
            key.map(bearer).transpose().context("the backend's key is not ASCII")?;
        Ok(Self { base, authorization, http })
    }

    /// The server's root.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Sends a call.
    pub async fn call(
        &self,
        path: &str,
        call: Uuid,
        body: Bytes,
    ) -> Result<Response<Incoming>, Failure> {
        self.send(Method::POST, path, Some(call), body).await
    }

    /// The models that the server has.
    pub async fn models(&self) -> Result<Vec<ModelCard>, Failure> {
        let answer = self.send(Method::GET, "/v1/models", None, Bytes::new()).await?;
        let (base, status) = (&self.base, answer.status());
        if !status.is_success() {
            return Err(Failure::backend(format!("{base} answered {status} to GET /v1/models")));
        }
        let broken = |e| Failure::backend(format!("{base} broke off: {e}"));
        let bytes = answer.into_body().collect().await.map_err(broken)?.to_bytes();
        let value: Value = serde_json::from_slice(&bytes)
            .map_err(|e| Failure::backend(format!("the list of models of {base}: {e}")))?;
        Ok(value["data"].as_array().into_iter().flatten().filter_map(card).collect())
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        call: Option<Uuid>,
        body: Bytes,
    ) -> Result<Response<Incoming>, Failure> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .header(header::CONTENT_TYPE, "application/json");
        if let Some(value) = &self.authorization {
            request = request.header(header::AUTHORIZATION, value);
        }
        if let Some(call) = call {
            request = request.header(REQUEST_ID, call.to_string());
        }
        let request = request
            .body(Full::new(body))
            .map_err(|e| Failure::backend(format!("cannot form the request: {e}")))?;
        self.http.request(request).await.map_err(|e| {
            // The client's own error says no more than that connecting failed.
            let cause =
                std::error::Error::source(&e).map_or_else(|| e.to_string(), |s| s.to_string());
            tracing::warn!(error = cause, backend = %self.base, "the backend did not answer");
            Failure::backend(format!("the backend {} did not answer: {cause}", self.base))
        })
    }
}

fn card(value: &Value) -> Option<ModelCard> {
    Some(ModelCard {
        id: value["id"].as_str()?.to_owned(),
        created: value["created"].as_u64().unwrap_or(0),
        owned_by: value["owned_by"].as_str().unwrap_or("backend").to_owned(),
    })
}
