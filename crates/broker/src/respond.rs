//! Answers on their way to the caller, from the embedded engine's events.

use crate::openai::answer::Answer;
use crate::openai::{ApiError, Endpoint};
use crate::session::Session;
use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
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
    let answer = Answer::new(form.endpoint, &form.model, form.include_usage);
    if form.stream {
        let state = Streaming { events, answer, session, over: false };
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
    loop {
        let event = tokio::select! {
            biased;
            lost = session.lost() => return Err(lost),
            event = events.recv() => event.ok_or_else(stopped)?,
        };
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
}

fn stopped() -> ApiError {
    ApiError::backend("the engine stopped")
}

struct Streaming {
    events: UnboundedReceiver<Event>,
    answer: Answer,
    session: Session,
    over: bool,
}

impl Streaming {
    /// The next piece of the stream. An error in mid-stream is sent as OpenAI sends it: as an event.
    async fn next(&mut self) -> Option<Result<Bytes, Infallible>> {
        while !self.over {
            let event = tokio::select! {
                biased;
                lost = self.session.lost() => return Some(Ok(self.broken(&lost))),
                event = self.events.recv() => event,
            };
            match event {
                Some(Event::Token { text }) => {
                    self.session.wrote(1);
                    if !text.is_empty() {
                        return Some(Ok(self.answer.text(&text)));
                    }
                }
                Some(Event::Done { finish, .. }) => {
                    self.over = true;
                    let usage = self.session.complete();
                    return Some(Ok(self.answer.end(finish, usage)));
                }
                Some(Event::Failed(why)) => {
                    return Some(Ok(self.broken(&ApiError::backend(why))));
                }
                None => return Some(Ok(self.broken(&stopped()))),
            }
        }
        None
    }

    fn broken(&mut self, why: &ApiError) -> Bytes {
        self.over = true;
        self.session.failed(&why.message);
        format!("data: {}\n\n", why.body()).into()
    }
}

/// A stream of events.
pub fn event_stream(body: Body) -> Response {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

/// A whole answer.
pub fn json(status: StatusCode, body: Bytes) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}
