//! Answers on their way to the caller: from the engine's events, or passed through from a backend.

use crate::openai::answer::Answer;
use crate::openai::{ApiError, Endpoint};
use crate::session::Session;
use crate::sse::Watcher;
use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use http_body_util::BodyExt;
use inference::Event;
use std::convert::Infallible;
use tokio::sync::mpsc::UnboundedReceiver;

/// How the caller wants an answer of the embedded engine.
pub struct AnswerForm {
    /// Which endpoint was called.
    pub endpoint: Endpoint,
    /// The model that answers.
    pub model: String,
    /// As an event stream.
    pub stream: bool,
    /// With the usage at the stream's end.
    pub include_usage: bool,
}

/// Answers with the engine's events.
pub async fn events(
    events: UnboundedReceiver<Event>,
    form: AnswerForm,
    mut session: Session,
) -> Response {
    session.hand_over();
    let answer = Answer::new(form.endpoint, &form.model);
    if form.stream {
        let state = Streaming { events, answer, session, usage: form.include_usage, over: false };
        let body = stream::unfold(state, |mut s| async move { s.next().await.map(|b| (b, s)) });
        return event_stream(Body::from_stream(body));
    }
    match collect(events, &answer, &mut session).await {
        Ok(body) => json(StatusCode::OK, Bytes::from(body)),
        Err(error) => {
            session.failed(&error.message);
            error.into_response()
        }
    }
}

async fn collect(
    mut events: UnboundedReceiver<Event>,
    answer: &Answer,
    session: &mut Session,
) -> Result<String, ApiError> {
    let mut text = String::new();
    while let Some(event) = events.recv().await {
        match event {
            Event::Token { text: more } => {
                session.wrote(1);
                text.push_str(&more);
            }
            Event::Done { finish, .. } => {
                return Ok(answer.whole(&text, finish, session.complete()));
            }
            Event::Failed(why) => return Err(ApiError::backend(why)),
        }
    }
    Err(ApiError::backend("the engine stopped"))
}

struct Streaming {
    events: UnboundedReceiver<Event>,
    answer: Answer,
    session: Session,
    usage: bool,
    over: bool,
}

impl Streaming {
    /// The next piece of the stream. An error in mid-stream is sent as OpenAI sends it: as an event.
    async fn next(&mut self) -> Option<Result<Bytes, Infallible>> {
        while !self.over {
            match self.events.recv().await {
                Some(Event::Token { text }) => {
                    self.session.wrote(1);
                    if !text.is_empty() {
                        return Some(Ok(self.answer.text(&text)));
                    }
                }
                Some(Event::Done { finish, .. }) => {
                    self.over = true;
                    let usage = self.session.complete();
                    return Some(Ok(self.answer.end(finish, self.usage.then_some(usage))));
                }
                Some(Event::Failed(why)) => return Some(Ok(self.broken(&why))),
                None => return Some(Ok(self.broken("the engine stopped"))),
            }
        }
        None
    }

    fn broken(&mut self, why: &str) -> Bytes {
        self.over = true;
        self.session.failed(why);
        format!("data: {}\n\n", ApiError::backend(why).body()).into()
    }
}

/// Passes a backend's answer through, counting its tokens.
pub async fn upstream(
    answer: hyper::Response<hyper::body::Incoming>,
    streamed: bool,
    mut session: Session,
) -> Response {
    let status = answer.status();
    let kind = answer.headers().get(header::CONTENT_TYPE).cloned();
    if streamed && status.is_success() {
        let state = Passing { body: answer.into_body(), watcher: Watcher::default(), session };
        let body = stream::unfold(state, |mut s| async move { s.next().await.map(|b| (b, s)) });
        return event_stream(Body::from_stream(body));
    }
    let bytes = match answer.into_body().collect().await {
        Ok(whole) => whole.to_bytes(),
        Err(error) => {
            session.failed("the backend broke off");
            return ApiError::backend(format!("the backend broke off: {error}")).into_response();
        }
    };
    if status.is_success() {
        if let Some((prompt, completion)) = crate::sse::usage_in(&bytes) {
            session.wrote(completion.min(1));
            session.counted(prompt, completion);
        }
        session.complete();
    } else {
        session.failed(&format!("the backend answered {status}"));
    }
    let mut response = json(status, bytes);
    if let Some(kind) = kind {
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
    }
    response
}

struct Passing {
    body: hyper::body::Incoming,
    watcher: Watcher,
    session: Session,
}

impl Passing {
    async fn next(&mut self) -> Option<Result<Bytes, hyper::Error>> {
        loop {
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    let Ok(data) = frame.into_data() else { continue };
                    let tokens = self.watcher.see(&data);
                    self.session.wrote_uncharged(tokens);
                    if self.watcher.done() {
                        self.finish();
                    }
                    return Some(Ok(data));
                }
                Some(Err(error)) => {
                    self.session.failed("the backend broke off");
                    return Some(Err(error));
                }
                None => {
                    self.finish();
                    return None;
                }
            }
        }
    }

    fn finish(&mut self) {
        if let Some((prompt, completion)) = self.watcher.usage() {
            self.session.counted(prompt, completion);
        }
        self.session.complete();
    }
}

fn event_stream(body: Body) -> Response {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

fn json(status: StatusCode, body: Bytes) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}
