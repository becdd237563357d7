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

/// A module's path within its crate.
type Module = Vec<String>;
/// What each imports, but itself and its own family.
type Graph = BTreeMap<Module, BTreeSet<Module>>;

/// Circles, and who in them imports whom; one line each.
pub fn check(cx: &Context, metadata: &Value) -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    for package in members(metadata) {
        let name = folder(metadata, package);
        let graph = graph(cx, name)?;
        for circle in circles(&graph) {
            let names: Vec<String> = circle.iter().map(|module| module.join("::")).collect();
            wrong.push(format!("{name}: import each other: {}", names.join(", ")));
            wrong.extend(edges(&graph, &circle));
        }
    }
    Ok(wrong)
}

fn edges(graph: &Graph, circle: &BTreeSet<Module>) -> Vec<String> {
    let within = graph.iter().filter(|(from, _)| circle.contains(*from));
    let line = |(from, to): (&Module, &BTreeSet<Module>)| {
        let to: Vec<String> = to.intersection(circle).map(|to| to.join("::")).collect();
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
