//! Why a backend does not answer.

use bytes::Bytes;

/// What kind of failure, for whoever puts it into a protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// The request asks for what there is not.
    Invalid,
    /// It names what there is not.
    NotFound,
    /// The backend has failed.
    Backend,
    /// It cannot answer now.
    Unavailable,
}

/// Another server's own answer, where that is no success.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passed {
    /// HTTP status.
    pub status: u16,
    /// Its `Content-Type`.
    pub content_type: Option<String>,
    /// Its `Retry-After`.
    pub retry_after: Option<String>,
    /// Its body.
    pub body: Bytes,
}

/// A call that a backend does not answer, or not to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What kind.
    pub kind: FailureKind,
    /// For people.
    pub message: String,
    /// The field of the request that is wrong.
    pub param: Option<String>,
    /// OpenAI's `code`, for programs.
    pub code: Option<&'static str>,
    /// What another server said, which says more.
    pub passed: Option<Box<Passed>>,
}

impl Failure {
    fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), param: None, code: None, passed: None }
    }

    /// The request asks for what there is not.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(FailureKind::Invalid, message)
    }

    /// The same, at a certain field.
    pub fn invalid_param(param: &str, message: impl Into<String>) -> Self {
        Self { param: Some(param.to_owned()), ..Self::invalid(message) }
    }

    /// It names a model that is not served.
    pub fn no_model(message: impl Into<String>) -> Self {
        let failure = Self::new(FailureKind::NotFound, message);
        Self { param: Some("model".to_owned()), ..failure }.code("model_not_found")
    }

    /// The backend has failed.
    pub fn backend(message: impl Into<String>) -> Self {
        Self::new(FailureKind::Backend, message)
    }

    /// It cannot answer now.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(FailureKind::Unavailable, message)
    }

    /// With OpenAI's `code`.
    #[must_use]
    pub fn code(self, code: &'static str) -> Self {
        Self { code: Some(code), ..self }
    }
}
