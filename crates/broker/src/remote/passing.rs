//! Another server's answer on its way to the caller: passed through, and counted.

use super::counted::{Chunk, Counting};
use eventsource_stream::{EventStream, Eventsource};
use futures_util::{StreamExt, stream};
use http_body_util::{BodyDataStream, BodyExt};
use hyper::body::{Bytes, Incoming};
use hyper::{Response, header};
use ports::{Answer, Failure, Part, Passed};
use serde_json::Value;

/// A stream's last event.
const DONE: &str = "[DONE]";

/// How the caller wants its answer.
#[derive(Clone, Copy, Debug)]
pub struct Form {
    /// As an event stream.
    pub stream: bool,
    /// With the usage at the stream's end.
    pub include_usage: bool,
}

/// A server that does not answer the call says so itself.
pub async fn refused(answer: Response<Incoming>) -> Failure {
    let (head, body) = answer.into_parts();
    let value = |name| {
        let value = head.headers.get(name).and_then(|value| value.to_str().ok());
        value.map(str::to_owned)
    };
    let (content_type, retry_after) = (value(header::CONTENT_TYPE), value(header::RETRY_AFTER));
    let failure = Failure::backend(format!("the backend answered {}", head.status));
    let Ok(body) = body.collect().await else { return failure };
    let (status, body) = (head.status.as_u16(), body.to_bytes());
    Failure {
        passed: Some(Box::new(Passed { status, content_type, retry_after, body })),
        ..failure
    }
}

/// Passes an answer through.
pub fn pass(answer: Response<Incoming>, form: Form, counting: Counting) -> Answer {
    if !form.stream {
        return stream::once(whole(answer.into_body(), counting)).flat_map(stream::iter).boxed();
    }
    let events = answer.into_body().into_data_stream().eventsource();
    let include_usage = form.include_usage;
    let state = Passing { events, counting, include_usage, over: false };
    let parts = stream::unfold(state, |mut s| async move { s.next().await.map(|p| (p, s)) });
    stream::iter([Ok(Part::Begun)]).chain(parts).boxed()
}

async fn whole(body: Incoming, mut counting: Counting) -> Vec<Result<Part, Failure>> {
    match body.collect().await {
        Ok(whole) => {
            let bytes = whole.to_bytes();
            counting.see(&Chunk::of(&bytes));
            vec![Ok(Part::Json(bytes)), Ok(Part::End(None))]
        }
        Err(error) => vec![Err(broken_off(&error))],
    }
}

fn broken_off(why: &dyn std::fmt::Display) -> Failure {
    Failure::backend(format!("the backend broke off: {why}"))
}

struct Passing {
    events: EventStream<BodyDataStream<Incoming>>,
    counting: Counting,
    include_usage: bool,
    over: bool,
}

impl Passing {
    async fn next(&mut self) -> Option<Result<Part, Failure>> {
        while !self.over {
            match self.events.next().await {
                Some(Ok(event)) if event.data != DONE => {
                    if let Some(json) = self.see(event.data) {
                        return Some(Ok(Part::Json(json)));
                    }
                }
                Some(Err(error)) => {
                    self.over = true;
                    return Some(Err(broken_off(&error)));
                }
                Some(Ok(_)) | None => {
                    self.over = true;
                    // Before anybody hears that it is over.
                    self.counting.settle();
                    return Some(Ok(Part::End(None)));
                }
            }
        }
        None
    }

    /// Counts an event; what the caller gets of it.
    fn see(&mut self, data: String) -> Option<Bytes> {
        let chunk = Chunk::of(data.as_bytes());
        self.counting.see(&chunk);
        if self.include_usage || !data.contains("\"usage\"") {
            return Some(data.into());
        }
        // We asked for it, the caller has not.
        if chunk.only_counts() {
            return None;
        }
        let Ok(Value::Object(mut fields)) = serde_json::from_str(&data) else {
            return Some(data.into());
        };
        fields.remove("usage");
        Some(Value::Object(fields).to_string().into())
    }
}
