//! What of a request reaches another server: the fields that are known to concern the caller alone.
//!
//! An engine has fields by which a caller decides about others: its `priority` in the queue, the
//! `cache_salt` by which it may read a neighbour's cache (CVE-2025-46570), the slot, the transfer of a
//! cache, a template of its own. They belong to the broker. New ones come with every release of every
//! engine, so what is not known is not passed on.

use serde_json::{Map, Value};

/// Of the OpenAI API (chat and completions).
const OPENAI: [&str; 36] = [
    "model",
    "messages",
    "prompt",
    "stream",
    "stream_options",
    "max_tokens",
    "max_completion_tokens",
    "temperature",
    "top_p",
    "n",
    "best_of",
    "stop",
    "presence_penalty",
    "frequency_penalty",
    "logit_bias",
    "logprobs",
    "top_logprobs",
    "seed",
    "user",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "functions",
    "function_call",
    "response_format",
    "reasoning_effort",
    "verbosity",
    "modalities",
    "audio",
    "prediction",
    "metadata",
    "store",
    "safety_identifier",
    "web_search_options",
    "echo",
    "suffix",
];

/// How vLLM, SGLang, llama.cpp's server and mlx_lm.server choose the caller's own tokens.
const EXTENSIONS: [&str; 40] = [
    "top_k",
    "min_p",
    "typical_p",
    "repetition_penalty",
    "repeat_penalty",
    "repeat_last_n",
    "length_penalty",
    "no_repeat_ngram_size",
    "min_tokens",
    "stop_token_ids",
    "include_stop_str_in_output",
    "ignore_eos",
    "bad_words",
    "skip_special_tokens",
    "spaces_between_special_tokens",
    "add_generation_prompt",
    "continue_final_message",
    "add_special_tokens",
    "truncate_prompt_tokens",
    "use_beam_search",
    "prompt_logprobs",
    "return_tokens_as_token_ids",
    "include_reasoning",
    "reasoning",
    "reasoning_format",
    "thinking",
    "enable_thinking",
    "thinking_token_budget",
    "structured_outputs",
    "guided_json",
    "guided_regex",
    "guided_choice",
    "guided_grammar",
    "grammar",
    "json_schema",
    "mirostat",
    "mirostat_tau",
    "mirostat_eta",
    "xtc_probability",
    "xtc_threshold",
];

/// What a template may be told: words and numbers, not another template (CVE-2025-61620).
const TEMPLATE_WORDS: &str = "chat_template_kwargs";

/// The limits on what is written, by whatever name a server knows them.
pub const LIMITS: [&str; 2] = ["max_completion_tokens", "max_tokens"];

/// The fields that may be passed on, and the names of those that may not.
pub fn own_fields(mut fields: Map<String, Value>) -> (Map<String, Value>, Vec<String>) {
    if let Some(words) = fields.get_mut(TEMPLATE_WORDS).and_then(Value::as_object_mut) {
        words.retain(|key, value| is_word(value) && key != "chat_template" && key != "tokenize");
    }
    let mut others = Vec::new();
    fields.retain(|key, value| {
        let known = OPENAI.contains(&key.as_str()) || EXTENSIONS.contains(&key.as_str());
        let words = key == TEMPLATE_WORDS && value.is_object();
        if !known && !words {
            others.push(key.clone());
        }
        known || words
    });
    (fields, others)
}

fn is_word(value: &Value) -> bool {
    matches!(value, Value::Bool(_) | Value::Number(_) | Value::String(_))
}

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

    fn sent(request: Value, added: &Added<'_>) -> (Value, Vec<String>) {
        let Value::Object(fields) = request else { panic!("no object") };
        let (fields, others) = own_fields(fields);
        (serde_json::from_slice(&body(fields, added)).unwrap(), others)
    }

    #[test]
    fn what_decides_about_others_is_not_passed_on() {
        let request = json!({
            "model": "m", "messages": [], "top_k": 3, "priority": -9, "cache_salt": "victim",
            "id_slot": 0, "kv_transfer_params": {}, "service_tier": "priority", "request_id": "x",
            "prompt_cache_key": "k", "chat_template": "{{ 1 }}", "of_the_next_release": 1,
            "chat_template_kwargs": { "enable_thinking": false, "chat_template": "x", "deep": {} },
        });
        let added = Added { cache_salt: Some("maya's"), ..Added::default() };
        let (body, others) = sent(request, &added);
        let expected = json!({
            "model": "m", "messages": [], "top_k": 3, "cache_salt": "maya's",
            "chat_template_kwargs": { "enable_thinking": false },
        });
        assert_eq!(body, expected);
        assert_eq!(others.len(), 8, "{others:?}");
    }

    #[test]
    fn no_name_of_the_limit_says_more_than_the_smallest() {
        let added = Added { max_tokens: Some(7), ..Added::default() };
        let both = json!({ "max_tokens": 5000, "max_completion_tokens": 7 });
        assert_eq!(sent(both, &added).0, json!({ "max_tokens": 7, "max_completion_tokens": 7 }));
        let newer = json!({ "max_completion_tokens": 9 });
        assert_eq!(sent(newer, &added).0, json!({ "max_completion_tokens": 7 }));
        assert_eq!(sent(json!({}), &added).0, json!({ "max_tokens": 7 }));
    }

    #[test]
    fn a_stream_is_always_counted() {
        let added = Added { count_stream: true, ..Added::default() };
        let counted = json!({ "stream_options": { "include_usage": true } });
        assert_eq!(sent(json!({}), &added).0, counted);
        assert_eq!(sent(json!({ "stream_options": null }), &added).0, counted);
    }
}
