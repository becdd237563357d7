//! What another server's answer says of tokens: its own count, or what its text lets guess.

use ports::{Payment, Tokens};
use serde::Deserialize;
use serde_json::Value;

/// A batching server reads about this many prompt tokens in the time that it takes to write one.
const PROMPT_DISCOUNT: u32 = 8;

/// Bytes of text that are about a token, where the server has not counted.
const BYTES: usize = 4;

/// The server's count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct Counted {
    /// Tokens read.
    #[serde(default)]
    pub prompt_tokens: u32,
    /// Tokens written, those of its reasoning included.
    #[serde(default)]
    pub completion_tokens: u32,
}

/// An answer, or one event of its stream; of its many fields those that are counted.
#[derive(Debug, Default, Deserialize)]
pub struct Chunk {
    #[serde(default)]
    choices: Vec<Choice>,
    /// The count, if the server sends one here.
    #[serde(default)]
    pub usage: Option<Counted>,
}

#[derive(Debug, Deserialize)]
struct Choice {
    #[serde(default)]
    text: Option<String>,
    #[serde(default, alias = "message")]
    delta: Option<Said>,
}

/// What a model writes, by whatever name.
#[derive(Debug, Deserialize)]
struct Said {
    #[serde(default)]
    content: Option<String>,
    #[serde(default)]
    reasoning_content: Option<String>,
    #[serde(default)]
    reasoning: Option<String>,
    #[serde(default)]
    refusal: Option<String>,
    #[serde(default)]
    tool_calls: Option<Vec<Value>>,
    #[serde(default)]
    function_call: Option<Value>,
}

impl Said {
    fn bytes(&self) -> usize {
        let texts = [&self.content, &self.reasoning_content, &self.reasoning, &self.refusal];
        let text: usize = texts.into_iter().flatten().map(String::len).sum();
        let calls = self.tool_calls.iter().flatten().filter_map(|call| call.get("function"));
        let called: usize = calls.chain(&self.function_call).map(called).sum();
        text + called
    }
}

/// Bytes of a function's name and arguments.
fn called(function: &Value) -> usize {
    let text = |key| function.get(key).and_then(Value::as_str).map_or(0, str::len);
    text("name") + text("arguments")
}

impl Chunk {
    /// Of a JSON text; one that says nothing that is known counts as empty.
    pub fn of(json: &[u8]) -> Self {
        serde_json::from_slice(json).unwrap_or_default()
    }

    /// About so many tokens were written: one at least where anything was.
    pub fn guessed(&self) -> u32 {
        let bytes = |choice: &Choice| {
            choice.text.as_ref().map_or(0, String::len)
                + choice.delta.as_ref().map_or(0, Said::bytes)
        };
        let tokens: usize = self.choices.iter().map(|c| bytes(c).div_ceil(BYTES)).sum();
        u32::try_from(tokens).unwrap_or(u32::MAX)
    }

    /// True for the event that only carries the count.
    pub fn only_counts(&self) -> bool {
        self.choices.is_empty() && self.usage.is_some()
    }
}

/// Counts a call for who pays: what comes as it comes, and the server's own count where it sends one. When it
/// is dropped, the newest of these holds.
pub struct Counting {
    payment: Payment,
    prompt_tokens: u32,
    charged: u32,
    counted: Option<Counted>,
}

impl Counting {
    /// The prompt is paid for when it is sent.
    pub fn new(payment: Payment, prompt_tokens: u32) -> Self {
        payment.share.charge((prompt_tokens / PROMPT_DISCOUNT).max(1));
        Self { payment, prompt_tokens, charged: 0, counted: None }
    }

    /// The server has taken the call.
    pub fn read(&mut self) {
        self.payment.meter.read(self.prompt_tokens);
    }

    /// An answer, or an event of its stream, has come.
    pub fn see(&mut self, chunk: &Chunk) {
        self.counted = chunk.usage.or(self.counted);
        // Where the whole answer is counted, there is nothing to guess.
        let tokens = match (chunk.usage, self.charged) {
            (Some(counted), 0) => counted.completion_tokens,
            _ => chunk.guessed(),
        };
        if tokens == 0 {
            return;
        }
        self.payment.meter.wrote(tokens);
        self.payment.share.charge(tokens);
        // Another server tells of no steps.
        self.payment.share.computed(0, tokens);
        if self.charged == 0 {
            self.payment.share.answered();
        }
        self.charged += tokens;
    }

    /// The server's own count is better than ours.
    pub fn settle(&mut self) {
        let Some(Counted { prompt_tokens, completion_tokens }) = self.counted.take() else {
            return;
        };
        self.payment.share.charge(completion_tokens.saturating_sub(self.charged));
        let tokens = Tokens { prompt: prompt_tokens, completion: completion_tokens };
        self.payment.meter.counted(tokens);
    }
}

impl Drop for Counting {
    fn drop(&mut self) {
        self.settle();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guessed(json: &str) -> u32 {
        Chunk::of(json.as_bytes()).guessed()
    }

    #[test]
    fn whatever_is_written_is_counted() {
        let delta = |said: &str| guessed(&format!(r#"{{"choices":[{{"delta":{said}}}]}}"#));
        assert_eq!(delta(r#"{"role":"assistant","content":""}"#), 0);
        assert_eq!(delta(r#"{}"#), 0);
        assert_eq!(delta(r#"{"content":"a"}"#), 1);
        assert_eq!(delta(r#"{"content":"a\nb, escaped and long"}"#), 6);
        assert_eq!(delta(r#"{"reasoning_content":"hm"}"#), 1);
        assert_eq!(delta(r#"{"tool_calls":[{"index":0,"function":{"arguments":"a0 "}}]}"#), 1);
        assert_eq!(guessed(r#"{"choices":[{"text":"b","index":0}]}"#), 1);
        assert_eq!(guessed(r#"{"choices":[{"message":{"content":"12345678"}}]}"#), 2);
        assert_eq!(guessed("no JSON"), 0);
    }

    #[test]
    fn the_servers_own_count_is_found_wherever_it_stands() {
        let usage = r#""usage":{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11}"#;
        let counted = Some(Counted { prompt_tokens: 9, completion_tokens: 2 });
        let last = format!(r#"{{"choices":[],{usage}}}"#);
        let chunk = Chunk::of(last.as_bytes());
        assert!(chunk.usage == counted && chunk.only_counts());
        let within = format!(r#"{{"choices":[{{"delta":{{}},"finish_reason":"stop"}}],{usage}}}"#);
        let chunk = Chunk::of(within.as_bytes());
        assert!(chunk.usage == counted && !chunk.only_counts());
        assert_eq!(Chunk::of(br#"{"choices":[],"usage":null}"#).usage, None);
    }
}
