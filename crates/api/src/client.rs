//! The blocking client: one HTTP/1.1 connection over the daemon's UNIX socket for each request.

use crate::audit::Record;
use crate::feed::FeedLine;
use crate::{AgentList, ErrorBody, ErrorCode};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde::{Serialize, de::DeserializeOwned};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::net::UnixStream;
use tokio::runtime::{Builder, Runtime};

/// Longest line of a stream that is taken: every agent there may be, as the first line of a feed.
const LINE_MAX: usize = 64 << 20;
/// A coconutd that is restarted is there again within this time: as long as the service manager gives it for a start
/// (`TimeoutStartSec`), for who gives up ends the agent that is lent a terminal.
const COMES_BACK: Duration = Duration::from_secs(180);
/// Who waits for it is told when it takes longer than a restart.
const TAKES_LONG: Duration = Duration::from_secs(5);
/// Between two looks at whether it is.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Why a request got no answer that could be used.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens, or the socket may not be opened.
    #[error("cannot reach coconutd at {}", socket.display())]
    Unreachable {
        /// The socket that was tried.
        socket: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// coconutd answered and said no.
    #[error(transparent)]
    Refused(#[from] ErrorBody),
    /// The connection broke in the middle of an answer.
    #[error("coconutd broke off its answer: what was asked may or may not have been done")]
    Broken(#[source] hyper::Error),
    /// The answer does not fit the schema.
    #[error("coconutd answered in a way that this version does not understand")]
    Garbled(#[source] serde_json::Error),
    /// The client's own event loop could not be made.
    #[error("cannot start the client")]
    Local(#[source] std::io::Error),
}

impl ClientError {
    /// The stable code, for the exit status.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Unreachable { source, .. } if is_forbidden(source) => ErrorCode::Denied,
            Self::Unreachable { .. } | Self::Broken(_) => ErrorCode::Unavailable,
            Self::Refused(body) => body.code,
            Self::Garbled(_) | Self::Local(_) => ErrorCode::Failed,
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unreachable { source, .. } if is_forbidden(source) => Some(
                "an agent reaches the daemon only if it holds agent.spawn, agent.signal or \
                 audit.read"
                    .into(),
            ),
            Self::Unreachable { .. } => Some(
                "start it with `systemctl start coconutd`; `coconut doctor` says what this \
                 machine lacks"
                    .into(),
            ),
            Self::Refused(body) => body.hint.clone(),
            Self::Broken(_) => Some(
                "it may have been restarted, which ends no agent: look with `coconut ps` or `coconut cap ls` \
                 before you ask again"
                    .into(),
            ),
            Self::Garbled(_) => {
                Some("are coconut and coconutd of one version? `coconut --version`".into())
            }
            Self::Local(_) => None,
        }
    }
}

/// Anybody may open the socket but an agent without the right to.
fn is_forbidden(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::PermissionDenied
}

/// Talks to one coconutd.
pub struct Client {
    runtime: Runtime,
    socket: PathBuf,
    away: fn(),
}

impl Client {
    /// A client of the daemon at `socket`; nothing is opened yet.
    ///
    /// # Errors
    /// When the process may not have another event loop (descriptors).
    pub fn new(socket: &Path) -> Result<Self, ClientError> {
        let runtime =
            Builder::new_current_thread().enable_all().build().map_err(ClientError::Local)?;
        Ok(Self { runtime, socket: socket.to_owned(), away: || {} })
    }

    /// Has `away` called when a request that waits over a restart waits for longer than one takes.
    pub fn telling(self, away: fn()) -> Self {
        Self { away, ..self }
    }

    /// `GET` of a JSON document.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.call::<(), T>(Method::GET, path, None)
    }

    /// The same for an answer that may take as long as an agent lives: if coconutd is restarted meanwhile, the
    /// next one is asked.
    ///
    /// # Errors
    /// See [`ClientError`]; when coconutd does not come back.
    pub fn wait<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        let mut lost = Lost::of(self);
        loop {
            match self.get(path) {
                Err(error) if lost.comes_back(&error) => {}
                other => return other,
            }
        }
    }

    /// Every agent that the caller may see, page by page; with `all` ended ones too.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn agents(&self, all: bool) -> Result<AgentList, ClientError> {
        let mut list = AgentList::default();
        let mut after: Option<String> = None;
        loop {
            let mut pairs = Vec::new();
            pairs.extend(all.then_some(("all", "true")));
            pairs.extend(after.as_deref().map(|after| ("after", after)));
            let page: AgentList = self.get(&query("/v1/agents", &pairs))?;
            list.agents.extend(page.agents);
            after = page.next;
            if after.is_none() {
                return Ok(list);
            }
        }
    }

    /// Records of the log, the oldest first. An answer that is broken off is asked for again from
    /// there on, as long as each gets further; one that follows the log, as long as coconutd comes back.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn records(
        &self,
        pairs: &[(&str, &str)],
        mut limit: Option<u64>,
        mut each: impl FnMut(Record) -> ControlFlow<()>,
    ) -> Result<(), ClientError> {
        let mut from: Option<u64> = None;
        let mut lost = Lost::of(self);
        let follows = pairs.contains(&("follow", "true"));
        loop {
            let numbers = [("from", from), ("limit", limit)];
            let numbers = numbers.map(|(name, n)| (name, n.map(|n| n.to_string())));
            let given = numbers.iter().filter_map(|(name, n)| n.as_deref().map(|n| (*name, n)));
            let all: Vec<(&str, &str)> = pairs.iter().copied().chain(given).collect();
            let before = from;
            let answer = self.lines(&query("/v1/audit/records", &all), |record: Record| {
                from = Some(record.sequence + 1);
                limit = limit.map(|n| n.saturating_sub(1));
                each(record)
            });
            match answer {
                Err(ClientError::Broken(_)) if limit == Some(0) || !(from > before || follows) => {
                    return answer;
                }
                Err(error) if lost.comes_back(&error) => {}
                other => return other,
            }
        }
    }

    /// What there is and every change of it, until `each` has enough: a snapshot, then deltas. A new snapshot follows
    /// where the feed was cut off, and where coconutd was restarted. With `all`, ended agents are in it too.
    ///
    /// # Errors
    /// See [`ClientError`]; when coconutd does not come back.
    pub fn feed(
        &self,
        all: bool,
        mut each: impl FnMut(FeedLine) -> ControlFlow<()>,
    ) -> Result<(), ClientError> {
        let path = query("/v1/feed", if all { &[("all", "true")] } else { &[] });
        let (mut lost, mut enough) = (Lost::of(self), false);
        loop {
            let answer = self.lines(&path, |line: FeedLine| {
                let flow = each(line);
                enough = flow.is_break();
                flow
            });
            match answer {
                Ok(()) if enough => return Ok(()),
                Ok(()) => std::thread::sleep(LOOK_AGAIN),
                Err(error) if lost.comes_back(&error) => {}
                other => return other,
            }
        }
    }

    /// `POST` of a JSON document; `()` reads an empty answer.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn post<B: Serialize, T: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
    ) -> Result<T, ClientError> {
        self.call(Method::POST, path, Some(body))
    }

    /// `PUT` of a JSON document.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn put<B: Serialize, T: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
    ) -> Result<T, ClientError> {
        self.call(Method::PUT, path, Some(body))
    }

    /// Reads a stream of bytes until its end, or until `each` has enough.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn bytes(
        &self,
        path: &str,
        mut each: impl FnMut(&[u8]) -> ControlFlow<()>,
    ) -> Result<(), ClientError> {
        self.runtime.block_on(async {
            let mut answer = self.send::<()>(Method::GET, path, None).await?;
            while let Some(frame) = answer.frame().await {
                let frame = frame.map_err(ClientError::Broken)?;
                if let Some(data) = frame.data_ref()
                    && each(data).is_break()
                {
                    break;
                }
            }
            Ok(())
        })
    }

    /// Reads a stream of one JSON document a line.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn lines<T: DeserializeOwned>(
        &self,
        path: &str,
        mut each: impl FnMut(T) -> ControlFlow<()>,
    ) -> Result<(), ClientError> {
        let mut rest: Vec<u8> = Vec::new();
        let mut garbled = None;
        self.bytes(path, |data| {
            let mut looked = rest.len();
            rest.extend_from_slice(data);
            // What was there before has no end of a line.
            while let Some(end) = rest.iter().skip(looked).position(|b| *b == b'\n') {
                let end = looked + end;
                looked = 0;
                let line: Vec<u8> = rest.drain(..=end).collect();
                match serde_json::from_slice(&line) {
                    Ok(item) => {
                        if each(item).is_break() {
                            return ControlFlow::Break(());
                        }
                    }
                    Err(error) => {
                        garbled = Some(error);
                        return ControlFlow::Break(());
                    }
                }
            }
            if rest.len() > LINE_MAX { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        garbled.map_or(Ok(()), |error| Err(ClientError::Garbled(error)))
    }

    fn call<B: Serialize, T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&B>,
    ) -> Result<T, ClientError> {
        self.runtime.block_on(async {
            let answer = self.send(method, path, body).await?;
            let bytes = answer.into_body().collect().await.map_err(ClientError::Broken)?.to_bytes();
            let bytes = if bytes.is_empty() { Bytes::from_static(b"null") } else { bytes };
            serde_json::from_slice(&bytes).map_err(ClientError::Garbled)
        })
    }

    async fn send<B: Serialize>(
        &self,
        method: Method,
        path: &str,
        body: Option<&B>,
    ) -> Result<Response<Incoming>, ClientError> {
        let stream = UnixStream::connect(&self.socket)
            .await
            .map_err(|source| ClientError::Unreachable { socket: self.socket.clone(), source })?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(ClientError::Broken)?;
        tokio::spawn(connection);
        let body = match body {
            Some(body) => serde_json::to_vec(body).map_err(ClientError::Garbled)?,
            None => Vec::new(),
        };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "coconutd")
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| ErrorBody::new(ErrorCode::Usage, format!("bad request: {error}")))?;
        let answer = sender.send_request(request).await.map_err(ClientError::Broken)?;
        if answer.status().is_success() { Ok(answer) } else { Err(refusal(answer).await) }
    }
}

