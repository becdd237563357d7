//! Backends: whatever computes answers, behind one narrow trait.

pub mod embedded;
pub mod remote;

use crate::admission::Ticket;
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
    /// Name of the model that will answer.
    pub model: String,
    /// Tokens of the prompt: counted, or guessed where only the backend can count.
    pub prompt_tokens: u32,
    /// Most tokens it may write.
    pub max_tokens: Option<u32>,
    /// The tokenised prompt, for the embedded engine.
    pub prompt: Option<Prompt>,
}

/// How an answer comes.
pub enum Reply {
    /// Text, token by token.
    Events(UnboundedReceiver<Event>),
    /// A finished HTTP answer, passed through as it arrives.
    Upstream(hyper::Response<hyper::body::Incoming>),
}

/// Something that answers calls.
pub trait Backend: Send + Sync {
    /// Checks a call and measures its prompt.
    fn prepare(&self, call: &Call, context: Option<u32>) -> Result<Prepared, ApiError>;
    /// Starts the answer. `ticket` pays for its tokens. Dropping the reply cancels the work.
    fn run(
        &self,
        call: Call,
        prepared: Prepared,
        ticket: Arc<Ticket>,
    ) -> BoxFuture<'_, Result<Reply, ApiError>>;
    /// The models that it serves.
    fn models(&self) -> BoxFuture<'_, Result<Vec<ModelCard>, ApiError>>;
    /// Lines for `/metrics`.
    fn metrics(&self) -> String {
        String::new()
    }
}
