//! Requests: parsed strictly, so that a mistake is named and not silently ignored.

use super::ApiError;
use bytes::Bytes;
use inference::{Message, Sampling};
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

/// What is to be continued.
#[derive(Clone, Debug, PartialEq)]
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

/// One request.
#[derive(Clone, Debug)]
pub struct Call {
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
    /// The request as it came, for backends that understand more than we do.
    pub raw: Bytes,
}

/// Longest list of stop strings.
const MAX_STOPS: usize = 16;

impl Call {
    /// Parses a request's body.
    pub fn parse(endpoint: Endpoint, raw: Bytes) -> Result<Self, ApiError> {
        let value: Value = serde_json::from_slice(&raw)
            .map_err(|e| ApiError::invalid(format!("the body is not valid JSON: {e}")))?;
        let Value::Object(map) = value else {
            return Err(ApiError::invalid("the body must be a JSON object"));
        };
        let f = Fields(&map);
        let stream_options = f.object("stream_options")?;
        let include_usage = match stream_options {
            Some(options) => Fields(options).boolean("include_usage")?.unwrap_or(false),
            None => false,
        };
        let longer =
            if endpoint == Endpoint::Chat { f.count("max_completion_tokens", 1)? } else { None };
        Ok(Self {
            endpoint,
            model: f
                .text("model")?
                .ok_or_else(|| ApiError::invalid_param("model", "model is missing"))?
                .to_owned(),
            input: f.input(endpoint)?,
            max_tokens: longer.or(f.count("max_tokens", 1)?),
            sampling: f.sampling()?,
            stop: f.stop()?,
            ignore_eos: f.boolean("ignore_eos")?.unwrap_or(false),
            stream: f.boolean("stream")?.unwrap_or(false),
            include_usage,
            special: f.special()?,
            raw,
        })
    }

    /// Tokens of the prompt, guessed from its length where nobody has counted them: 4 bytes each.
    pub fn guessed_prompt_tokens(&self) -> u32 {
        let bytes = match &self.input {
            Input::Messages(messages) => messages.iter().map(|m| m.content.len() + 16).sum(),
            Input::Text(text) => text.len(),
            Input::Tokens(ids) => ids.len() * 4,
            Input::Many(_) => self.raw.len(),
        };
        u32::try_from(bytes / 4).unwrap_or(u32::MAX).max(1)
    }
}

/// The fields of a JSON object; null counts as absent, as in OpenAI's API.
struct Fields<'a>(&'a Map<String, Value>);

fn wrong(param: &str, expected: &str, found: &Value) -> ApiError {
    let found = match found {
        Value::Null => "null".to_owned(),
        Value::Bool(b) => b.to_string(),
        Value::Number(n) => n.to_string(),
        Value::String(_) => "a string".to_owned(),
        Value::Array(_) => "an array".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    };
    ApiError::invalid_param(param, format!("{param} must be {expected}, not {found}"))
}

