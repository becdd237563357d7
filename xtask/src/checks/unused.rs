//! Dependencies that no source names.

use super::{folder, members, text};
use crate::context::Context;
use crate::key::files_below;
use anyhow::Result;
use serde_json::Value;
use std::fs;
use std::path::Path;

/// Crate, dependency: why it stands there without being named.
const ON_PURPOSE: [(&str, &str); 1] =
    // Pins the version of llama.cpp beside its wrapper.
    [("crates/inference", "llama-cpp-sys-2")];

/// What nobody uses, one line each.
pub fn check(cx: &Context, metadata: &Value) -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    let mut manifests = String::new();
    for package in members(metadata) {
        let name = folder(metadata, package);
        manifests += &fs::read_to_string(cx.path(name).join("Cargo.toml"))?;
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let used = dependency["rename"].as_str().unwrap_or(text(dependency, "name"));
            let places: &[&str] = match text(dependency, "kind") {
                "build" => &["build.rs"],
                "dev" => &["src", "tests", "benches", "examples"],
                _ => &["src"],
            };
            let named = sources(&cx.path(name), places)?;
            let on_purpose = ON_PURPOSE.contains(&(name, used));
            if !on_purpose && !names(&named, &used.replace('-', "_")) {
                wrong.push(format!("{name}/Cargo.toml: nothing in {} names {used}", places[0]));
            }
        }
    }
    let workspace = fs::read_to_string(cx.path("Cargo.toml"))?;
    wrong.extend(shared(&workspace, &manifests));
    Ok(wrong)
}

fn sources(crate_: &Path, places: &[&str]) -> Result<String> {
    let mut all = String::new();
    for place in places.iter().map(|place| crate_.join(place)).filter(|place| place.exists()) {
        let files = if place.is_dir() { files_below(&place)? } else { vec![place] };
        for file in files.iter().filter(|file| file.extension().is_some_and(|end| end == "rs")) {
            all += &fs::read_to_string(file)?;
        }
    }
    Ok(all)
}

/// Whether the text uses a crate: `name::…`, or `use name`.
fn names(source: &str, name: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    source.lines().filter(|line| !line.trim_start().starts_with("//")).any(|line| {
        line.match_indices(name).any(|(at, _)| {
            let (before, after) = (&line[..at], &line[at + name.len()..]);
            let whole = !before.ends_with(is_word) && !after.starts_with(is_word);
            whole
                && !before.ends_with("crate::")
                && (after.starts_with("::") || before.ends_with("use "))
        })
    })
}

/// Versions of the workspace that no crate takes.
fn shared(workspace: &str, manifests: &str) -> Vec<String> {
    let lines = workspace.lines().skip_while(|line| *line != "[workspace.dependencies]").skip(1);
    let keys = lines
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| line.split_once(" = ").map(|(key, _)| key));
    let taken = |key: &str| {
        let starts = [format!("{key}.workspace"), format!("{key} = {{ workspace = true")];
        manifests.lines().any(|line| starts.iter().any(|start| line.starts_with(start)))
    };
    let left = keys.filter(|key| !taken(key));
    left.map(|key| format!("Cargo.toml: no crate takes {key} from the workspace")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crate_is_named_as_a_word_of_its_own() {
        for used in ["use serde;", "serde::Serialize", "use serde::{A, B};", "#[derive(serde::S)]"]
        {
            assert!(names(used, "serde"), "{used}");
        }
        for not in
            ["serde_json::Value", "// serde::Serialize", "crate::serde::x", "to_serde::x", "serde"]
        {
            assert!(!names(not, "serde"), "{not}");
        }
    }

    #[test]
    fn a_version_that_nobody_takes_is_found() {
        let workspace =
            "[workspace.dependencies]\na = \"1\"\nb = \"1\"\nc = \"1\"\n\n[other]\nd = 1\n";
        let taken = "[dependencies]\na.workspace = true\nb = { workspace = true, features = [] }\n";
        assert_eq!(shared(workspace, taken).len(), 1);
        assert!(shared(workspace, taken)[0].contains(" c "));
    }
}
