//! What went wrong, as a person reads it and as a script's exit code.

use api::client::ClientError;
use api::{ErrorBody, ErrorCode};
use std::fmt::Display;

/// A command that was not done.
#[derive(Debug)]
pub struct Failure {
    /// The exit code and the name in JSON.
    pub code: ErrorCode,
    /// The message, then its causes.
    pub error: anyhow::Error,
    /// What to do about it.
    pub hint: Option<String>,
    /// The spawn's step that refused.
    pub step: Option<String>,
    /// Text in front of the message: a manifest's excerpt with line and column.
    pub excerpt: Option<String>,
}

/// What every command returns: its exit status.
pub type Done = Result<u8, Failure>;

impl Failure {
    /// A failure with a message of its own.
    pub fn new(code: ErrorCode, error: impl Display) -> Self {
        Self::from_error(code, anyhow::anyhow!("{error}"))
    }

    /// A failure with a chain of causes.
    pub fn from_error(code: ErrorCode, error: anyhow::Error) -> Self {
        Self { code, error, hint: None, step: None, excerpt: None }
    }

    /// Says what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// A command that a later version has.
    pub fn planned(what: &str) -> Self {
        Self::new(ErrorCode::Usage, format!("`coconut {what}` is not in this version"))
            .hint("`coconut --help` lists what is")
    }

    /// The lines for stderr.
    pub fn render(&self) -> String {
        let mut out = String::new();
        if let Some(excerpt) = &self.excerpt {
            out.push_str(excerpt.trim_end());
            out.push('\n');
        }
        let step = self.step.as_ref().map(|s| format!("{s}: ")).unwrap_or_default();
        out.push_str(&format!("error: {step}{}\n", self.error));
        for cause in self.error.chain().skip(1) {
            out.push_str(&format!("  because: {cause}\n"));
        }
        if let Some(hint) = &self.hint {
            out.push_str(&format!("hint: {hint}\n"));
        }
        out
    }

    /// The same for programs.
    pub fn body(&self) -> ErrorBody {
        let causes: Vec<String> = self.error.chain().map(ToString::to_string).collect();
        ErrorBody {
            error: causes.join(": "),
            hint: self.hint.clone(),
            code: self.code,
            step: self.step.clone(),
        }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let (code, hint) = (error.code(), error.hint());
        let step = match &error {
            ClientError::Refused(body) => body.step.clone(),
            _ => None,
        };
        Self { hint, step, ..Self::from_error(code, error.into()) }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::from_error(ErrorCode::Failed, error)
    }
}

/// A file that a command was given and that cannot be used.
pub fn file_error(path: &std::path::Path, error: std::io::Error) -> Failure {
    let code = match error.kind() {
        std::io::ErrorKind::NotFound => ErrorCode::NotFound,
        std::io::ErrorKind::PermissionDenied => ErrorCode::Denied,
        _ => ErrorCode::Failed,
    };
    Failure::from_error(code, anyhow::Error::new(error).context(path.display().to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_shows_step_and_hint_once() {
        let body = ErrorBody::new(ErrorCode::Denied, "fs.read=/etc is not held by the parent")
            .hint("ask for less")
            .step("attenuation");
        let failure = Failure::from(ClientError::from(body));
        assert_eq!(
            failure.render(),
            "error: attenuation: fs.read=/etc is not held by the parent\nhint: ask for less\n"
        );
        assert_eq!(failure.code.exit_code(), 3);
    }

    #[test]
    fn exit_codes_are_those_of_the_design() {
        let missing = file_error(std::path::Path::new("/x"), std::io::ErrorKind::NotFound.into());
        assert_eq!(missing.code.exit_code(), 4);
        assert_eq!(Failure::planned("top").code.exit_code(), 2);
        assert_eq!(Failure::from(anyhow::anyhow!("no")).code.exit_code(), 1);
    }
}
