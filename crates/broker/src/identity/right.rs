//! A call's hold on its right: who loses the right loses what runs by it, at once.

use crate::openai::ApiError;
use api::broker::InferLimits;
use tokio::sync::watch;

/// What an agent may ask for now; none once the capability was taken, or the agent has ended.
pub type Infer = watch::Sender<Option<InferLimits>>;

/// True if the capability covers this model.
pub fn covers(limits: &InferLimits, model: &str) -> bool {
    limits.models.iter().any(|m| m == "*" || m == model)
}

/// The right to go on with a call.
#[derive(Clone, Debug)]
pub struct Right {
    model: String,
    /// None: the caller is no agent, and nothing of it can be taken.
    now: Option<watch::Receiver<Option<InferLimits>>>,
    /// The broker itself ends, and everybody's calls with it.
    ending: watch::Receiver<bool>,
}

impl Right {
    /// To be answered by this model.
    pub fn new(
        model: &str,
        now: Option<watch::Receiver<Option<InferLimits>>>,
        ending: watch::Receiver<bool>,
    ) -> Self {
        Self { model: model.to_owned(), now, ending }
    }

    /// Ends when the right is lost. May be dropped and called again.
    pub async fn lost(&mut self) -> ApiError {
        let taken = async {
            let Some(now) = &mut self.now else { return std::future::pending().await };
            let lost = |limits: &Option<InferLimits>| {
                limits.as_ref().is_none_or(|limits| !covers(limits, &self.model))
            };
            // Nobody is left who could change it: the agent is forgotten.
            let _ = now.wait_for(lost).await;
        };
        tokio::select! {
            () = taken => ApiError::forbidden("the infer capability was revoked, or the agent has ended")
                .code("capability_revoked"),
            // Nobody is left who could say it: it has ended.
            _ = self.ending.wait_for(|ending| *ending) => ApiError::unavailable("the broker is ending"),
        }
    }
}
