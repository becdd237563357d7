//! Asks a model through `OPENAI_BASE_URL`, as any OpenAI client would.

use crate::outcome::ModelText;
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::env;
use std::time::Duration;

/// Longest answer, in tokens.
const MAX_TOKENS: u32 = 24;
/// A queue of thirty agents before an emulated processor that does much else is slow.
const PATIENCE: Duration = Duration::from_secs(1800);

/// Asks; a refusal or a dead engine is reported in the answer and is no failure of the analysis.
pub fn ask(model: &str, prompt: &str) -> ModelText {
    let mut answer =
        ModelText { model: model.into(), prompt: prompt.into(), ..ModelText::default() };
    match request(model, prompt).and_then(|reply| read(&reply, &mut answer)) {
        Ok(()) => {}
        Err(error) => answer.error = Some(format!("{error:#}")),
    }
    answer
}

fn request(model: &str, prompt: &str) -> Result<Value> {
    let base = env::var("OPENAI_BASE_URL").context("OPENAI_BASE_URL is not set")?;
    let key = env::var("OPENAI_API_KEY").unwrap_or_default();
    let body = json!({
        "model": model,
        "messages": [{ "role": "user", "content": prompt }],
        "max_tokens": MAX_TOKENS,
        "temperature": 0.7,
    });
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(PATIENCE))
        .http_status_as_error(false)
        .build()
        .into();
    let url = format!("{}/chat/completions", base.trim_end_matches('/'));
    let mut response = agent
        .post(&url)
        .header("Authorization", &format!("Bearer {key}"))
        .send_json(body)
        .with_context(|| format!("no answer from {url}"))?;
    let status = response.status();
    let reply: Value =
        response.body_mut().read_json().with_context(|| format!("{url} answered {status}"))?;
    anyhow::ensure!(status.is_success(), "{url} answered {status}: {}", reply["error"]["message"]);
    Ok(reply)
}

fn read(reply: &Value, answer: &mut ModelText) -> Result<()> {
    let text = reply["choices"][0]["message"]["content"].as_str();
    answer.text = text.context("the reply holds no text")?.trim().to_owned();
    if let Some(model) = reply["model"].as_str() {
        answer.model = model.to_owned();
    }
    answer.prompt_tokens = reply["usage"]["prompt_tokens"].as_u64().unwrap_or(0);
    answer.completion_tokens = reply["usage"]["completion_tokens"].as_u64().unwrap_or(0);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_is_read_with_its_model_and_usage() {
        let reply = json!({
            "model": "tiny", "choices": [{"message": {"content": " yes \n"}}],
            "usage": {"prompt_tokens": 7, "completion_tokens": 2},
        });
        let mut answer = ModelText::default();
        read(&reply, &mut answer).unwrap();
        assert_eq!((answer.model.as_str(), answer.text.as_str()), ("tiny", "yes"));
        assert_eq!((answer.prompt_tokens, answer.completion_tokens), (7, 2));
    }

    #[test]
    fn a_reply_without_text_is_an_error() {
        assert!(read(&json!({"choices": []}), &mut ModelText::default()).is_err());
    }
}
