//! What every agent of the team writes, whatever program it is: one JSON file in its own folder.

use serde::Serialize;
use serde_json::Value;

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Should be looked at before a release.
    High,
    /// Should be looked at.
    Medium,
    /// Worth knowing.
    Low,
}

/// One thing at one place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How much it matters.
    pub severity: Severity,
    /// Short name of what was looked for.
    pub rule: &'static str,
    /// Path below the root.
    pub file: String,
    /// Line, from 1; 0 means the whole file.
    pub line: usize,
    /// One sentence.
    pub text: String,
}

/// Words from a model: never a figure, never a finding, always shown as what they are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ModelText {
    /// Name that the engine gave itself.
    pub model: String,
    /// What was asked.
    pub prompt: String,
    /// What came back.
    pub text: String,
    /// Tokens read, as the engine counted.
    pub prompt_tokens: u64,
    /// Tokens written, as the engine counted.
    pub completion_tokens: u64,
    /// Why there is no text.
    pub error: Option<String>,
}

/// The file itself.
#[derive(Debug, Serialize)]
pub struct Outcome {
    /// Version of this layout.
    pub schema: u32,
    /// Name that the coordinator gave.
    pub agent: String,
    /// What ran: `rust`, `shell` or `python`.
    pub program: &'static str,
    /// The analysis.
    pub analysis: &'static str,
    /// The result in one line.
    pub headline: String,
    /// Numbers, by analysis.
    pub figures: Value,
    /// Places, most important first.
    pub findings: Vec<Finding>,
    /// A short question about the result, for whoever has a model.
    pub question: String,
    /// The model's words, if it was asked.
    pub model: Option<ModelText>,
}

/// What an analysis gives; the rest of [`Outcome`] is the same for all.
#[derive(Debug)]
pub struct Analysis {
    /// The result in one line.
    pub headline: String,
    /// Numbers.
    pub figures: Value,
    /// Places.
    pub findings: Vec<Finding>,
    /// What to ask a model about it.
    pub question: String,
}

/// `1 file`, `2 files`, `3 dependencies`.
pub fn plural(n: usize, one: &str) -> String {
    match (n, one.strip_suffix("cy")) {
        (1, _) => format!("1 {one}"),
        (_, Some(stem)) => format!("{n} {stem}cies"),
        (_, None) => format!("{n} {one}s"),
    }
}
