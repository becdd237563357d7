//! Backends: whatever computes answers, behind one narrow trait.

pub mod embedded;
pub mod remote;

use crate::admission::{AtTurn, Ticket};
use crate::openai::{ApiError, Call};
use futures_util::future::BoxFuture;
use inference::{Event, Prompt};
use std::sync::Arc;
use tokio::sync::mpsc::UnboundedReceiver;

/// A model that a backend serves.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct ModelCard {
    /// Its name.
    pub id: String,
    /// Always `model`.
    pub object: &'static str,
    /// Seconds since the UNIX epoch; 0 where the backend does not say.
    pub created: u64,
    /// Who serves it.
    pub owned_by: String,
}

/// A call that has been checked and measured, not yet admitted.
pub struct Prepared {
    /// The call.
    pub call: Call,
    /// Name of the model that will answer.
    pub model: String,
    /// Tokens of the prompt: counted, or guessed where only the backend can count.
    pub prompt_tokens: u32,
    /// Most tokens that there is room for; none where only the backend knows.
    pub room: Option<u32>,
    /// Most tokens that it may write; none leaves it to the backend.
    pub max_tokens: Option<u32>,
    /// The tokenised prompt, for the embedded engine.
    pub prompt: Option<Prompt>,
}

/// A backend's HTTP answer, passed through as it arrives.
pub type Upstream = hyper::Response<hyper::body::Incoming>;

/// Asks another server, for who holds the ticket.
pub type After<'a> =
    Box<dyn FnOnce(Arc<Ticket>) -> BoxFuture<'a, Result<Upstream, ApiError>> + Send + 'a>;

/// How an answer is begun. The ticket pays for its tokens; dropping the answer cancels the work.
pub enum Start<'a> {
    /// While its turn is given: between that and its beginning nothing can be computed for others,
    /// however slowly the call's own task goes on. Text comes token by token.
    AtTurn(AtTurn, UnboundedReceiver<Event>),
    /// Afterwards, by the call's own task.
    After(After<'a>),
}

/// Something that answers calls.
pub trait Backend: Send + Sync {
    /// Checks a call and measures its prompt; `context` is the most that the caller may fill.
    fn prepare(
        &self,
        call: Call,
        context: Option<u32>,
    ) -> BoxFuture<'_, Result<Prepared, ApiError>>;
    /// What begins the answer to a call of this tenant, once it is the call's turn.
    fn start(&self, prepared: Prepared, tenant: &str) -> Result<Start<'_>, ApiError>;
    /// The models that it serves.
    fn models(&self) -> BoxFuture<'_, Result<Vec<ModelCard>, ApiError>>;
    /// Whether it can answer now.
    fn health(&self) -> BoxFuture<'_, Result<(), ApiError>>;
    /// Ends when the backend is gone for good: only a new process helps.
    fn gone(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::pending())
    }
    /// Lines for `/metrics`.
    fn metrics(&self) -> String {
        String::new()
    }
}
