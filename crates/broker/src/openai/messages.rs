//! The messages of a conversation.

use super::ApiError;
use super::fields::{Fields, wrong};
use ports::Message;
use serde_json::Value;

/// Longest role.
const ROLE: usize = 64;

/// The conversation, and the first part of it that is no text: its length is not known, and only some
/// backends can read it.
pub fn messages(fields: &Fields<'_>) -> Result<(Vec<Message>, Option<String>), ApiError> {
    let missing = || ApiError::invalid_param("messages", "messages is missing");
    let value = fields.get("messages").ok_or_else(missing)?;
    let list = value.as_array().ok_or_else(|| wrong("messages", "an array", value))?;
    if list.is_empty() {
        return Err(ApiError::invalid_param("messages", "messages must not be empty"));
    }
    let mut other = None;
    let messages = list.iter().enumerate().map(|(i, m)| message(i, m, &mut other));
    Ok((messages.collect::<Result<_, _>>()?, other))
}

/// Some templates write the name there, too; what OpenAI's API takes as one.
fn is_name(name: &str) -> bool {
    let ends = |c: char| c.is_whitespace() || c.is_control() || "<|\\/>".contains(c);
    (1..=ROLE).contains(&name.len()) && !name.contains(ends)
}

/// A template writes the role between its own markers: it may hold nothing that ends a line or a marker.
fn is_role(role: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    (1..=ROLE).contains(&role.len()) && role.chars().all(word)
}

fn message(index: usize, value: &Value, other: &mut Option<String>) -> Result<Message, ApiError> {
    let at = |field: &str| format!("messages[{index}].{field}");
    let Value::Object(map) = value else {
        return Err(wrong(&format!("messages[{index}]"), "an object", value));
    };
    let Some(role) = map.get("role").and_then(Value::as_str) else {
        return Err(ApiError::invalid_param(&at("role"), format!("{} is missing", at("role"))));
    };
    if !is_role(role) {
        let message = format!("{} must be a word of at most {ROLE} letters", at("role"));
        return Err(ApiError::invalid_param(&at("role"), message));
    }
    if let Some(name) = map.get("name").filter(|name| !name.is_null())
        && !name.as_str().is_some_and(is_name)
    {
        let message = format!("{} must be a word of at most {ROLE} letters", at("name"));
        return Err(ApiError::invalid_param(&at("name"), message));
    }
    let param = at("content");
    let content = match map.get("content") {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(parts)) => {
            let texts = parts.iter().map(|p| part(&param, p, other));
            texts.collect::<Result<Vec<_>, _>>()?.concat()
        }
        // An assistant's message may consist of tool calls only.
        None | Some(Value::Null) if role == "assistant" => String::new(),
        None => return Err(ApiError::invalid_param(&param, format!("{param} is missing"))),
        Some(other) => return Err(wrong(&param, "a string or an array of parts", other)),
    };
    Ok(Message { role: role.to_owned(), content })
}

fn part<'a>(
    param: &str,
    value: &'a Value,
    other: &mut Option<String>,
) -> Result<&'a str, ApiError> {
    let text = value.get("text").and_then(Value::as_str);
    match (value.get("type").and_then(Value::as_str), text) {
        (Some("text"), Some(text)) => Ok(text),
        (Some("text"), None) => {
            Err(ApiError::invalid_param(param, format!("{param}: a text part has no text")))
        }
        (Some(kind), _) => {
            other.get_or_insert_with(|| format!("{param} with a part of type {kind:?}"));
            Ok("")
        }
        (None, _) => Err(ApiError::invalid_param(param, format!("{param}: a part has no type"))),
    }
}
