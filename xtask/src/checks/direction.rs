//! Which of our crates may use which (DESIGN: "The house"), who may reach libbpf, who may write `unsafe`.

use super::{packages, text};
use crate::context::Context;
use crate::key::files_below;
use anyhow::Result;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Crate → those of our crates that it may use. In the order in which data flows; what is not here may not exist.
const MAY_USE: &[(&str, &[&str])] = &[
    ("coconut-abi", &[]),
    ("coconut-manifest", &["coconut-abi"]),
    ("coconut-attest", &["coconut-abi"]),
    ("coconut-audit", &["coconut-abi"]),
    ("coconut-api", &["coconut-abi"]),
    ("coconut-connections", &[]),
    // Policy knows ports, not the kernel: it is tested without root.
    ("coconut-supervisor", &["coconut-abi", "coconut-manifest"]),
    // Looks names up, and knows the kernel by two traits.
    ("coconut-resolve", &["coconut-manifest"]),
    ("coconut-kernel", &["coconut-abi"]),
    ("coconut-inference", &[]),
    // Untrusted HTTP ends in the broker: it links neither the kernel nor the log.
    ("coconut-broker", &["coconut-abi", "coconut-api", "coconut-connections", "coconut-inference"]),
    (
        "coconutd",
        &[
            "coconut-abi",
            "coconut-api",
            "coconut-attest",
            "coconut-audit",
            "coconut-connections",
            "coconut-kernel",
            "coconut-manifest",
            "coconut-resolve",
            "coconut-supervisor",
        ],
    ),
    (
        "coconut",
        &["coconut-abi", "coconut-api", "coconut-attest", "coconut-audit", "coconut-manifest"],
    ),
    ("coconut-model", &[]),
    ("coconut-probe", &[]),
    ("coconut-demo", &["coconut-abi", "coconut-api", "coconut-probe"]),
    ("treescan", &[]),
    ("coconut-acceptance", &["coconut-abi", "coconut-api", "coconut-demo", "coconut-probe"]),
    ("coconut-kernel-tests", &["coconut-abi", "coconut-kernel"]),
    ("coconut-loadgen", &[]),
    ("coconut-bench-vm", &["coconut-abi", "coconut-api", "coconut-demo", "coconut-probe"]),
    ("coconut-bench-scale", &["coconut-abi", "coconut-api", "coconut-demo", "coconut-probe"]),
    ("xtask", &[]),
];

/// The only crate that may depend on libbpf.
const KERNEL: &str = "coconut-kernel";

/// Where `unsafe` may be allowed: the kernel crate, and programs that exist to misbehave.
const UNSAFE_ALLOWED: [&str; 3] = ["crates/kernel/", "acceptance/probe/", "acceptance/kernel/"];

/// What is wrong with the dependencies, one line each.
pub fn check(metadata: &Value) -> Vec<String> {
    let members: BTreeSet<&str> = metadata["workspace_members"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let ours: Vec<&Value> =
        packages(metadata).filter(|p| members.contains(text(p, "id"))).collect();
    let names: BTreeSet<&str> = ours.iter().map(|p| text(p, "name")).collect();
    let mut wrong = Vec::new();
    for package in ours {
        let name = text(package, "name");
        let Some((_, allowed)) = MAY_USE.iter().find(|(known, _)| *known == name) else {
            wrong.push(format!("{name}: not in the table of xtask/src/checks/direction.rs"));
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let used = text(dependency, "name");
            // A test may look at a thing from outside; what ships may not.
            let for_tests = text(dependency, "kind") == "dev";
            if names.contains(used) && !for_tests && !allowed.contains(&used) {
                wrong.push(format!("{name} may not use {used}"));
            }
            if used.starts_with("libbpf") && name != KERNEL {
                wrong.push(format!("{name} may not use {used}: only {KERNEL} reaches libbpf"));
            }
        }
    }
    wrong
}

/// Where `unsafe` is allowed that may not be, or the workspace's lints are not taken over.
pub fn check_unsafe(cx: &Context) -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    for top in ["crates", "acceptance", "workloads", "benches", "image", "xtask"] {
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
    use super::check;
    use serde_json::json;

    fn with_edge(from: &str, to: &str, kind: Option<&str>) -> Vec<String> {
        check(&json!({
            "workspace_members": ["a", "b"],
            "packages": [
                {"id": "a", "name": from, "dependencies": [{"name": to, "kind": kind}]},
                {"id": "b", "name": "coconut-kernel", "dependencies": []},
            ],
        }))
    }

    #[test]
    fn a_forbidden_edge_is_found() {
        assert_eq!(with_edge("coconut-broker", "coconut-kernel", None).len(), 1);
        assert!(with_edge("coconutd", "coconut-kernel", None).is_empty());
    }

    #[test]
    fn tests_may_use_more() {
        assert!(with_edge("coconut-broker", "coconut-kernel", Some("dev")).is_empty());
    }

    #[test]
    fn only_the_kernel_crate_reaches_libbpf() {
        assert_eq!(with_edge("coconutd", "libbpf-rs", None).len(), 1);
        assert_eq!(with_edge("coconutd", "libbpf-rs", Some("dev")).len(), 1);
    }

    #[test]
    fn an_unknown_crate_must_be_placed() {
        assert_eq!(with_edge("newcomer", "serde", None).len(), 1);
    }
}