impl<'a> Fields<'a> {
    fn get(&self, key: &str) -> Option<&'a Value> {
        self.0.get(key).filter(|v| !v.is_null())
    }

    fn text(&self, key: &str) -> Result<Option<&'a str>, ApiError> {
        self.get(key).map(|v| v.as_str().ok_or_else(|| wrong(key, "a string", v))).transpose()
    }

    fn boolean(&self, key: &str) -> Result<Option<bool>, ApiError> {
        self.get(key).map(|v| v.as_bool().ok_or_else(|| wrong(key, "true or false", v))).transpose()
    }

    fn object(&self, key: &str) -> Result<Option<&'a Map<String, Value>>, ApiError> {
        self.get(key).map(|v| v.as_object().ok_or_else(|| wrong(key, "an object", v))).transpose()
    }

    fn count(&self, key: &str, least: u32) -> Result<Option<u32>, ApiError> {
        let number = |v: &Value| {
            let n = v.as_u64().and_then(|n| u32::try_from(n).ok()).filter(|n| *n >= least);
            n.ok_or_else(|| wrong(key, &format!("a whole number of at least {least}"), v))
        };
        self.get(key).map(number).transpose()
    }

    fn number(&self, key: &str, low: f64, high: f64) -> Result<Option<f32>, ApiError> {
        let number = |v: &Value| {
            let n = v.as_f64().filter(|n| (low..=high).contains(n));
            n.map(|n| n as f32)
                .ok_or_else(|| wrong(key, &format!("a number from {low} to {high}"), v))
        };
        self.get(key).map(number).transpose()
    }

    fn sampling(&self) -> Result<Sampling, ApiError> {
        let usual = Sampling::default();
        let seed = |v: &Value| {
            v.as_i64().map(i64::cast_unsigned).ok_or_else(|| wrong("seed", "a whole number", v))
        };
        Ok(Sampling {
            temperature: self.number("temperature", 0.0, 2.0)?.unwrap_or(usual.temperature),
            top_p: self.number("top_p", 0.0, 1.0)?.unwrap_or(usual.top_p),
            top_k: self.count("top_k", 0)?.unwrap_or(usual.top_k),
            presence_penalty: self.number("presence_penalty", -2.0, 2.0)?.unwrap_or(0.0),
            frequency_penalty: self.number("frequency_penalty", -2.0, 2.0)?.unwrap_or(0.0),
            seed: self.get("seed").map(seed).transpose()?,
        })
    }

    fn stop(&self) -> Result<Vec<String>, ApiError> {
        let Some(value) = self.get("stop") else { return Ok(Vec::new()) };
        let bad = || wrong("stop", &format!("a string or up to {MAX_STOPS} strings"), value);
        match value {
            Value::String(s) => Ok(vec![s.clone()]),
            Value::Array(list) if list.len() <= MAX_STOPS => {
                list.iter().map(|s| s.as_str().map(str::to_owned).ok_or_else(bad)).collect()
            }
            _ => Err(bad()),
        }
    }

    fn input(&self, endpoint: Endpoint) -> Result<Input, ApiError> {
        match endpoint {
            Endpoint::Chat => self.messages().map(Input::Messages),
            Endpoint::Completion => self.prompt(),
        }
    }

    fn prompt(&self) -> Result<Input, ApiError> {
        let missing = || ApiError::invalid_param("prompt", "prompt is missing");
        let value = self.get("prompt").ok_or_else(missing)?;
        let expected = "a string, an array of strings or an array of token ids";
        let bad = || wrong("prompt", expected, value);
        match value {
            Value::String(s) => Ok(Input::Text(s.clone())),
            Value::Array(list) => match list.as_slice() {
                [Value::String(s)] => Ok(Input::Text(s.clone())),
                [Value::Array(ids)] => token_ids(ids).map(Input::Tokens).ok_or_else(bad),
                [Value::Number(_), ..] => token_ids(list).map(Input::Tokens).ok_or_else(bad),
                [Value::String(_) | Value::Array(_), ..] => Ok(Input::Many(list.len())),
                _ => Err(bad()),
            },
            _ => Err(bad()),
        }
    }

    fn messages(&self) -> Result<Vec<Message>, ApiError> {
        let missing = || ApiError::invalid_param("messages", "messages is missing");
        let value = self.get("messages").ok_or_else(missing)?;
        let list = value.as_array().ok_or_else(|| wrong("messages", "an array", value))?;
        if list.is_empty() {
            return Err(ApiError::invalid_param("messages", "messages must not be empty"));
        }
        list.iter().enumerate().map(|(i, m)| message(i, m)).collect()
    }

    /// What one sequence of text cannot give.
    fn special(&self) -> Result<Option<String>, ApiError> {
        for key in ["n", "best_of"] {
            if self.count(key, 1)?.is_some_and(|n| n > 1) {
                return Ok(Some(format!("{key} greater than 1")));
            }
        }
        let set = |key: &&str| match self.get(key) {
            None | Some(Value::Bool(false)) => false,
            Some(Value::Array(list)) => !list.is_empty(),
            Some(Value::Number(n)) => *key != "logprobs" || n.as_u64() != Some(0),
            Some(_) => true,
        };
        let keys = ["tools", "functions", "logprobs", "echo", "suffix", "audio", "logit_bias"];
        if let Some(key) = keys.iter().find(|k| set(k)) {
            return Ok(Some((*key).to_owned()));
        }
        let format = self.object("response_format")?;
        let kind = format.and_then(|f| f.get("type")).and_then(Value::as_str);
        Ok(kind.filter(|k| *k != "text").map(|k| format!("response_format {k}")))
    }
}

fn token_ids(list: &[Value]) -> Option<Vec<u32>> {
    list.iter().map(|v| v.as_u64().and_then(|n| u32::try_from(n).ok())).collect()
}

