//! Requests, as a caller has sent them.

use serde_json::{Map, Value};

/// Which endpoint was called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// `/v1/chat/completions`
    Chat,
    /// `/v1/completions`
    Completion,
}

impl Endpoint {
    /// Its path, at every OpenAI-compatible server.
    pub fn path(self) -> &'static str {
        match self {
            Self::Chat => "/v1/chat/completions",
            Self::Completion => "/v1/completions",
        }
    }
}

/// One message of a conversation, as a chat template sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// `system`, `user`, `assistant` or whatever else the template knows.
    pub role: String,
    /// Its text.
    pub content: String,
}

/// What is to be continued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A conversation.
    Messages(Vec<Message>),
    /// Plain text.
    Text(String),
    /// Token ids.
    Tokens(Vec<u32>),
    /// Several prompts in one request; only some backends take it.
    Many(usize),
}

/// How a token is chosen; the defaults are those of the OpenAI API.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// 0 is greedy.
    pub temperature: f32,
    /// Only the most likely tokens that together reach this probability.
    pub top_p: f32,
    /// Only this many most likely tokens; 0 is all.
    pub top_k: u32,
    /// Subtracted once from the logit of every token already written.
    pub presence_penalty: f32,
    /// Subtracted for every time that a token was already written.
    pub frequency_penalty: f32,
    /// The same seed, prompt and settings give the same text; none is a fresh seed.
    pub seed: Option<u64>,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_p: 1.0,
            top_k: 0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            seed: None,
        }
    }
}

/// One request.
#[derive(Clone, Debug)]
pub struct Request {
    /// Where it was sent.
    pub endpoint: Endpoint,
    /// The model asked for.
    pub model: String,
    /// What to continue.
    pub input: Input,
    /// Most tokens to write; none leaves it to the backend.
    pub max_tokens: Option<u32>,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Text ends before the first of these.
    pub stop: Vec<String>,
    /// Go on past the end-of-text token (an extension that vLLM has too).
    pub ignore_eos: bool,
    /// Answer as an event stream.
    pub stream: bool,
    /// End the stream with the usage.
    pub include_usage: bool,
    /// A field that asks for more than text from one sequence; backends that cannot refuse it.
    pub special: Option<String>,
    /// The fields that concern the caller alone, for servers that understand more than we do.
    pub fields: Map<String, Value>,
    /// Bytes of the request.
    pub bytes: usize,
}

/// Bytes of text that are about one token.
const BYTES_A_TOKEN: usize = 4;
/// What a message costs beside its text: its role and markers.
const BYTES_A_MESSAGE: usize = 16;

impl Request {
    /// Tokens of the prompt, guessed from its length where nobody has counted them.
    pub fn guessed_prompt_tokens(&self) -> u32 {
        let tokens = match &self.input {
            Input::Messages(messages) => {
                let bytes = messages.iter().map(|m| m.content.len() + BYTES_A_MESSAGE);
                bytes.sum::<usize>() / BYTES_A_TOKEN
            }
            Input::Text(text) => text.len() / BYTES_A_TOKEN,
            Input::Tokens(ids) => ids.len(),
            Input::Many(_) => self.bytes / BYTES_A_TOKEN,
        };
        u32::try_from(tokens).unwrap_or(u32::MAX).max(1)
    }
}
