//! Which of our crates uses which, as the map of ARCHITECTURE.md has it; who may reach libbpf; who may
//! write `unsafe`.

use super::{folder, members, text};
use crate::context::Context;
use crate::key::files_below;
use anyhow::Result;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// The only crate that may depend on libbpf.
const KERNEL: &str = "crates/kernel";

/// Where `unsafe` may be allowed: the kernel crate, and programs that exist to misbehave.
const UNSAFE_ALLOWED: [&str; 3] = ["crates/kernel/", "acceptance/probe/", "acceptance/kernel/"];

/// Folder of a crate → folders of ours that it depends on.
type Map<'a> = BTreeMap<&'a str, BTreeSet<String>>;

/// The map's rows. In its last column a bare word is a crate below `crates/`.
fn map(architecture: &str) -> Map<'_> {
    let lines = architecture.lines().skip_while(|line| *line != "## The map");
    let rows = lines.skip(1).take_while(|line| !line.starts_with("## "));
    rows.filter_map(|row| {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [folders, _, used] = cells[..] else { return None };
        let words = used.split([',', ' ']).filter(|word| !word.is_empty() && *word != "–");
        let used = words.map(|word| match word.contains('/') {
            true => word.to_owned(),
            false => format!("crates/{word}"),
        });
        let used: BTreeSet<String> = used.collect();
        let folders = folders.split(", ").map(|f| f.trim_matches('`').trim_end_matches('/'));
        Some(folders.map(|folder| (folder, used.clone())).collect::<Vec<_>>())
    })
    .flatten()
    .collect()
}

/// What is wrong with the dependencies, one line each.
pub fn check(cx: &Context, metadata: &Value) -> Result<Vec<String>> {
    Ok(compare(&fs::read_to_string(cx.path("ARCHITECTURE.md"))?, metadata))
}

fn compare(architecture: &str, metadata: &Value) -> Vec<String> {
    let map = map(architecture);
    let ours = members(metadata);
    let folders: BTreeSet<&str> = ours.iter().map(|package| folder(metadata, package)).collect();
    let mut wrong = Vec::new();
    for package in &ours {
        let name = folder(metadata, package);
        let Some(said) = map.get(name) else {
            wrong.push(format!("{name}: not in the map of ARCHITECTURE.md"));
            continue;
        };
        // A test may look at a thing from outside; what ships may not.
        let all = package["dependencies"].as_array().into_iter().flatten();
        let ships = all.filter(|used| text(used, "kind") != "dev");
        let used: BTreeSet<String> = ships.filter_map(|used| ours_of(metadata, used)).collect();
        wrong.extend(used.difference(said).map(|used| {
            format!("{name} uses {used}, which the map of ARCHITECTURE.md does not allow")
        }));
        wrong.extend(
            said.difference(&used).map(|said| {
                format!("{name} does not use {said}, as the map of ARCHITECTURE.md says")
            }),
        );
        wrong.extend(libbpf(name, package));
    }
    let stale = map.keys().filter(|name| name.starts_with("crates/") && !folders.contains(*name));
    wrong.extend(stale.map(|name| format!("{name}: in the map of ARCHITECTURE.md, but not there")));
    wrong
}

/// The folder of a dependency that is a crate of ours.
fn ours_of(metadata: &Value, dependency: &Value) -> Option<String> {
    let path = dependency["path"].as_str()?;
    let root = text(metadata, "workspace_root");
    Some(path.strip_prefix(root)?.trim_start_matches('/').to_owned())
}

fn libbpf(name: &str, package: &Value) -> Vec<String> {
    let all = package["dependencies"].as_array().into_iter().flatten();
    let names = all.map(|used| text(used, "name"));
    let reached = names.filter(|used| used.starts_with("libbpf") && name != KERNEL);
    reached.map(|used| format!("{name} may not use {used}: only {KERNEL} reaches libbpf")).collect()
}

