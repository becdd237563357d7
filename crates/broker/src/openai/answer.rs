//! Answers: one JSON object, or a stream of server-sent events.

use bytes::Bytes;
use ports::{Endpoint, Finish, Tokens};
use serde::Serialize;
use std::time::{SystemTime, UNIX_EPOCH};

/// Tokens of one call, as OpenAI's API tells of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct TokenUsage {
    prompt_tokens: u32,
    completion_tokens: u32,
    total_tokens: u32,
}

impl From<Tokens> for TokenUsage {
    fn from(tokens: Tokens) -> Self {
        let Tokens { prompt, completion } = tokens;
        let total_tokens = prompt.saturating_add(completion);
        Self { prompt_tokens: prompt, completion_tokens: completion, total_tokens }
    }
}

/// What all parts of one answer have in common.
#[derive(Clone, Debug)]
pub struct Answer {
    endpoint: Endpoint,
    id: String,
    created: u64,
    model: String,
    /// A stream ends with the usage, and says null for it before.
    usage: bool,
    begun: bool,
}

/// The last event of every stream.
pub const DONE: &str = "data: [DONE]\n\n";

#[derive(Serialize)]
struct Body<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    choices: &'a [Choice<'a>],
    /// Left out where nobody asked for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Option<TokenUsage>>,
}

/// A chat's choice has a `message` or a `delta`, a completion's a `text`.
#[derive(Serialize)]
struct Choice<'a> {
    index: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<Said<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delta: Option<Said<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    logprobs: (),
    finish_reason: Option<&'static str>,
}

#[derive(Default, Serialize)]
struct Said<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<&'a str>,
}

const ASSISTANT: Option<&str> = Some("assistant");

const fn reason(finish: Finish) -> &'static str {
    match finish {
        Finish::Stop => "stop",
        Finish::Length => "length",
    }
}

impl Answer {
    /// A new answer of `model`; `usage` for a stream that ends with it.
    pub fn new(endpoint: Endpoint, model: String, usage: bool) -> Self {
        let prefix = if endpoint == Endpoint::Chat { "chatcmpl" } else { "cmpl" };
        let created = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let id = format!("{prefix}-{}", uuid::Uuid::now_v7().simple());
        Self { endpoint, id, created, model, usage, begun: false }
    }

    /// The whole answer at once.
    pub fn whole(&self, text: &str, finish: Finish, tokens: Tokens) -> String {
        let said = Said { role: ASSISTANT, content: Some(text) };
        let mut choice = self.choice(said, text, Some(reason(finish)));
        choice.message = choice.delta.take();
        let object = match self.endpoint {
            Endpoint::Chat => "chat.completion",
            Endpoint::Completion => "text_completion",
        };
        self.json(object, &[choice], Some(Some(tokens.into())))
    }

    /// Some more text.
    pub fn text(&mut self, text: &str) -> Bytes {
        let role = if self.begun { None } else { ASSISTANT };
        self.begun = true;
        let choice = self.choice(Said { role, content: Some(text) }, text, None);
        self.event(&[choice], None).into()
    }

    /// The end: why, the usage if wanted, and the last event.
    pub fn end(&self, finish: Finish, tokens: Tokens) -> Bytes {
        let choice = self.choice(Said::default(), "", Some(reason(finish)));
        let mut out = self.event(&[choice], None);
        if self.usage {
            out += &self.event(&[], Some(tokens.into()));
        }
        (out + DONE).into()
    }

    fn choice<'a>(
        &self,
        said: Said<'a>,
        text: &'a str,
        finish_reason: Option<&'static str>,
    ) -> Choice<'a> {
        let (delta, text) = match self.endpoint {
            Endpoint::Chat => (Some(said), None),
            Endpoint::Completion => (None, Some(text)),
        };
        Choice { index: 0, message: None, delta, text, logprobs: (), finish_reason }
    }

    fn event(&self, choices: &[Choice<'_>], usage: Option<TokenUsage>) -> String {
        let object = match self.endpoint {
            Endpoint::Chat => "chat.completion.chunk",
            Endpoint::Completion => "text_completion",
        };
        event(&self.json(object, choices, self.usage.then_some(usage)))
    }

    fn json(
        &self,
        object: &'static str,
        choices: &[Choice<'_>],
        usage: Option<Option<TokenUsage>>,
    ) -> String {
        let (id, created, model) = (&self.id, self.created, &self.model);
        // Maps with keys that are no texts and numbers that are none are not among what is written.
        serde_json::to_string(&Body { id, object, created, model, choices, usage })
            .unwrap_or_default()
    }
}

/// An event of a stream, as the HTML standard writes it (section 9.2, server-sent events).
pub fn event(data: &str) -> String {
    let mut event = String::with_capacity(data.len() + 8);
    for line in data.lines() {
        event.extend(["data: ", line, "\n"]);
    }
    event.push('\n');
    event
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn data(event: &[u8]) -> Vec<Value> {
        let text = std::str::from_utf8(event).unwrap();
        let events = text.split("\n\n").filter_map(|e| e.strip_prefix("data: "));
        events.filter_map(|e| serde_json::from_str(e).ok()).collect()
    }

    #[test]
    fn a_stream_that_ends_with_the_usage_says_null_before() {
        let mut answer = Answer::new(Endpoint::Chat, "m".into(), true);
        let first = data(&answer.text("a"));
        assert_eq!(first[0]["usage"], Value::Null);
        assert!(first[0].as_object().unwrap().contains_key("usage"));
        let delta = json!({ "role": "assistant", "content": "a" });
        assert_eq!(first[0]["choices"][0]["delta"], delta);
        assert_eq!(data(&answer.text("b"))[0]["choices"][0]["delta"], json!({ "content": "b" }));
        let end = answer.end(Finish::Length, Tokens { prompt: 3, completion: 2 });
        assert!(end.ends_with(DONE.as_bytes()));
        let end = data(&end);
        assert_eq!(end[0]["choices"][0]["finish_reason"], "length");
        assert_eq!(end[1]["usage"]["total_tokens"], 5);
        let mut plain = Answer::new(Endpoint::Completion, "m".into(), false);
        let chunk = &data(&plain.text("a"))[0];
        assert!(!chunk.as_object().unwrap().contains_key("usage"));
        assert_eq!(
            chunk["choices"][0],
            json!({ "index": 0, "text": "a", "logprobs": null, "finish_reason": null })
        );
    }

    #[test]
    fn an_event_of_several_lines_is_one_event() {
        assert_eq!(event("a\nb"), "data: a\ndata: b\n\n");
    }
}
