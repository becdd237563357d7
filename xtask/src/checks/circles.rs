//! Files of one crate that import each other. A file and those below it (`a.rs` and `a/b.rs`) may;
//! files beside each other form a circle.

use super::{folder, members};
use crate::context::Context;
use crate::key::files_below;
use anyhow::Result;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;

mod imports;

/// Circles that were there before this was checked. May only shrink: what is not in a circle any more
/// must be taken off.
const KNOWN: &[(&str, &[&str])] = &[("crates/coconutd", &["change", "state"])];

/// A module's path within its crate.
type Module = Vec<String>;
/// What each imports, but itself and its own family.
type Graph = BTreeMap<Module, BTreeSet<Module>>;

/// Circles that nobody knows of, and known ones that are gone; one line each.
pub fn check(cx: &Context, metadata: &Value) -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    for package in members(metadata) {
        let name = folder(metadata, package);
        let graph = graph(cx, name)?;
        let found: Vec<BTreeSet<String>> =
            circles(&graph).iter().map(|all| all.iter().map(|m| m.join("::")).collect()).collect();
        let known: Vec<BTreeSet<String>> = KNOWN
            .iter()
            .filter(|(known, _)| *known == name)
            .map(|(_, modules)| modules.iter().map(|m| (*m).to_owned()).collect())
            .collect();
        for circle in found.iter().filter(|circle| !known.contains(circle)) {
            let names: Vec<&str> = circle.iter().map(String::as_str).collect();
            wrong.push(format!("{name}: import each other: {}", names.join(", ")));
            wrong.extend(edges(&graph, circle));
        }
        for circle in known.iter().filter(|circle| !found.contains(circle)) {
            wrong.push(format!("{name}: not a circle any more, take it off the list: {circle:?}"));
        }
    }
    Ok(wrong)
}

fn edges(graph: &Graph, circle: &BTreeSet<String>) -> Vec<String> {
    let inner = |module: &Module| circle.contains(&module.join("::"));
    let within = graph.iter().filter(|(from, _)| inner(from));
    let line = |(from, to): (&Module, &BTreeSet<Module>)| {
        let to: Vec<String> = to.iter().filter(|to| inner(to)).map(|to| to.join("::")).collect();
        format!("  {} imports {}", from.join("::"), to.join(", "))
    };
    within.map(line).collect()
}

/// Each `src` is a tree of modules, each program in `src/bin` another.
fn graph(cx: &Context, name: &str) -> Result<Graph> {
    let src = cx.path(name).join("src");
    let mut texts: BTreeMap<Module, String> = BTreeMap::new();
    for file in files_below(&src)? {
        if file.extension().is_none_or(|end| end != "rs") {
            continue;
        }
        let place = file.strip_prefix(&src)?.with_extension("");
        let mut path: Module = place.iter().map(|p| p.to_string_lossy().into_owned()).collect();
        if path.last().is_some_and(|last| ["mod", "lib", "main"].contains(&last.as_str())) {
            path.pop();
        }
        *texts.entry(path).or_default() += &fs::read_to_string(&file)?;
    }
    let known: BTreeSet<Module> = texts.keys().cloned().collect();
    let import = |(from, text): (&Module, &String)| {
        let paths = imports::of(text, from);
        let to = paths.into_iter().filter_map(|path| nearest(&known, &path));
        let to = to.filter(|to| !to.starts_with(from) && !from.starts_with(to));
        (from.clone(), to.collect())
    };
    Ok(texts.iter().map(import).collect())
}

/// The file that a path leads into.
fn nearest(known: &BTreeSet<Module>, path: &[String]) -> Option<Module> {
    (0..=path.len()).rev().map(|n| path[..n].to_vec()).find(|module| known.contains(module))
}

/// Modules that reach each other, two or more.
fn circles(graph: &Graph) -> Vec<BTreeSet<Module>> {
    let reach: BTreeMap<&Module, BTreeSet<&Module>> =
        graph.keys().map(|from| (from, reached(graph, from))).collect();
    let mut found: Vec<BTreeSet<Module>> = Vec::new();
    for (from, to) in &reach {
        let back = to.iter().filter(|to| reach.get(*to).is_some_and(|back| back.contains(from)));
        let circle: BTreeSet<Module> = back.map(|to| (*to).clone()).collect();
        if circle.len() > 1 && !found.contains(&circle) {
            found.push(circle);
        }
    }
    found
}

fn reached<'a>(graph: &'a Graph, from: &Module) -> BTreeSet<&'a Module> {
    let mut seen = BTreeSet::new();
    let mut left: Vec<&Module> = graph.get(from).into_iter().flatten().collect();
    while let Some(next) = left.pop() {
        if seen.insert(next) {
            left.extend(graph.get(next).into_iter().flatten());
        }
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph_of(edges: &[(&str, &[&str])]) -> Graph {
        let module = |name: &&str| vec![(*name).to_owned()];
        edges.iter().map(|(from, to)| (module(from), to.iter().map(module).collect())).collect()
    }

    #[test]
    fn a_circle_of_any_length_is_found_once() {
        let found = circles(&graph_of(&[
            ("a", &["b"]),
            ("b", &["c"]),
            ("c", &["a", "d"]),
            ("d", &["e"]),
            ("e", &[]),
        ]));
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].len(), 3);
    }

    #[test]
    fn what_only_leads_on_is_none() {
        assert!(circles(&graph_of(&[("a", &["b", "c"]), ("b", &["c"]), ("c", &[])])).is_empty());
    }
}