/// Where `unsafe` is allowed that may not be, or the workspace's lints are not taken over.
pub fn check_unsafe(cx: &Context) -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    for top in super::TOPS {
        for file in files_below(&cx.path(top))? {
            let name = file.strip_prefix(&cx.root)?.to_string_lossy().into_owned();
            if name.contains("/target/") {
                continue;
            }
            wrong.extend(problem(&name, &file));
        }
    }
    Ok(wrong)
}

fn problem(name: &str, file: &Path) -> Option<String> {
    let read = || fs::read_to_string(file).unwrap_or_default();
    if name.ends_with(".rs") && !UNSAFE_ALLOWED.iter().any(|dir| name.starts_with(dir)) {
        // Put together, so that this line is not what it looks for.
        let word = concat!("allow(", "unsafe_code)");
        return read().contains(word).then(|| format!("{name}: {word}"));
    }
    if name.ends_with("/Cargo.toml") && !read().contains("[lints]\nworkspace = true") {
        return Some(format!("{name}: does not take over the workspace's lints"));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const MAP: &str = "# A\n\n## The map\n\n| folder | job | depends on (ours) |\n|---|---|---|\n\
        | `crates/abi` | ids | – |\n| `crates/kernel` | loads | abi |\n\
        | `benches/a`, `benches/b` | load | abi, benches/c |\n\n## Next\n\n| `crates/no` | no | no |\n";

    fn with(folder: &str, used: &[(&str, Option<&str>)]) -> Vec<String> {
        let dependency = |(path, kind): &(&str, Option<&str>)| match path.contains('/') {
            true => json!({"name": "x", "kind": kind, "path": format!("/w/{path}")}),
            false => json!({"name": path, "kind": kind}),
        };
        let used: Vec<Value> = used.iter().map(dependency).collect();
        let package = |folder: &str, used: Vec<Value>| {
            let manifest = format!("/w/{folder}/Cargo.toml");
            json!({"id": folder, "name": folder, "manifest_path": manifest, "dependencies": used})
        };
        let abi = json!({"name": "x", "path": "/w/crates/abi"});
        let mut packages = vec![package("crates/abi", Vec::new())];
        packages.push(package("crates/kernel", vec![abi]));
        packages.retain(|package| package["id"] != folder);
        packages.push(package(folder, used));
        let ids: Vec<&Value> = packages.iter().map(|package| &package["id"]).collect();
        let members = json!(ids);
        compare(
            MAP,
            &json!({"workspace_root": "/w", "workspace_members": members, "packages": packages}),
        )
    }

    #[test]
    fn what_is_as_the_map_says_is_right() {
        assert!(with("benches/b", &[("crates/abi", None), ("benches/c", None)]).is_empty());
    }

    #[test]
    fn a_difference_either_way_is_found() {
        let more = with(
            "benches/a",
            &[("crates/abi", None), ("benches/c", None), ("crates/kernel", None)],
        );
        assert_eq!(more.len(), 1, "{more:?}");
        let less = with("benches/a", &[("crates/abi", None)]);
        assert_eq!(less.len(), 1, "{less:?}");
        assert_eq!(with("newcomer", &[]).len(), 1);
    }

    #[test]
    fn tests_may_use_more() {
        let used = [("crates/abi", None), ("benches/c", None), ("crates/kernel", Some("dev"))];
        assert!(with("benches/a", &used).is_empty());
    }

    #[test]
    fn only_the_kernel_crate_reaches_libbpf() {
        let others = [("crates/abi", None), ("benches/c", None), ("libbpf-rs", Some("dev"))];
        assert_eq!(with("benches/a", &others).len(), 1);
        assert!(with("crates/kernel", &[("crates/abi", None), ("libbpf-rs", None)]).is_empty());
    }

    #[test]
    fn a_crate_that_is_gone_may_not_stay_in_the_map() {
        let alone = json!({"workspace_root": "/w", "workspace_members": [], "packages": []});
        assert_eq!(compare(MAP, &alone).len(), 2);
    }
}
