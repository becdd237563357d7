//! Any OpenAI-compatible server as a backend. What concerns the caller alone passes through; what decides
//! about others is the broker's.

mod client;
mod counted;
mod forward;
mod passing;

use anyhow::Context;
use client::Client;
use counted::Counting;
use forward::Added;
use futures_util::future::BoxFuture;
use futures_util::{StreamExt, stream};
use hyper::body::Bytes;
use ports::{Answer, Backend, Failure, For, ModelCard, Payment, Prepared, Request, Start};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Mutex, oneshot};
use uuid::Uuid;

/// So long an answer of whether the server is there holds; whoever asks more often costs it nothing.
const FRESH: Duration = Duration::from_secs(1);
/// How long it may take to say so.
const HEALTH: Duration = Duration::from_secs(5);
/// Bytes of a tenant's name for its part of the cache.
const SALT: usize = 16;

/// A server and how to reach it.
pub struct Remote {
    client: Arc<Client>,
    /// Of which each tenant's part of the cache is named; none where the server knows no such field.
    salt: Option<[u8; 32]>,
    seen: Mutex<Option<(Instant, Result<(), Failure>)>>,
}

/// A call that is ready to be sent.
struct Sending {
    client: Arc<Client>,
    path: &'static str,
    call: Uuid,
    body: Bytes,
    form: passing::Form,
    prompt_tokens: u32,
}

impl Remote {
    /// `url` is the server's root, with or without `/v1`; `key` is sent as a bearer token. Over https
    /// the machine's own certificates are trusted (`SSL_CERT_FILE` names others).
    /// `salted` where the server keeps one cache for all and separates it by `cache_salt`.
    ///
    /// # Errors
    /// When the URL is none, or there are no certificates or random bytes.
    pub fn new(url: &str, key: Option<&str>, salted: bool) -> anyhow::Result<Self> {
        let client = Arc::new(Client::new(url, key)?);
        let salt = if salted { Some(secret()?) } else { None };
        Ok(Self { client, salt, seen: Mutex::default() })
    }

    fn prepared(request: Request, context: Option<u32>) -> Result<Prepared, Failure> {
        let prompt_tokens = request.guessed_prompt_tokens();
        let room = context.map(|limit| limit.saturating_sub(prompt_tokens));
        let asked = request.max_tokens.unwrap_or(1);
        if let (Some(room), Some(limit)) = (room, context)
            && asked > room
        {
            let asked = prompt_tokens.saturating_add(asked);
            let message = format!(
                "the capability allows {limit} tokens of context, about {asked} were asked for"
            );
            return Err(Failure::invalid(message).code("context_length_exceeded"));
        }
        let max_tokens = request.max_tokens.or(room);
        Ok(Prepared { request, prompt_tokens, max_tokens, prompt: None })
    }

    /// The tenant's part of the server's cache: nobody else can name it.
    fn salt_of(&self, tenant: &str) -> Option<String> {
        let secret = self.salt?;
        let hash = Sha256::new().chain_update(secret).chain_update(tenant).finalize();
        Some(hash.iter().take(SALT).map(|byte| format!("{byte:02x}")).collect())
    }

    async fn look(&self) -> Result<(), Failure> {
        let asked = tokio::time::timeout(HEALTH, self.client.models()).await;
        let late = |_| Failure::backend(format!("{} does not answer", self.client.base()));
        asked.map_err(late)?.map(drop)
    }
}

fn secret() -> anyhow::Result<[u8; 32]> {
    let mut secret = [0; 32];
    getrandom::fill(&mut secret).context("the system gives no random bytes")?;
    Ok(secret)
}

impl Sending {
    /// Sends it when it is its turn.
    async fn send(self, turn: oneshot::Receiver<Payment>) -> Result<Answer, Failure> {
        let payment = turn.await.map_err(|_| Failure::unavailable("the call lost its place"))?;
        let mut counting = Counting::new(payment, self.prompt_tokens);
        let answer = self.client.call(self.path, self.call, self.body).await?;
        if !answer.status().is_success() {
            return Err(passing::refused(answer).await);
        }
        counting.read();
        Ok(passing::pass(answer, self.form, counting))
    }
}

impl Backend for Remote {
    fn prepare(
        &self,
        request: Request,
        context: Option<u32>,
    ) -> BoxFuture<'_, Result<Prepared, Failure>> {
        Box::pin(std::future::ready(Self::prepared(request, context)))
    }

    fn start(&self, prepared: Prepared, whom: For<'_>) -> Result<Start, Failure> {
        let Prepared { request, prompt_tokens, max_tokens, .. } = prepared;
        let (path, salt) = (request.endpoint.path(), self.salt_of(whom.tenant));
        let form = passing::Form { stream: request.stream, include_usage: request.include_usage };
        let added = Added { max_tokens, count_stream: form.stream, cache_salt: salt.as_deref() };
        let body = Bytes::from(forward::body(request.fields, &added));
        let client = self.client.clone();
        let sending = Sending { client, path, call: whom.call, body, form, prompt_tokens };
        let (turn, came) = oneshot::channel();
        let answer = stream::once(sending.send(came)).flat_map(|sent| match sent {
            Ok(answer) => answer,
            Err(failure) => stream::iter([Err(failure)]).boxed(),
        });
        // Nobody waits for it any more: then it gives its place up.
        let begin = Box::new(|payment| drop(turn.send(payment)));
        Ok(Start { begin, answer: answer.boxed() })
    }

    fn models(&self) -> BoxFuture<'_, Result<Vec<ModelCard>, Failure>> {
        Box::pin(self.client.models())
    }

    fn health(&self) -> BoxFuture<'_, Result<(), Failure>> {
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

    fn yields(&self) -> bool {
        false
    }
}
