//! What is checked about the sources themselves: licences, and which crate may use which.

pub mod direction;
pub mod licences;

use crate::context::Context;
use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use std::process::Command;

/// `cargo metadata`.
pub fn metadata(cx: &Context) -> Result<Value> {
    let mut cargo = Command::new("cargo");
    cargo.args(["metadata", "--format-version", "1", "--locked"]).current_dir(&cx.root);
    let output = cargo.output().context("cannot start cargo")?;
    if !output.status.success() {
        bail!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// The packages of `cargo metadata`.
pub fn packages(metadata: &Value) -> impl Iterator<Item = &Value> {
    metadata["packages"].as_array().into_iter().flatten()
}

/// A text field, empty if absent.
pub fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}
