//! What a refused request is answered with, and the exit code that a script sees.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Why a request was not done. The names are stable; each has one exit code and one HTTP status.
///
/// `failed`: it was tried and did not work. `usage`: the request itself is wrong. `denied`: the caller, or the manifest's
/// authorizer, has no right to it. `not-found`: there is no such agent, record or file. `unavailable`: the daemon is not
/// there, or is stopping. `integrity`: a hash, a signature or a chain does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorCode {
    /// It was tried and did not work.
    Failed,
    /// The request itself is wrong.
    Usage,
    /// The caller, or the manifest's authorizer, has no right to it.
    Denied,
    /// There is no such agent, record or file.
    NotFound,
    /// The daemon is not there, or is stopping.
    Unavailable,
    /// A hash, a signature or a chain does not fit.
    Integrity,
}

impl ErrorCode {
    /// Every code.
    pub const ALL: [ErrorCode; 6] = [
        Self::Failed,
        Self::Usage,
        Self::Denied,
        Self::NotFound,
        Self::Unavailable,
        Self::Integrity,
    ];

    /// The exit code of `coconut` (a stable interface).
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Denied => 3,
            Self::NotFound => 4,
            Self::Unavailable => 5,
            Self::Integrity => 6,
        }
    }

    /// The HTTP status that coconutd answers with.
    pub const fn http_status(self) -> u16 {
        match self {
            Self::Failed => 500,
            Self::Usage => 400,
            Self::Denied => 403,
            Self::NotFound => 404,
            Self::Unavailable => 503,
            Self::Integrity => 409,
        }
    }

    /// The code for an answer without an [`ErrorBody`], from its HTTP status alone.
    pub const fn from_http_status(status: u16) -> Self {
        match status {
            400 | 405 | 413 | 415 | 422 => Self::Usage,
            401 | 403 => Self::Denied,
            404 => Self::NotFound,
            409 => Self::Integrity,
            503 => Self::Unavailable,
            _ => Self::Failed,
        }
    }
}

/// The body of every answer that is not a success.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error, ToSchema)]
#[error("{error}")]
pub struct ErrorBody {
    /// What was tried and what refused, for people.
    pub error: String,
    /// What to do about it, where there is something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// For programs.
    pub code: ErrorCode,
    /// The step of a spawn that refused: `manifest`, `signature`, `attenuation`, `cgroup`…
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
}

impl ErrorBody {
    /// An error without a hint.
    pub fn new(code: ErrorCode, error: impl Into<String>) -> Self {
        Self { error: error.into(), hint: None, code, step: None }
    }

    /// Says what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Names the step of a spawn that refused.
    #[must_use]
    pub fn step(mut self, step: impl Into<String>) -> Self {
        self.step = Some(step.into());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_its_own_exit_code_and_survives_http() {
        let mut exits: Vec<u8> = ErrorCode::ALL.iter().map(|c| c.exit_code()).collect();
        exits.dedup();
        assert_eq!(exits, [1, 2, 3, 4, 5, 6]);
        for code in ErrorCode::ALL {
            assert_eq!(ErrorCode::from_http_status(code.http_status()), code);
        }
    }
}
