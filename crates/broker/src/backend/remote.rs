//! Any OpenAI-compatible server as a backend. What concerns the caller alone passes through; what decides
//! about others is the broker's.

use super::{Backend, ModelCard, Prepared, Start};
use crate::openai::forward::Added;
use crate::openai::{ApiError, Call};
use anyhow::{Context, bail};
use futures_util::future::BoxFuture;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{Method, Request, Uri, header};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use inference::Share;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

/// A batching server reads about this many prompt tokens in the time that it takes to write one.
const PROMPT_DISCOUNT: u32 = 8;

/// A server and how to reach it.
pub struct Remote {
    base: String,
    authorization: Option<header::HeaderValue>,
    /// Of which each tenant's part of the cache is named; none where the server knows no such field.
    salt: Option<[u8; 32]>,
    seen: Mutex<Option<(Instant, Result<(), ApiError>)>>,
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

impl Remote {
    /// `url` is the server's root, with or without `/v1`; `key` is sent as a bearer token. Over https
    /// the machine's own certificates are trusted (`SSL_CERT_FILE` names others).
    /// `salted` where the server keeps one cache for all and separates it by `cache_salt`.
    pub fn new(url: &str, key: Option<&str>, salted: bool) -> anyhow::Result<Self> {
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
        let client = Client::builder(TokioExecutor::new()).build(connector);
        let bearer = |key: &str| header::HeaderValue::from_str(&format!("Bearer {key}"));
        let authorization =
            key.map(bearer).transpose().context("the backend's key is not ASCII")?;
        let salt = if salted { Some(secret()?) } else { None };
        Ok(Self { base, authorization, salt, seen: Mutex::default(), client })
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<hyper::Response<hyper::body::Incoming>, ApiError> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .header(header::CONTENT_TYPE, "application/json");
        if let Some(value) = &self.authorization {
            request = request.header(header::AUTHORIZATION, value);
        }
        let request = request
            .body(Full::new(body))
            .map_err(|e| ApiError::backend(format!("cannot form the request: {e}")))?;
        self.client.request(request).await.map_err(|e| {
            // The client's own error says no more than that connecting failed.
            let cause =
                std::error::Error::source(&e).map_or_else(|| e.to_string(), |s| s.to_string());
            tracing::warn!(error = cause, backend = %self.base, "the backend did not answer");
            ApiError::backend(format!("the backend {} did not answer: {cause}", self.base))
        })
    }
}

impl Remote {
    fn prepared(&self, call: Call, context: Option<u32>) -> Result<Prepared, ApiError> {
        let prompt_tokens = call.guessed_prompt_tokens();
        let room = context.map(|limit| limit.saturating_sub(prompt_tokens));
        let asked = call.max_tokens.unwrap_or(1);
        if let (Some(room), Some(limit)) = (room, context)
            && asked > room
        {
            let asked = prompt_tokens.saturating_add(asked);
            let message = format!(
                "the capability allows {limit} tokens of context, about {asked} were asked for"
            );
            return Err(ApiError::invalid(message).code("context_length_exceeded"));
        }
        let (model, max_tokens) = (call.model.clone(), call.max_tokens.or(room));
        Ok(Prepared { call, model, prompt_tokens, room, max_tokens, prompt: None })
    }

    /// The tenant's part of the server's cache: nobody else can name it.
    fn salt_of(&self, tenant: &str) -> Option<String> {
        let secret = self.salt?;
        let hash = Sha256::new().chain_update(secret).chain_update(tenant).finalize();
        Some(hash.iter().take(SALT).map(|byte| format!("{byte:02x}")).collect())
    }

    async fn look(&self) -> Result<(), ApiError> {
        let asked = tokio::time::timeout(HEALTH, Backend::models(self)).await;
        let late = |_| ApiError::backend(format!("the backend {} does not answer", self.base));
        asked.map_err(late)?.map(drop)
    }
}

/// So long an answer of whether the server is there holds; whoever asks more often costs it nothing.
const FRESH: Duration = Duration::from_secs(1);
/// How long it may take to say so.
const HEALTH: Duration = Duration::from_secs(5);
/// Bytes of a tenant's name for its part of the cache.
const SALT: usize = 16;

fn secret() -> anyhow::Result<[u8; 32]> {
    let mut secret = [0; 32];
    getrandom::fill(&mut secret).context("the system gives no random bytes")?;
    Ok(secret)
}

impl Backend for Remote {
    fn prepare(
        &self,
        call: Call,
        context: Option<u32>,
    ) -> BoxFuture<'_, Result<Prepared, ApiError>> {
        Box::pin(std::future::ready(self.prepared(call, context)))
    }

    fn start(&self, prepared: Prepared, tenant: &str) -> Result<Start<'_>, ApiError> {
        let Prepared { call, prompt_tokens, max_tokens, .. } = prepared;
        let (path, salt) = (call.endpoint.path(), self.salt_of(tenant));
        let added = Added { max_tokens, count_stream: call.stream, cache_salt: salt.as_deref() };
        let body = Bytes::from(call.forwarded(&added));
        Ok(Start::After(Box::new(move |ticket| {
            ticket.charge((prompt_tokens / PROMPT_DISCOUNT).max(1));
            Box::pin(self.send(Method::POST, path, body))
        })))
    }

    fn models(&self) -> BoxFuture<'_, Result<Vec<ModelCard>, ApiError>> {
        Box::pin(async move {
            let answer = self.send(Method::GET, "/v1/models", Bytes::new()).await?;
            let bytes = answer
                .into_body()
                .collect()
                .await
                .map_err(|e| ApiError::backend(format!("the backend broke off: {e}")))?
                .to_bytes();
            let value: Value = serde_json::from_slice(&bytes)
                .map_err(|e| ApiError::backend(format!("the backend's list of models: {e}")))?;
            let empty = Vec::new();
            let list = value["data"].as_array().unwrap_or(&empty);
            Ok(list.iter().filter_map(card).collect())
        })
    }

    fn health(&self) -> BoxFuture<'_, Result<(), ApiError>> {
        Box::pin(async {
            let mut seen = self.seen.lock().await;
            if let Some((at, answer)) = &*seen
                && at.elapsed() < FRESH
            {
                return answer.clone();
            }
            let answer = self.look().await;
            *seen = Some((Instant::now(), answer.clone()));
            answer
        })
    }
}

fn card(value: &Value) -> Option<ModelCard> {
    Some(ModelCard {
        id: value["id"].as_str()?.to_owned(),
        object: "model",
        created: value["created"].as_u64().unwrap_or(0),
        owned_by: value["owned_by"].as_str().unwrap_or("backend").to_owned(),
    })
}
