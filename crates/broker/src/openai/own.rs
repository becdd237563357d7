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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_decides_about_others_is_not_passed_on() {
        let request = json!({
            "model": "m", "messages": [], "top_k": 3, "priority": -9, "cache_salt": "victim",
            "id_slot": 0, "kv_transfer_params": {}, "service_tier": "priority", "request_id": "x",
            "prompt_cache_key": "k", "chat_template": "{{ 1 }}", "of_the_next_release": 1,
            "chat_template_kwargs": { "enable_thinking": false, "chat_template": "x", "deep": {} },
        });
        let Value::Object(fields) = request else { panic!("no object") };
        let (fields, others) = own_fields(fields);
        let expected = json!({
            "model": "m", "messages": [], "top_k": 3,
            "chat_template_kwargs": { "enable_thinking": false },
        });
        assert_eq!(Value::Object(fields), expected);
        assert_eq!(others.len(), 9, "{others:?}");
    }
}
