//! Answers on their way to the caller: whole, or as a stream of events.

use crate::accounts::Account;
use crate::identity::right::Right;
use crate::openai::ApiError;
use crate::openai::answer::{self, DONE, event};
use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use ports::{Answer, Endpoint, Failure, Finish, Part, Request};
use std::convert::Infallible;
use std::sync::Arc;

/// How the caller wants its answer.
pub struct Form {
    endpoint: Endpoint,
    model: String,
    stream: bool,
    include_usage: bool,
}

impl Form {
    /// As the request says.
    pub fn of(request: &Request) -> Self {
        let Request { endpoint, stream, include_usage, .. } = *request;
        Self { endpoint, model: request.model.clone(), stream, include_usage }
    }
}

/// An admitted call: its answer on the way, and what it holds.
pub struct Admitted {
    /// What comes.
    pub answer: Answer,
    /// May end it.
    pub right: Right,
    /// What it costs.
    pub account: Arc<Account>,
}

impl Admitted {
    /// The next part. What goes wrong is on record before anybody is told.
    async fn next(&mut self) -> Result<Part, ApiError> {
        let part = tokio::select! {
            biased;
            lost = self.right.lost() => Err(lost),
            part = self.answer.next() => {
                part.unwrap_or_else(|| Err(Failure::backend("the engine stopped"))).map_err(Into::into)
            }
        };
        part.inspect_err(|error| self.account.fail(&error.message))
    }

    /// Answers the caller.
    pub async fn respond(mut self, form: Form) -> Response {
        let written = answer::Answer::new(form.endpoint, form.model, form.include_usage);
        if !form.stream {
            return match self.whole(written).await {
                Ok(body) => json(body),
                Err(error) => error.into_response(),
            };
        }
        // Until it has begun, what goes wrong has a status.
        match self.next().await {
            Ok(Part::Begun) => {}
            Ok(other) => {
                let rest = std::mem::replace(&mut self.answer, stream::empty().boxed());
                self.answer = stream::iter([Ok(other)]).chain(rest).boxed();
            }
            Err(error) => return error.into_response(),
        }
        let state = Streaming { call: self, written, over: false };
        let body = stream::unfold(state, |mut s| async move { s.next().await.map(|b| (b, s)) });
        event_stream(Body::from_stream(body))
    }

    async fn whole(&mut self, written: answer::Answer) -> Result<Bytes, ApiError> {
        let (mut text, mut whole) = (String::new(), None);
        loop {
            match self.next().await? {
                Part::Begun => {}
                Part::Token(more) => text.push_str(&more),
                Part::Json(json) => whole = Some(json),
                Part::End(finish) => {
                    let tokens = self.account.complete();
                    let finish = finish.unwrap_or(Finish::Stop);
                    return Ok(whole.unwrap_or_else(|| written.whole(&text, finish, tokens).into()));
                }
            }
        }
    }
}

struct Streaming {
    call: Admitted,
    written: answer::Answer,
    over: bool,
}

impl Streaming {
    /// The next piece of the stream. What goes wrong in the middle is told as an event, as OpenAI does: a caller
    /// that only sees the connection closed cannot know that something is missing.
    async fn next(&mut self) -> Option<Result<Bytes, Infallible>> {
        while !self.over {
            match self.call.next().await {
                Ok(Part::Begun) => {}
                Ok(Part::Token(text)) if text.is_empty() => {}
                Ok(Part::Token(text)) => return Some(Ok(self.written.text(&text))),
                Ok(Part::Json(json)) => {
                    return Some(Ok(event(&String::from_utf8_lossy(&json)).into()));
                }
                Ok(Part::End(finish)) => {
                    self.over = true;
                    let tokens = self.call.account.complete();
                    let end = finish.map(|finish| self.written.end(finish, tokens));
                    return Some(Ok(end.unwrap_or_else(|| Bytes::from_static(DONE.as_bytes()))));
                }
                Err(error) => {
                    self.over = true;
                    return Some(Ok(event(&error.body()).into()));
                }
            }
        }
        None
    }
}

fn event_stream(body: Body) -> Response {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

fn json(body: Bytes) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = StatusCode::OK;
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}
