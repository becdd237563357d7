//! Refusals as HTTP answers.

use api::{ErrorBody, ErrorCode};
use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

/// What every handler fails with.
#[derive(Debug)]
pub struct Refusal(pub ErrorBody);

/// What every handler returns.
pub type Answer<T> = Result<T, Refusal>;

impl Refusal {
    /// A refusal without a hint.
    pub fn new(code: ErrorCode, error: impl Into<String>) -> Self {
        Refusal(ErrorBody::new(code, error))
    }

    /// The request itself is wrong.
    pub fn usage(error: impl Into<String>) -> Self {
        Self::new(ErrorCode::Usage, error)
    }

    /// The caller has no right to it.
    pub fn denied(error: impl Into<String>) -> Self {
        Self::new(ErrorCode::Denied, error)
    }

    /// It was tried and did not work.
    pub fn failed(error: impl Into<String>) -> Self {
        Self::new(ErrorCode::Failed, error)
    }

    /// An error with all its causes; a line of theirs that begins with `hint:` becomes the hint.
    pub fn chain(code: ErrorCode, error: &dyn std::error::Error) -> Self {
        let (mut text, mut hint) = (String::new(), None);
        let mut next = Some(error);
        while let Some(cause) = next {
            let said = cause.to_string();
            let (what, advice) = said.split_once("\nhint: ").unwrap_or((&said, ""));
            text.push_str(if text.is_empty() { "" } else { ": " });
            text.push_str(what);
            if hint.is_none() && !advice.is_empty() {
                hint = Some(advice.to_owned());
            }
            next = cause.source();
        }
        let refusal = Refusal::new(code, text);
        hint.map_or(Refusal(refusal.0.clone()), |hint| Refusal(refusal.0.clone()).hint(hint))
    }

    /// Says what to do about it, if nobody has yet.
    #[must_use]
    pub fn or_hint(self, hint: &str) -> Self {
        if self.0.hint.is_some() { self } else { self.hint(hint) }
    }

    /// Says what to do about it.
    #[must_use]
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Refusal(self.0.hint(hint))
    }

    /// Names the step of a spawn that refused.
    #[must_use]
    pub fn step(self, step: &str) -> Self {
        if self.0.step.is_some() { self } else { Refusal(self.0.step(step)) }
    }
}

impl From<kernel::Error> for Refusal {
    fn from(error: kernel::Error) -> Self {
        let refusal = Refusal::chain(ErrorCode::Failed, &error);
        error
            .hint()
            .map_or(Refusal(refusal.0.clone()), |hint| Refusal(refusal.0.clone()).or_hint(hint))
    }
}

impl From<crate::sink::Unrecorded> for Refusal {
    fn from(error: crate::sink::Unrecorded) -> Self {
        let refusal = Refusal::failed(error.to_string());
        match error {
            crate::sink::Unrecorded::Closed => refusal,
            crate::sink::Unrecorded::Stuck(_) => refusal.hint(
                "make room on the file system of the audit log; it goes on by itself. \
                 `coconut kill` ends an agent meanwhile, and answers when that is on record",
            ),
        }
    }
}

impl From<supervisor::UnknownAgent> for Refusal {
    fn from(error: supervisor::UnknownAgent) -> Self {
        Refusal::new(ErrorCode::NotFound, error.to_string())
    }
}

impl From<supervisor::ResolveError> for Refusal {
    fn from(error: supervisor::ResolveError) -> Self {
        match &error {
            supervisor::ResolveError::NotFound(_) => Refusal::new(
                ErrorCode::NotFound,
                error.to_string(),
            )
            .hint(
                "`coconut ps --all` lists agents; an AID may be cut to its last 4 digits or more",
            ),
            supervisor::ResolveError::Ambiguous { candidates, .. } => {
                let list: Vec<String> = candidates
                    .iter()
                    .map(|c| format!("{} ({}, {})", c.uuid, c.name, c.state.name()))
                    .collect();
                Refusal::usage(error.to_string()).hint(format!("one of {}", list.join(", ")))
            }
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.code.http_status())
            .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, Json(self.0)).into_response()
    }
}
