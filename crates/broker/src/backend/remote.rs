//! Any OpenAI-compatible server as a backend. Requests and answers pass through unchanged.

use super::{Backend, ModelCard, Prepared, Start};
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

/// A batching server reads about this many prompt tokens in the time that it takes to write one.
const PROMPT_DISCOUNT: u32 = 8;

/// A server and how to reach it.
pub struct Remote {
    base: String,
    authorization: Option<header::HeaderValue>,
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

impl Remote {
    /// `url` is the server's root, with or without `/v1`; `key` is sent as a bearer token. Over https
    /// the machine's own certificates are trusted (`SSL_CERT_FILE` names others).
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
        let client = Client::builder(TokioExecutor::new()).build(connector);
        let bearer = |key: &str| header::HeaderValue::from_str(&format!("Bearer {key}"));
        let authorization =
            key.map(bearer).transpose().context("the backend's key is not ASCII")?;
        Ok(Self { base, authorization, client })
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

impl Backend for Remote {
    fn prepare(&self, call: &Call, context: Option<u32>) -> Result<Prepared, ApiError> {
        let prompt_tokens = call.guessed_prompt_tokens();
        let asked = prompt_tokens.saturating_add(call.max_tokens.unwrap_or(0));
        if let Some(limit) = context.filter(|limit| asked > *limit) {
            let message = format!(
                "the capability allows {limit} tokens of context, about {asked} were asked for"
            );
            return Err(ApiError::invalid(message).code("context_length_exceeded"));
        }
        let model = call.model.clone();
        Ok(Prepared { model, prompt_tokens, max_tokens: call.max_tokens, prompt: None })
    }

    fn start(&self, call: Call, prepared: Prepared) -> Result<Start<'_>, ApiError> {
        Ok(Start::After(Box::new(move |ticket| {
            ticket.charge((prepared.prompt_tokens / PROMPT_DISCOUNT).max(1));
            Box::pin(self.send(Method::POST, call.endpoint.path(), call.raw))
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
}

fn card(value: &Value) -> Option<ModelCard> {
    Some(ModelCard {
        id: value["id"].as_str()?.to_owned(),
        object: "model",
        created: value["created"].as_u64().unwrap_or(0),
        owned_by: value["owned_by"].as_str().unwrap_or("backend").to_owned(),
    })
}
