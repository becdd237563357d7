//! Where a command's answer goes: a table for people, or a JSON document that names its schema.

use crate::failure::Failure;
use api::ErrorCode;
use serde::Serialize;
use std::io::{IsTerminal, Write};

/// Width of a table where nothing says how wide the terminal is.
const DEFAULT_WIDTH: usize = 80;
/// Narrower than this, tables are not shortened any further.
const NARROWEST: usize = 40;

/// How to answer.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    /// JSON instead of tables.
    pub json: bool,
    /// Columns that a line may have.
    pub width: usize,
}

impl Output {
    /// Reads the terminal's width, `COLUMNS`, or takes 80.
    pub fn new(json: bool, wide: bool) -> Self {
        let columns = || std::env::var("COLUMNS").ok()?.parse::<usize>().ok();
        let terminal = || {
            let stdout = std::io::stdout();
            let size = stdout.is_terminal().then(|| rustix::termios::tcgetwinsize(&stdout).ok());
            size.flatten().map(|s| usize::from(s.ws_col)).filter(|w| *w > 0)
        };
        let width = match wide {
            true => usize::MAX,
            false => columns().or_else(terminal).unwrap_or(DEFAULT_WIDTH).max(NARROWEST),
        };
        Self { json, width }
    }

    /// Prints one answer: `value` with its schema, or `text`.
    ///
    /// # Errors
    /// When stdout cannot be written; a reader that has gone away is no error.
    pub fn answer<T: Serialize>(
        &self,
        schema: &str,
        value: &T,
        text: impl FnOnce(usize) -> String,
    ) -> Result<(), Failure> {
        if self.json { put(&document(schema, value, true)?) } else { put(&text(self.width)) }
    }

    /// Prints one item of a stream, on one line where it is JSON.
    ///
    /// # Errors
    /// As [`Output::answer`].
    pub fn item<T: Serialize>(
        &self,
        schema: &str,
        value: &T,
        text: impl FnOnce(usize) -> String,
    ) -> Result<(), Failure> {
        if self.json { put(&document(schema, value, false)?) } else { put(&text(self.width)) }
    }
}

/// `value` as a JSON object whose first member names its schema.
fn document<T: Serialize>(schema: &str, value: &T, pretty: bool) -> Result<String, Failure> {
    let made = match pretty {
        true => serde_json::to_string_pretty(value),
        false => serde_json::to_string(value),
    };
    let made =
        made.map_err(|e| Failure::new(ErrorCode::Failed, format!("cannot write JSON: {e}")))?;
    let name = format!("\"schema\": \"{schema}\"");
    Ok(match made.strip_prefix('{') {
        Some("}") => format!("{{{name}}}\n"),
        Some(rest) if pretty => format!("{{\n  {name},{rest}\n"),
        Some(rest) => format!("{{{name},{rest}\n"),
        None => format!("{{{name},\"value\":{made}}}\n"),
    })
}

/// Writes to stdout; a closed pipe ends the program as it would end `ls`.
///
/// # Errors
/// When stdout cannot be written.
pub fn put(text: &str) -> Result<(), Failure> {
    let mut out = anstream::stdout();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        other => other.map_err(|e| anyhow::Error::new(e).context("cannot write to stdout").into()),
    }
}

/// One JSON line on stderr, where stdout belongs to an agent.
pub fn note<T: Serialize>(schema: &str, value: &T) {
    let text = document(schema, value, false).unwrap_or_default();
    // Nothing is left to be told when stderr is gone too.
    let _ = anstream::stderr().write_all(text.as_bytes());
}

/// Prints a failure on stderr.
pub fn complain(failure: &Failure, json: bool) {
    let text = match json {
        true => document("coconut.error/1", &failure.body(), true).unwrap_or_default(),
        false => failure.render(),
    };
    // Nothing is left to be told when stderr is gone too.
    let _ = anstream::stderr().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_begins_with_its_schema_and_stays_json() {
        for pretty in [true, false] {
            let value = serde_json::json!({ "agents": [1, 2] });
            let text = document("coconut.ps/1", &value, pretty).unwrap();
            let back: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!(back["schema"], "coconut.ps/1");
            assert_eq!(back["agents"][1], 2);
        }
        let empty = document("coconut.x/1", &serde_json::json!({}), true).unwrap();
        assert_eq!(empty, "{\"schema\": \"coconut.x/1\"}\n");
    }
}