fn message(index: usize, value: &Value) -> Result<Message, ApiError> {
    let at = |field: &str| format!("messages[{index}].{field}");
    let Value::Object(map) = value else {
        return Err(wrong(&format!("messages[{index}]"), "an object", value));
    };
    let Some(role) = map.get("role").and_then(Value::as_str) else {
        return Err(ApiError::invalid_param(&at("role"), format!("{} is missing", at("role"))));
    };
    let param = at("content");
    let content = match map.get("content") {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(parts)) => {
            parts.iter().map(|p| part(&param, p)).collect::<Result<Vec<_>, _>>()?.concat()
        }
        // An assistant's message may consist of tool calls only.
        None | Some(Value::Null) if role == "assistant" => String::new(),
        None => return Err(ApiError::invalid_param(&param, format!("{param} is missing"))),
        Some(other) => return Err(wrong(&param, "a string or an array of parts", other)),
    };
    Ok(Message { role: role.to_owned(), content })
}

fn part<'a>(param: &str, value: &'a Value) -> Result<&'a str, ApiError> {
    let text = value.get("text").and_then(Value::as_str);
    match (value.get("type").and_then(Value::as_str), text) {
        (Some("text"), Some(text)) => Ok(text),
        (Some("text"), None) => {
            Err(ApiError::invalid_param(param, format!("{param}: a text part has no text")))
        }
        // Images and sound go to the backend in the raw request; here they only lack a length.
        (Some(_), _) => Ok(""),
        (None, _) => Err(ApiError::invalid_param(param, format!("{param}: a part has no type"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chat(body: &str) -> Result<Call, ApiError> {
        Call::parse(Endpoint::Chat, Bytes::copy_from_slice(body.as_bytes()))
    }

    #[test]
    fn a_usual_request() {
        let call = chat(
            r#"{"model":"m","messages":[{"role":"user","content":[{"type":"text","text":"Hi"}]}],
                "max_completion_tokens":7,"temperature":0.5,"stop":"END","seed":-1,"stream":true,
                "stream_options":{"include_usage":true},"tools":null,"n":1}"#,
        )
        .unwrap();
        assert_eq!(call.max_tokens, Some(7));
        assert_eq!(call.stop, ["END"]);
        assert!(call.stream && call.include_usage && call.special.is_none());
        let Input::Messages(m) = &call.input else { panic!("{:?}", call.input) };
        assert_eq!(m[0].content, "Hi");
    }

    #[test]
    fn mistakes_are_named() {
        for (body, param, part) in [
            ("[1]", None, "JSON object"),
            ("{", None, "not valid JSON"),
            (r#"{"messages":[]}"#, Some("model"), "missing"),
            (r#"{"model":"m"}"#, Some("messages"), "missing"),
            (r#"{"model":"m","messages":[]}"#, Some("messages"), "not be empty"),
            (r#"{"model":"m","messages":[{"content":"x"}]}"#, Some("messages[0].role"), "missing"),
            (
                r#"{"model":"m","messages":[{"role":"user"}]}"#,
                Some("messages[0].content"),
                "missing",
            ),
            (
                r#"{"model":"m","messages":[{"role":"user","content":"x"}],"temperature":3}"#,
                Some("temperature"),
                "from 0 to 2, not 3",
            ),
            (
                r#"{"model":"m","messages":[{"role":"user","content":"x"}],"max_tokens":0}"#,
                Some("max_tokens"),
                "at least 1",
            ),
            (
                r#"{"model":"m","messages":[{"role":"user","content":"x"}],"stream":"yes"}"#,
                Some("stream"),
                "true or false",
            ),
        ] {
            let error = chat(body).unwrap_err();
            assert_eq!(error.param.as_deref(), param, "{body}");
            assert!(error.message.contains(part), "{body}: {}", error.message);
        }
    }

    #[test]
    fn what_one_sequence_cannot_give_is_seen() {
        let with = |extra: &str| {
            chat(&format!(
                r#"{{"model":"m","messages":[{{"role":"user","content":"x"}}],{extra}}}"#
            ))
            .unwrap()
            .special
        };
        assert_eq!(with(r#""n":2"#).as_deref(), Some("n greater than 1"));
        assert_eq!(with(r#""tools":[{}]"#).as_deref(), Some("tools"));
        assert_eq!(
            with(r#""response_format":{"type":"json_object"}"#).as_deref(),
            Some("response_format json_object")
        );
        assert_eq!(with(r#""logprobs":false,"tools":[]"#), None);
    }
}
