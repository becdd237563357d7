//! What a request asks for that one sequence of text cannot give. It is named, never ignored; what asks
//! for nothing (`logit_bias: {}`, `n: 1`, `min_p: 0.0`) is no request.

use super::ApiError;
use super::fields::Fields;
use serde_json::Value;

/// Fields that ask for something unless they are empty, false or zero.
const ASK: [&str; 21] = [
    "tools",
    "functions",
    "logprobs",
    "echo",
    "suffix",
    "audio",
    "logit_bias",
    "web_search_options",
    "stop_token_ids",
    "bad_words",
    "grammar",
    "json_schema",
    "structured_outputs",
    "guided_json",
    "guided_regex",
    "guided_choice",
    "guided_grammar",
    "use_beam_search",
    "prompt_logprobs",
    "min_tokens",
    "min_p",
];

/// Fields that ask for something unless they are one.
const FACTORS: [&str; 4] = ["repetition_penalty", "repeat_penalty", "length_penalty", "typical_p"];

/// The first of them.
pub fn special(fields: &Fields<'_>) -> Result<Option<String>, ApiError> {
    for key in ["n", "best_of"] {
        if fields.count(key, 1)?.is_some_and(|n| n > 1) {
            return Ok(Some(format!("{key} greater than 1")));
        }
    }
    if let Some(key) = ASK.iter().find(|key| fields.get(key).is_some_and(asks)) {
        return Ok(Some((*key).to_owned()));
    }
    let factor = |value: &Value| value.as_f64() != Some(1.0);
    if let Some(key) = FACTORS.iter().find(|key| fields.get(key).is_some_and(factor)) {
        return Ok(Some((*key).to_owned()));
    }
    let choice = |value: &Value| !matches!(value.as_str(), Some("none" | "auto"));
    if let Some(key) =
        ["tool_choice", "function_call"].iter().find(|key| fields.get(key).is_some_and(choice))
    {
        return Ok(Some((*key).to_owned()));
    }
    let more = |kinds: &Vec<Value>| kinds.iter().any(|kind| kind != "text");
    if fields.get("modalities").and_then(Value::as_array).is_some_and(more) {
        return Ok(Some("modalities other than text".to_owned()));
    }
    let format = fields.object("response_format")?;
    let kind = format.and_then(|f| f.get("type")).and_then(Value::as_str);
    Ok(kind.filter(|k| *k != "text").map(|k| format!("response_format {k}")))
}

fn asks(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(set) => *set,
        Value::Number(n) => n.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}
