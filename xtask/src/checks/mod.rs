//! What is checked about the sources themselves: licences, which crate uses which, what nobody uses,
//! which files import each other.

pub mod circles;
pub mod direction;
pub mod licences;
pub mod unused;

use crate::context::Context;
use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use std::path::Path;
use std::process::Command;

/// Where our sources lie.
pub const TOPS: [&str; 7] =
    ["crates", "acceptance", "workloads", "benches", "image", "fuzz", "xtask"];

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

/// Those of our own.
pub fn members(metadata: &Value) -> Vec<&Value> {
    let ids = metadata["workspace_members"].as_array();
    let is_ours = |package: &&Value| ids.is_some_and(|ids| ids.contains(&package["id"]));
    packages(metadata).filter(is_ours).collect()
}

/// Where a package of our own lies, from the root of the workspace.
pub fn folder<'a>(metadata: &'a Value, package: &'a Value) -> &'a str {
    let manifest = Path::new(text(package, "manifest_path"));
    let folder =
        manifest.parent().and_then(|f| f.strip_prefix(text(metadata, "workspace_root")).ok());
    folder.and_then(Path::to_str).unwrap_or_default()
}

/// A text field, empty if absent.
pub fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}
