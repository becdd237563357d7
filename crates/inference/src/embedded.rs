//! The embedded engine as a backend.

use crate::{Engine, Job, Model};
use futures_util::future::BoxFuture;
use futures_util::{StreamExt, stream};
use ports::{
    Answer, Backend, Endpoint, Failure, For, Input, Measure, MeasureKind, ModelCard, Part, Payment,
    Prepared, Request, Start, aside,
};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::mpsc::UnboundedReceiver;

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
fn tokenise(model: &Model, input: &Input) -> Result<Vec<u32>, Failure> {
    match input {
        Input::Messages(messages) => model
            .chat_prompt(messages)
            .map_err(|e| Failure::invalid_param("messages", e.to_string())),
        Input::Text(text) => Ok(model.text_prompt(text)),
        Input::Tokens(ids) if model.has(ids) => Ok(ids.clone()),
        Input::Tokens(_) => {
            let message = "prompt holds a token id that the model lacks";
            Err(Failure::invalid_param("prompt", message))
        }
        Input::Many(_) => {
            let message = "the embedded engine takes one prompt a request";
            Err(Failure::invalid_param("prompt", message))
        }
    }
}

/// Tokens that may be written: what was asked for, or what is usual.
fn max_tokens(request: &Request, limit: u32, prompt_tokens: u32) -> Result<u32, Failure> {
    let room = limit.saturating_sub(prompt_tokens);
    let usual = match request.endpoint {
        Endpoint::Chat => room,
        Endpoint::Completion => COMPLETION_TOKENS.min(room),
    };
    let wanted = request.max_tokens.unwrap_or(usual);
    if wanted > 0 && wanted <= room {
        return Ok(wanted);
    }
    let message = format!(
        "the context holds {limit} tokens, but the prompt has {prompt_tokens} and {} were asked for",
        wanted.max(1)
    );
    Err(Failure::invalid(message).code("context_length_exceeded"))
}

/// What one sequence of this model can do; the rest is refused by name.
fn check(model: &Model, request: &Request) -> Result<(), Failure> {
    if request.model != model.name() {
        let (asked, name) = (&request.model, model.name());
        return Err(Failure::no_model(format!(
            "model {asked:?} is not served here; there is {name:?}"
        )));
    }
    let Some(special) = &request.special else { return Ok(()) };
    let param = special.split(' ').next().unwrap_or_default();
    let message = format!("{special}: the embedded engine does not support this");
    Err(Failure::invalid_param(param, message))
}

/// Checks and tokenises.
fn prepared(model: &Model, request: Request, limit: u32) -> Result<Prepared, Failure> {
    check(model, &request)?;
    let prompt = tokenise(model, &request.input)?;
    let prompt_tokens = u32::try_from(prompt.len()).unwrap_or(u32::MAX);
    if prompt_tokens == 0 {
        return Err(Failure::invalid_param("prompt", "the prompt is empty"));
    }
    let max_tokens = Some(max_tokens(&request, limit, prompt_tokens)?);
    Ok(Prepared { request, prompt_tokens, max_tokens, prompt: Some(prompt) })
}

/// What comes through the channel; it is known at once that there will be an answer.
fn answer(parts: UnboundedReceiver<Result<Part, Failure>>) -> Answer {
    let parts = stream::unfold(parts, |mut parts| async { parts.recv().await.map(|p| (p, parts)) });
    stream::iter([Ok(Part::Begun)]).chain(parts).boxed()
}

impl Backend for Embedded {
    fn prepare(
        &self,
        request: Request,
        context: Option<u32>,
    ) -> BoxFuture<'_, Result<Prepared, Failure>> {
        let limit = context.unwrap_or(u32::MAX).min(self.engine.config().context);
        let model = self.engine.model().clone();
        Box::pin(aside(request.bytes, move || prepared(&model, request, limit)))
    }

    fn start(&self, prepared: Prepared, _whom: For<'_>) -> Result<Start, Failure> {
        let Prepared { request, prompt: Some(prompt), max_tokens: Some(max_tokens), .. } = prepared
        else {
            return Err(Failure::backend("the call was not prepared for the embedded engine"));
        };
        let (parts, receiver) = tokio::sync::mpsc::unbounded_channel();
        let engine = self.engine.clone();
        let begin = move |payment: Payment| {
            engine.submit(Job { request, prompt, max_tokens, payment, parts });
        };
        Ok(Start { begin: Box::new(begin), answer: answer(receiver) })
    }

    fn models(&self) -> BoxFuture<'_, Result<Vec<ModelCard>, Failure>> {
        let card = ModelCard {
            id: self.engine.model().name().to_owned(),
            created: self.created,
            owned_by: "coconut".into(),
        };
        Box::pin(async { Ok(vec![card]) })
    }

    fn health(&self) -> BoxFuture<'_, Result<(), Failure>> {
        let stopped = || Failure::unavailable("the engine has stopped");
        let runs = if self.engine.runs() { Ok(()) } else { Err(stopped()) };
        Box::pin(async { runs })
    }

    fn yields(&self) -> bool {
        true
    }

    fn gone(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.engine.ended())
    }

    fn measures(&self) -> Vec<Measure> {
        use MeasureKind::{Counter, Gauge};
        let s = self.engine.stats();
        [
            ("steps", "Steps done", Counter, &s.steps),
            ("tokens_computed", "Tokens computed, prompts included", Counter, &s.tokens),
            ("tokens_written", "Tokens written", Counter, &s.written),
            ("busy_microseconds", "Time spent in steps", Counter, &s.busy_us),
            ("sequences_running", "Sequences that hold context", Gauge, &s.running),
            ("step_limit_microseconds", "How long a step may last", Gauge, &s.step_us),
            ("steps_over_limit", "Steps planned longer than they may be", Counter, &s.over_limit),
        ]
        .map(|(name, help, kind, value)| Measure { name, help, kind, value: value.load(Relaxed) })
        .into()
    }
}
