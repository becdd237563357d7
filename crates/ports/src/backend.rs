//! Whatever computes answers, behind one narrow trait.

use crate::{Answer, Failure, Meter, Request, Share};
use futures_util::future::BoxFuture;
use std::sync::Arc;
use uuid::Uuid;

/// A model that a backend serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelCard {
    /// Its name.
    pub id: String,
    /// Seconds since the UNIX epoch; 0 where the backend does not say.
    pub created: u64,
    /// Who serves it.
    pub owned_by: String,
}

/// A request that has been checked and measured, not yet admitted.
pub struct Prepared {
    /// The request.
    pub request: Request,
    /// Tokens of its prompt: counted, or guessed where only the backend can count.
    pub prompt_tokens: u32,
    /// Most tokens that it may write; none leaves it to the backend.
    pub max_tokens: Option<u32>,
    /// Token ids of its prompt, for a backend that counts here.
    pub prompt: Option<Vec<u32>>,
}

/// For whom a call is answered.
#[derive(Clone, Copy, Debug)]
pub struct For<'a> {
    /// The tenant: nobody else may share what the backend keeps of the call.
    pub tenant: &'a str,
    /// The call's id, by which the backend's own log may name it.
    pub call: Uuid,
}

/// What an admitted call is computed for. Who drops it lets go of the call.
#[derive(Clone)]
pub struct Payment {
    /// Who pays.
    pub share: Arc<dyn Share>,
    /// Who counts.
    pub meter: Arc<dyn Meter>,
}

/// Begins an answer, at the very moment at which its turn comes: it must not wait.
pub type Begin = Box<dyn FnOnce(Payment) + Send>;

/// How a call is begun, and where its answer comes.
pub struct Start {
    /// To be called once, when the turn comes.
    pub begin: Begin,
    /// Says nothing before that.
    pub answer: Answer,
}

/// What a number of a backend's is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MeasureKind {
    /// It only grows.
    Counter,
    /// It goes up and down.
    Gauge,
}

/// A number of a backend's, for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measure {
    /// Name, in the way of Prometheus: without a prefix, and without `_total`.
    pub name: &'static str,
    /// For people.
    pub help: &'static str,
    /// What it is.
    pub kind: MeasureKind,
    /// Now.
    pub value: u64,
}

/// Something that answers calls.
pub trait Backend: Send + Sync {
    /// Checks a request and measures its prompt; `context` is the most that the caller may fill.
    fn prepare(
        &self,
        request: Request,
        context: Option<u32>,
    ) -> BoxFuture<'_, Result<Prepared, Failure>>;
    /// What begins the answer, once it is the call's turn.
    ///
    /// # Errors
    /// When the call was not prepared for this backend.
    fn start(&self, prepared: Prepared, whom: For<'_>) -> Result<Start, Failure>;
    /// The models that it serves.
    fn models(&self) -> BoxFuture<'_, Result<Vec<ModelCard>, Failure>>;
    /// Whether it can answer now.
    fn health(&self) -> BoxFuture<'_, Result<(), Failure>>;
    /// Every step that it computes is in the order of the accounts ([`Share::key`]): whoever is owed service
    /// may begin over the number of slots.
    fn yields(&self) -> bool;
    /// Ends when the backend is gone for good: only a new process helps.
    fn gone(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::pending())
    }
    /// Numbers for metrics.
    fn measures(&self) -> Vec<Measure> {
        Vec::new()
    }
}
