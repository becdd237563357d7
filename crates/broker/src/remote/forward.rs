//! A request as another server gets it.

use crate::openai::LIMITS;
use serde_json::{Map, Value};

/// What the broker adds to a request on its way.
#[derive(Clone, Copy, Debug, Default)]
pub struct Added<'a> {
    /// Most tokens to write, whatever the request said: the smallest of all limits.
    pub max_tokens: Option<u32>,
    /// Ask for the usage at the end of a stream: accounts are kept by what the engine counted.
    pub count_stream: bool,
    /// The tenant's part of the engine's cache.
    pub cache_salt: Option<&'a str>,
}

/// The request as another server gets it.
pub fn body(mut fields: Map<String, Value>, added: &Added<'_>) -> Vec<u8> {
    if let Some(most) = added.max_tokens {
        let named: Vec<&str> = LIMITS.into_iter().filter(|key| fields.contains_key(*key)).collect();
        // Servers know the older name at least.
        let keys = if named.is_empty() { vec![LIMITS[1]] } else { named };
        for key in keys {
            fields.insert(key.to_owned(), most.into());
        }
    }
    if added.count_stream {
        let options = fields.entry("stream_options").or_insert(Value::Null);
        if !options.is_object() {
            *options = Value::Object(Map::new());
        }
        options["include_usage"] = true.into();
    }
    if let Some(salt) = added.cache_salt {
        fields.insert("cache_salt".to_owned(), salt.into());
    }
    Value::Object(fields).to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn sent(request: Value, added: &Added<'_>) -> Value {
        let Value::Object(fields) = request else { panic!("no object") };
        serde_json::from_slice(&body(fields, added)).unwrap()
    }

    #[test]
    fn no_name_of_the_limit_says_more_than_the_smallest() {
        let added = Added { max_tokens: Some(7), ..Added::default() };
        let both = json!({ "max_tokens": 5000, "max_completion_tokens": 7 });
        assert_eq!(sent(both, &added), json!({ "max_tokens": 7, "max_completion_tokens": 7 }));
        let newer = json!({ "max_completion_tokens": 9 });
        assert_eq!(sent(newer, &added), json!({ "max_completion_tokens": 7 }));
        assert_eq!(sent(json!({}), &added), json!({ "max_tokens": 7 }));
    }

    #[test]
    fn a_stream_is_always_counted() {
        let added = Added { count_stream: true, ..Added::default() };
        let counted = json!({ "stream_options": { "include_usage": true } });
        assert_eq!(sent(json!({}), &added), counted);
        assert_eq!(sent(json!({ "stream_options": null }), &added), counted);
    }
}
