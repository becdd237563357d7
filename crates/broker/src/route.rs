//! Which backend answers for a model. Backends stand side by side, each with a queue of its own: a slow one holds
//! up nobody who asks another.

use crate::admission::{Admission, Policy};
use crate::openai::ApiError;
use futures_util::future::{join_all, select_all};
use ports::{Backend, ModelCard};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

/// A list of models that is older is asked for again where a model is not in it.
const FRESH: Duration = Duration::from_secs(1);

/// A backend, and the queue in front of it.
pub struct Route {
    /// Its name, for metrics and for people.
    pub name: String,
    /// Who answers.
    pub backend: Arc<dyn Backend>,
    /// Whose turn it is.
    pub admission: Arc<Admission>,
    /// The models that it had when it last said so.
    known: RwLock<Known>,
}

#[derive(Default)]
struct Known {
    models: Vec<String>,
    at: Option<Instant>,
}

impl Route {
    /// A backend behind a queue.
    pub fn new(name: impl Into<String>, backend: Arc<dyn Backend>, policy: Policy) -> Self {
        let admission = Admission::new(policy);
        Self { name: name.into(), backend, admission, known: RwLock::default() }
    }

    fn knows(&self, model: &str) -> bool {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.models.iter().any(|known| known == model)
    }

    fn is_stale(&self) -> bool {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.at.is_none_or(|at| at.elapsed() >= FRESH)
    }

    /// Asks for its models. One that does not answer keeps those that it had: who asks for one of them is told
    /// that the backend is away, not that there is no such model.
    async fn models(&self) -> Result<Vec<ModelCard>, ApiError> {
        let answer = self.backend.models().await;
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.at = Some(Instant::now());
        match answer {
            Ok(models) => {
                known.models = models.iter().map(|model| model.id.clone()).collect();
                Ok(models)
            }
            Err(failure) => {
                tracing::warn!(backend = self.name, why = failure.message, "its models");
                Err(failure.into())
            }
        }
    }
}

/// All backends, in the order in which they were named: of two that have a model the first answers.
pub struct Routes(Vec<Route>);

impl Routes {
    /// Of these; one at least.
    pub fn new(routes: Vec<Route>) -> Self {
        Self(routes)
    }

    /// All of them.
    pub fn all(&self) -> &[Route] {
        &self.0
    }

    /// The backend for a model.
    ///
    /// # Errors
    /// When none has it.
    pub async fn of(&self, model: &str) -> Result<&Route, ApiError> {
        // One alone knows best what it can answer.
        if let [only] = self.0.as_slice() {
            return Ok(only);
        }
        if let Some(route) = self.0.iter().find(|route| route.knows(model)) {
            return Ok(route);
        }
        join_all(self.0.iter().filter(|route| route.is_stale()).map(Route::models)).await;
        self.0.iter().find(|route| route.knows(model)).ok_or_else(|| no_model(model))
    }

    /// The models of all of them; of two of a name the first.
    ///
    /// # Errors
    /// When none of them answers.
    pub async fn models(&self) -> Result<Vec<ModelCard>, ApiError> {
        let (mut all, mut failed) = (Vec::<ModelCard>::new(), None);
        for answer in join_all(self.0.iter().map(Route::models)).await {
            match answer {
                Ok(models) => {
                    for model in models {
                        if all.iter().all(|known| known.id != model.id) {
                            all.push(model);
                        }
                    }
                }
                Err(error) => failed = Some(error),
            }
        }
        match failed {
            Some(error) if all.is_empty() => Err(error),
            _ => Ok(all),
        }
    }

    /// Whether each can answer now.
    pub async fn health(&self) -> Vec<(&str, Result<(), ApiError>)> {
        let asked = self.0.iter().map(|route| async {
            (route.name.as_str(), route.backend.health().await.map_err(ApiError::from))
        });
        join_all(asked).await
    }

    /// Ends when one of them is gone for good; its name.
    pub async fn gone(&self) -> &str {
        if self.0.is_empty() {
            return std::future::pending().await;
        }
        let gone = self.0.iter().map(|route| {
            Box::pin(async {
                route.backend.gone().await;
                route.name.as_str()
            })
        });
        select_all(gone).await.0
    }
}

/// There is no such model.
pub fn no_model(model: &str) -> ApiError {
    let error = ApiError::not_found(format!("there is no model {model:?}"));
    ApiError { param: Some("model".into()), ..error }.code("model_not_found")
}
