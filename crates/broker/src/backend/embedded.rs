//! The embedded engine as a backend.

use super::{Backend, ModelCard, Prepared, Start};
use crate::admission::Ticket;
use crate::aside::aside;
use crate::openai::{ApiError, Call, Endpoint, Input};
use futures_util::future::BoxFuture;
use inference::{Engine, Job, Model, Prompt};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{SystemTime, UNIX_EPOCH};

/// What `/v1/completions` writes at most where the request does not say, as OpenAI has it.
const COMPLETION_TOKENS: u32 = 16;

/// The engine, and when it was started.
pub struct Embedded {
    engine: Arc<Engine>,
    created: u64,
}

impl Embedded {
    /// Serves this engine.
    pub fn new(engine: Engine) -> Self {
        let created = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        Self { engine: Arc::new(engine), created }
    }
}

/// Tokenises what is to be continued.
fn tokenise(model: &Model, input: &Input) -> Result<Prompt, ApiError> {
    match input {
        Input::Messages(messages) => model
            .chat_prompt(messages)
            .map_err(|e| ApiError::invalid_param("messages", e.to_string())),
        Input::Text(text) => Ok(model.text_prompt(text)),
        Input::Tokens(ids) => model.token_prompt(ids).ok_or_else(|| {
            ApiError::invalid_param("prompt", "prompt holds a token id that the model lacks")
        }),
        Input::Many(_) => {
            let message = "the embedded engine takes one prompt a request";
            Err(ApiError::invalid_param("prompt", message))
        }
    }
}

/// Tokens that there is room for, and that may be written: what was asked for, or what is usual.
fn room(call: &Call, limit: u32, prompt_tokens: u32) -> Result<(u32, u32), ApiError> {
    let room = limit.saturating_sub(prompt_tokens);
    let usual = match call.endpoint {
        Endpoint::Chat => room,
        Endpoint::Completion => COMPLETION_TOKENS.min(room),
    };
    let wanted = call.max_tokens.unwrap_or(usual);
    if wanted > 0 && wanted <= room {
        return Ok((room, wanted));
    }
    let message = format!(
        "the context holds {limit} tokens, but the prompt has {prompt_tokens} and {} were asked for",
        wanted.max(1)
    );
    Err(ApiError::invalid(message).code("context_length_exceeded"))
}

/// What one sequence of this model can do; the rest is refused by name.
fn check(model: &Model, call: &Call) -> Result<(), ApiError> {
    if call.model != model.name() {
        let message =
            format!("model {:?} is not served here; there is {:?}", call.model, model.name());
        return Err(ApiError { param: Some("model".into()), ..ApiError::not_found(message) }
            .code("model_not_found"));
    }
    let Some(special) = &call.special else { return Ok(()) };
    let param = special.split(' ').next().unwrap_or_default();
    let message = format!("{special}: the embedded engine does not support this");
    Err(ApiError::invalid_param(param, message))
}

/// Checks and tokenises.
fn prepared(model: &Model, call: Call, limit: u32) -> Result<Prepared, ApiError> {
    check(model, &call)?;
    let prompt = tokenise(model, &call.input)?;
    let prompt_tokens = u32::try_from(prompt.len()).unwrap_or(u32::MAX);
    if prompt_tokens == 0 {
        return Err(ApiError::invalid_param("prompt", "the prompt is empty"));
    }
    let (room, max_tokens) = room(&call, limit, prompt_tokens)?;
    Ok(Prepared {
        model: model.name().to_owned(),
        prompt_tokens,
        room: Some(room),
        max_tokens: Some(max_tokens),
        prompt: Some(prompt),
        call,
    })
}

impl Backend for Embedded {
    fn prepare(
        &self,
        call: Call,
        context: Option<u32>,
    ) -> BoxFuture<'_, Result<Prepared, ApiError>> {
        let limit = context.unwrap_or(u32::MAX).min(self.engine.config().context);
        let model = self.engine.model().clone();
        Box::pin(aside(call.bytes(), move || prepared(&model, call, limit)))
    }

    fn start(&self, prepared: Prepared, _tenant: &str) -> Result<Start<'_>, ApiError> {
        let Prepared { call, prompt: Some(prompt), max_tokens: Some(max_tokens), .. } = prepared
        else {
            return Err(ApiError::backend("the call was not prepared for the embedded engine"));
        };
        let (events, receiver) = tokio::sync::mpsc::unbounded_channel();
        let engine = self.engine.clone();
        let begin = move |share: Arc<Ticket>| {
            engine.submit(Job {
                prompt,
                sampling: call.sampling,
                stop: call.stop,
                max_tokens,
                ignore_eos: call.ignore_eos,
                share,
                events,
            });
        };
        Ok(Start::AtTurn(Box::new(begin), receiver))
    }

    fn models(&self) -> BoxFuture<'_, Result<Vec<ModelCard>, ApiError>> {
        let card = ModelCard {
            id: self.engine.model().name().to_owned(),
            object: "model",
            created: self.created,
            owned_by: "coconut".into(),
        };
        Box::pin(async { Ok(vec![card]) })
    }

    fn health(&self) -> BoxFuture<'_, Result<(), ApiError>> {
        let stopped = || ApiError::unavailable("the engine has stopped");
        let runs = if self.engine.runs() { Ok(()) } else { Err(stopped()) };
        Box::pin(async { runs })
    }

    fn gone(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.engine.ended())
    }

    fn metrics(&self) -> String {
        let s = self.engine.stats();
        [
            ("steps_total", "counter", &s.steps),
            ("tokens_computed_total", "counter", &s.tokens),
            ("tokens_written_total", "counter", &s.written),
            ("busy_microseconds_total", "counter", &s.busy_us),
            ("sequences_running", "gauge", &s.running),
            ("step_limit_microseconds", "gauge", &s.step_us),
            ("steps_over_limit_total", "counter", &s.over_limit),
        ]
        .iter()
        .map(|(name, kind, value)| {
            let value = value.load(Relaxed);
            format!("# TYPE coconut_engine_{name} {kind}\ncoconut_engine_{name} {value}\n")
        })
        .collect()
    }
}
