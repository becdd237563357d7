//! One keep-alive connection to an OpenAI-compatible server, over TCP or a UNIX socket.

use anyhow::{Context, bail};
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::{TcpStream, UnixStream};

/// Where the server is, and as whom to ask.
#[derive(Clone, Debug)]
pub struct Target {
    /// `http://HOST:PORT` or `unix:/PATH`.
    pub url: String,
    /// Model to ask for.
    pub model: String,
    /// Tenant to name in `X-Tenant-ID`; none sends no such header.
    pub tenant: Option<String>,
}

/// What to ask.
#[derive(Clone, Copy, Debug)]
pub struct Ask {
    /// Words in the prompt.
    pub prompt_words: usize,
    /// Tokens to write, exactly where the server knows `ignore_eos`.
    pub max_tokens: u32,
    /// Answer as an event stream.
    pub stream: bool,
    /// Varies the prompt.
    pub seed: u64,
}

/// What came back.
#[derive(Clone, Copy, Debug, Default)]
pub struct Got {
    /// HTTP status.
    pub status: u16,
    /// From sending to the first text; the whole answer's time where it is not streamed.
    pub first: Duration,
    /// Events with text, or tokens by the server's usage.
    pub tokens: u64,
    /// Tokens of the prompt, if the server has told.
    pub prompt_tokens: u64,
}

/// Called at every token, as it arrives.
pub type Meter = Arc<dyn Fn() + Send + Sync>;

/// A connection.
pub struct Client {
    target: Target,
    meter: Meter,
    sender: Option<SendRequest<Full<Bytes>>>,
}

/// Header that names the tenant, for servers that believe it.
const TENANT: &str = "x-tenant-id";
const WORDS: [&str; 24] = [
    "the", "module", "reads", "a", "file", "and", "writes", "a", "report", "of", "the", "function",
    "that", "returns", "an", "error", "when", "the", "test", "covers", "the", "long", "input",
    "list",
];

impl Client {
    /// Connects at the first request.
    pub fn new(target: Target) -> Self {
        Self { target, meter: Arc::new(|| ()), sender: None }
    }

    /// Tells `meter` of every token.
    pub fn with_meter(self, meter: Meter) -> Self {
        Self { meter, ..self }
    }

    async fn connect(&self) -> anyhow::Result<SendRequest<Full<Bytes>>> {
        let url = &self.target.url;
        let lost = || format!("cannot connect to {url}");
        if let Some(path) = url.strip_prefix("unix:") {
            let io = TokioIo::new(UnixStream::connect(path).await.with_context(lost)?);
            let (sender, connection) = hyper::client::conn::http1::handshake(io).await?;
            tokio::spawn(connection);
            return Ok(sender);
        }
        let address = url.strip_prefix("http://").map(|a| a.split('/').next().unwrap_or(a));
        let Some(address) = address else { bail!("{url} is neither http:// nor unix:") };
        let stream = TcpStream::connect(address).await.with_context(lost)?;
        stream.set_nodelay(true)?;
        let (sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(sender)
    }

    /// Sends one chat completion and reads the answer to its end.
    pub async fn chat(&mut self, ask: Ask) -> anyhow::Result<Got> {
        let prompt: Vec<&str> =
            (0..ask.prompt_words).map(|i| WORDS[(i + ask.seed as usize) % WORDS.len()]).collect();
        let body = json!({
            "model": self.target.model,
            "messages": [{ "role": "user", "content": prompt.join(" ") }],
            "max_tokens": ask.max_tokens,
            "stream": ask.stream,
            "ignore_eos": true,
            "seed": ask.seed,
        });
        let mut request = Request::post("/v1/chat/completions")
            .header("host", "localhost")
            .header("content-type", "application/json");
        if let Some(tenant) = &self.target.tenant {
            request = request.header(TENANT, tenant);
        }
        let request = request.body(Full::new(Bytes::from(body.to_string())))?;
        let mut sender = match self.sender.take() {
            Some(sender) if !sender.is_closed() => sender,
            _ => self.connect().await?,
        };
        let sent = Instant::now();
        let answer = sender.send_request(request).await?;
        let mut got = Got { status: answer.status().as_u16(), ..Got::default() };
        let stream = ask.stream && got.status == 200;
        read(answer.into_body(), sent, stream, &mut got, &self.meter).await?;
        if sender.ready().await.is_ok() {
            self.sender = Some(sender);
        }
        Ok(got)
    }

    /// The first model that the server names to this tenant; to nobody's, if there is none.
    pub async fn first_model(&mut self) -> anyhow::Result<String> {
        let mut sender = self.connect().await?;
        // Who asks for the list is asked for a name too, where names are believed.
        let tenant = self.target.tenant.as_deref().unwrap_or("nobody");
        let request = Request::get("/v1/models").header("host", "localhost").header(TENANT, tenant);
        let answer = sender.send_request(request.body(Full::default())?).await?;
        let bytes = answer.into_body().collect().await?.to_bytes();
        let list: Value = serde_json::from_slice(&bytes)?;
        let name = list["data"][0]["id"].as_str().context("the server names no model")?;
        Ok(name.to_owned())
    }
}

async fn read(
    mut body: Incoming,
    sent: Instant,
    stream: bool,
    got: &mut Got,
    meter: &Meter,
) -> anyhow::Result<()> {
    let mut rest = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        rest.extend_from_slice(&data);
        if !stream {
            continue;
        }
        while let Some(end) = rest.windows(2).position(|w| w == b"\n\n") {
            let event: Vec<u8> = rest.drain(..end + 2).collect();
            if has_text(&event) {
                got.tokens += 1;
                meter();
                if got.tokens == 1 {
                    got.first = sent.elapsed();
                }
            }
        }
    }
    if !stream {
        got.first = sent.elapsed();
        let answer: Value = serde_json::from_slice(&rest).unwrap_or_default();
        got.tokens = answer["usage"]["completion_tokens"].as_u64().unwrap_or(0);
        got.prompt_tokens = answer["usage"]["prompt_tokens"].as_u64().unwrap_or(0);
    }
    Ok(())
}

fn has_text(event: &[u8]) -> bool {
    let Some(json) = event.strip_prefix(b"data: ") else { return false };
    let Ok(chunk) = serde_json::from_slice::<Value>(json) else { return false };
    let choice = &chunk["choices"][0];
    let text = choice["delta"]["content"].as_str().or(choice["text"].as_str());
    text.is_some_and(|t| !t.is_empty())
}
