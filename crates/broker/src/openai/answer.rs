//! Answers: one JSON object, or a stream of server-sent events.

use super::Endpoint;
use bytes::Bytes;
use inference::Finish;
use serde::Serialize;
use serde_json::{Value, json};
use std::time::{SystemTime, UNIX_EPOCH};

/// Tokens of one call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TokenUsage {
    /// Tokens read.
    pub prompt_tokens: u32,
    /// Tokens written.
    pub completion_tokens: u32,
    /// Both.
    pub total_tokens: u32,
}

impl TokenUsage {
    /// With the sum.
    pub fn new(prompt_tokens: u32, completion_tokens: u32) -> Self {
        let total_tokens = prompt_tokens.saturating_add(completion_tokens);
        Self { prompt_tokens, completion_tokens, total_tokens }
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

fn reason(finish: Finish) -> &'static str {
    match finish {
        Finish::Stop => "stop",
        Finish::Length => "length",
    }
}

impl Answer {
    /// A new answer of `model`; `usage` for a stream that ends with it.
    pub fn new(endpoint: Endpoint, model: &str, usage: bool) -> Self {
        let prefix = if endpoint == Endpoint::Chat { "chatcmpl" } else { "cmpl" };
        let created = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let id = format!("{prefix}-{}", uuid::Uuid::now_v7().simple());
        Self { endpoint, id, created, model: model.to_owned(), usage, begun: false }
    }

    /// The whole answer at once.
    pub fn whole(&self, text: &str, finish: Finish, usage: TokenUsage) -> String {
        let finish = reason(finish);
        let (object, choice) = match self.endpoint {
            Endpoint::Chat => (
                "chat.completion",
                json!({ "index": 0, "message": { "role": "assistant", "content": text },
                        "logprobs": null, "finish_reason": finish }),
            ),
            Endpoint::Completion => (
                "text_completion",
                json!({ "index": 0, "text": text, "logprobs": null, "finish_reason": finish }),
            ),
        };
        json!({ "id": self.id, "object": object, "created": self.created, "model": self.model,
                "choices": [choice], "usage": usage })
        .to_string()
    }

    /// Some more text.
    pub fn text(&mut self, text: &str) -> Bytes {
        let choice = match self.endpoint {
            Endpoint::Chat if !self.begun => {
                json!({ "index": 0, "delta": { "role": "assistant", "content": text },
                        "logprobs": null, "finish_reason": null })
            }
            Endpoint::Chat => json!({ "index": 0, "delta": { "content": text },
                                      "logprobs": null, "finish_reason": null }),
            Endpoint::Completion => json!({ "index": 0, "text": text,
                                            "logprobs": null, "finish_reason": null }),
        };
        self.begun = true;
        self.event(&json!([choice]), None)
    }

    /// The end: why, the usage if wanted, and the last event.
    pub fn end(&self, finish: Finish, usage: TokenUsage) -> Bytes {
        let finish = reason(finish);
        let choice = match self.endpoint {
            Endpoint::Chat => json!({ "index": 0, "delta": {}, "logprobs": null,
                                      "finish_reason": finish }),
            Endpoint::Completion => json!({ "index": 0, "text": "", "logprobs": null,
                                            "finish_reason": finish }),
        };
        let mut out = self.event(&json!([choice]), None).to_vec();
        if self.usage {
            out.extend_from_slice(&self.event(&json!([]), Some(usage)));
        }
        out.extend_from_slice(DONE.as_bytes());
        out.into()
    }

    fn event(&self, choices: &Value, usage: Option<TokenUsage>) -> Bytes {
        let object = match self.endpoint {
            Endpoint::Chat => "chat.completion.chunk",
            Endpoint::Completion => "text_completion",
        };
        let mut chunk = json!({ "id": self.id, "object": object, "created": self.created,
                                "model": self.model, "choices": choices });
        if self.usage {
            chunk["usage"] = json!(usage);
        }
        format!("data: {chunk}\n\n").into()
    }
}
