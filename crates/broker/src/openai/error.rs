//! Errors in OpenAI's shape, which its SDKs turn into typed exceptions.

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use ports::{Failure, FailureKind, Passed};
use serde_json::json;

/// An error that the caller sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    /// HTTP status.
    pub status: StatusCode,
    /// OpenAI's `type`.
    pub kind: &'static str,
    /// OpenAI's `code`, for programs.
    pub code: Option<&'static str>,
    /// The field that is wrong.
    pub param: Option<String>,
    /// For people: what was refused, and why.
    pub message: String,
    /// Seconds after which it makes sense to try again.
    pub retry_after: Option<u64>,
    /// What another server said, which is said instead.
    pub passed: Option<Box<Passed>>,
}

impl ApiError {
    fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { status, kind, code: None, param: None, message, retry_after: None, passed: None }
    }

    /// 400: the request makes no sense or asks for what there is not.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request_error", message)
    }

    /// 400 at a certain field.
    pub fn invalid_param(param: &str, message: impl Into<String>) -> Self {
        Self { param: Some(param.to_owned()), ..Self::invalid(message) }
    }

    /// 403: the caller may not do this.
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "permission_error", message)
    }

    /// 404.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "invalid_request_error", message)
    }

    /// 429: over a limit; may be tried again after some seconds.
    pub fn limited(message: impl Into<String>, retry_after: u64) -> Self {
        Self {
            retry_after: Some(retry_after.max(1)),
            ..Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", message)
        }
    }

    /// 502: the backend failed.
    pub fn backend(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_GATEWAY, "server_error", message)
    }

    /// 503: the broker itself cannot serve now.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self {
            retry_after: Some(1),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, "server_error", message)
        }
    }

    /// With OpenAI's `code`.
    pub fn code(self, code: &'static str) -> Self {
        Self { code: Some(code), ..self }
    }

    /// The body that goes over the wire.
    pub fn body(&self) -> String {
        json!({ "error": {
            "message": self.message,
            "type": self.kind,
            "param": self.param,
            "code": self.code,
        }})
        .to_string()
    }
}

impl From<Failure> for ApiError {
    fn from(failure: Failure) -> Self {
        let Failure { kind, message, param, code, passed } = failure;
        let of = match kind {
            FailureKind::Invalid => Self::invalid,
            FailureKind::NotFound => Self::not_found,
            FailureKind::Backend => Self::backend,
            FailureKind::Unavailable => Self::unavailable,
        };
        Self { param, code, passed, ..of(message) }
    }
}

/// Another server's own answer.
fn passed_on(passed: Passed) -> Response {
    let mut response = Response::new(Body::from(passed.body));
    *response.status_mut() = StatusCode::from_u16(passed.status).unwrap_or(StatusCode::BAD_GATEWAY);
    let said =
        [(header::CONTENT_TYPE, passed.content_type), (header::RETRY_AFTER, passed.retry_after)];
    for (name, value) in said {
        if let Some(value) = value.and_then(|value| HeaderValue::from_str(&value).ok()) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        if let Some(passed) = self.passed {
            return passed_on(*passed);
        }
        let mut response = Response::new(Body::from(self.body()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
