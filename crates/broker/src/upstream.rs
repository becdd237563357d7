//! Another server's answer on its way to the caller: passed through, and counted.

use crate::backend::Upstream;
use crate::counted::{Chunk, Counted};
use crate::openai::ApiError;
use crate::respond::{AnswerForm, event_stream, json};
use crate::session::Session;
use axum::body::Body;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use eventsource_stream::{EventStream, Eventsource};
use futures_util::{StreamExt, stream};
use http_body_util::{BodyDataStream, BodyExt};
use hyper::body::Incoming;
use serde_json::Value;
use std::convert::Infallible;

/// A stream's last event.
const DONE: &str = "[DONE]";

/// Passes a backend's answer through.
pub async fn pass(answer: Upstream, form: AnswerForm, session: Session) -> Response {
    if form.stream && answer.status().is_success() {
        let events = answer.into_body().into_data_stream().eventsource();
        let state = Passing { events, session, form, counted: None, over: false };
        let body = stream::unfold(state, |mut s| async move { s.next().await.map(|b| (b, s)) });
        return event_stream(Body::from_stream(body));
    }
    whole(answer, session).await
}

async fn whole(answer: Upstream, mut session: Session) -> Response {
    let (head, body) = answer.into_parts();
    let collected = tokio::select! {
        collected = body.collect() => collected,
        lost = session.lost() => {
            session.failed(&lost.message);
            return lost.into_response();
        }
    };
    let bytes = match collected {
        Ok(whole) => whole.to_bytes(),
        Err(error) => {
            session.failed("the backend broke off");
            return ApiError::backend(format!("the backend broke off: {error}")).into_response();
        }
    };
    if head.status.is_success() {
        let chunk = Chunk::of(&bytes);
        if let Some(Counted { prompt_tokens, completion_tokens }) = chunk.usage {
            session.wrote(completion_tokens.min(1));
            session.counted(prompt_tokens, completion_tokens);
        } else {
            session.wrote_uncharged(chunk.guessed());
        }
        session.complete();
    } else {
        session.failed(&format!("the backend answered {}", head.status));
    }
    let mut response = json(head.status, bytes);
    for name in [header::CONTENT_TYPE, header::RETRY_AFTER] {
        if let Some(value) = head.headers.get(&name) {
            response.headers_mut().insert(name, value.clone());
        }
    }
    response
}

struct Passing {
    events: EventStream<BodyDataStream<Incoming>>,
    session: Session,
    form: AnswerForm,
    /// The newest count that the backend has sent.
    counted: Option<Counted>,
    over: bool,
}

impl Passing {
    /// The next piece of the stream. Its end, or the backend's, is told as an event: a caller that only sees
    /// the connection closed cannot know that something is missing.
    async fn next(&mut self) -> Option<Result<Bytes, Infallible>> {
        while !self.over {
            let event = tokio::select! {
                biased;
                lost = self.session.lost() => return Some(Ok(self.broken(&lost))),
                event = self.events.next() => event,
            };
            match event {
                Some(Ok(event)) if event.data == DONE => {
                    self.finish();
                    return Some(Ok(format!("data: {DONE}\n\n").into()));
                }
                Some(Ok(event)) => {
                    if let Some(bytes) = self.see(&event.data) {
                        return Some(Ok(bytes));
                    }
                }
                Some(Err(error)) => {
                    let why = format!("the backend broke off: {error}");
                    return Some(Ok(self.broken(&ApiError::backend(why))));
                }
                None => self.finish(),
            }
        }
        None
    }

    /// Counts an event; what the caller gets of it.
    fn see(&mut self, data: &str) -> Option<Bytes> {
        let chunk = Chunk::of(data.as_bytes());
        self.session.wrote_uncharged(chunk.guessed());
        self.counted = chunk.usage.or(self.counted);
        if self.form.include_usage || !data.contains("\"usage\"") {
            return Some(event(data));
        }
        // We asked for it, the caller has not.
        if chunk.only_counts() {
            return None;
        }
        let Ok(Value::Object(mut fields)) = serde_json::from_str(data) else {
            return Some(event(data));
        };
        fields.remove("usage");
        Some(event(&Value::Object(fields).to_string()))
    }

    fn broken(&mut self, why: &ApiError) -> Bytes {
        self.settle();
        self.over = true;
        self.session.failed(&why.message);
        event(&why.body())
    }

    fn finish(&mut self) {
        self.settle();
        self.over = true;
        self.session.complete();
    }

    /// The backend's own count is better than ours.
    fn settle(&mut self) {
        if let Some(Counted { prompt_tokens, completion_tokens }) = self.counted {
            self.session.counted(prompt_tokens, completion_tokens);
        }
    }
}

/// An event of the stream, as the HTML standard writes it (section 9.2, server-sent events).
fn event(data: &str) -> Bytes {
    let lines: String = data.lines().map(|line| format!("data: {line}\n")).collect();
    format!("{lines}\n").into()
}