/// Whether a coconutd that was lost comes back: only where there was one, else nobody starts it.
struct Lost {
    since: Option<Instant>,
    away: Option<fn()>,
    tell: fn(),
}

impl Lost {
    fn of(client: &Client) -> Lost {
        Lost { since: None, away: None, tell: client.away }
    }

    /// After an error: waits a little, if it is worth to ask again.
    fn comes_back(&mut self, error: &ClientError) -> bool {
        match error {
            // It was there: what is lost now is lost anew.
            ClientError::Broken(_) => {
                (self.since, self.away) = (Some(Instant::now()), Some(self.tell));
            }
            error if error.code() == ErrorCode::Unavailable => {}
            _ => return false,
        }
        let Some(since) = self.since.filter(|since| since.elapsed() < COMES_BACK) else {
            return false;
        };
        if since.elapsed() > TAKES_LONG
            && let Some(tell) = self.away.take()
        {
            tell();
        }
        std::thread::sleep(LOOK_AGAIN);
        true
    }
}

/// Reads the error body of an answer that is not a success; anything else becomes its status line.
async fn refusal(answer: Response<Incoming>) -> ClientError {
    let status = answer.status();
    let bytes = match answer.into_body().collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => return ClientError::Broken(error),
    };
    let body = serde_json::from_slice(&bytes).unwrap_or_else(|_| {
        let said = String::from_utf8_lossy(&bytes);
        let said = said.trim();
        let code = ErrorCode::from_http_status(status.as_u16());
        let text = if said.is_empty() { status.to_string() } else { format!("{status}: {said}") };
        ErrorBody::new(code, text)
    });
    ClientError::Refused(body)
}

/// A path's query, percent-encoded: `query("/v1/agents", &[("all", "true")])`.
pub fn query(path: &str, pairs: &[(&str, &str)]) -> String {
    let mut out = path.to_owned();
    for (i, (name, value)) in pairs.iter().enumerate() {
        out.push(if i == 0 { '?' } else { '&' });
        out.push_str(name);
        out.push('=');
        out.push_str(&escape(value));
    }
    out
}

/// Percent-encodes everything but RFC 3986's unreserved characters.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(byte));
            }
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_escaped() {
        let made = query("/v1/x", &[("a", "b c"), ("d", "/é&")]);
        assert_eq!(made, "/v1/x?a=b%20c&d=%2F%C3%A9%26");
    }

    #[test]
    fn a_daemon_that_is_not_there_is_unavailable_and_says_what_to_do() {
        let client = Client::new(Path::new("/nonexistent/api.sock")).unwrap();
        let error = client.get::<crate::Status>("/v1/status").unwrap_err();
        assert_eq!(error.code(), ErrorCode::Unavailable);
        assert!(error.hint().unwrap().contains("systemctl start coconutd"));
    }
}
