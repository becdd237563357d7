//! Which module depends on which: packages by their manifests, Python by imports, C by includes.

use crate::modules;
use crate::tree::{Source, Tree};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// One module that uses another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Edge {
    /// The user.
    pub from: String,
    /// The used.
    pub to: String,
    /// `cargo`, `python` or `include`.
    pub by: &'static str,
}

/// All edges between different modules, and the names of packages from outside the tree.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct Graph {
    /// In order.
    pub edges: Vec<Edge>,
    /// Name of an outside package → how many modules name it.
    pub outside: BTreeMap<String, usize>,
}

/// Builds the graph of a tree.
pub fn graph(tree: &Tree) -> Graph {
    let owners = modules::assign(tree);
    let mut graph = Graph::default();
    let mut edges = BTreeSet::new();
    cargo(tree, &mut edges, &mut graph.outside);
    python(tree, &owners, &mut edges);
    includes(tree, &owners, &mut edges);
    graph.edges = edges.into_iter().filter(|e| e.from != e.to).collect();
    graph
}

struct Package {
    folder: String,
    manifest: toml::Table,
}

fn folder(name: &str) -> &str {
    name.rsplit_once('/').map_or("", |(folder, _)| folder)
}

fn cargo(tree: &Tree, edges: &mut BTreeSet<Edge>, outside: &mut BTreeMap<String, usize>) {
    let manifests: Vec<Package> = tree
        .sources
        .iter()
        .filter(|s| s.name.rsplit('/').next() == Some("Cargo.toml"))
        .filter_map(|s| {
            let manifest = s.text.parse().ok()?;
            Some(Package { folder: folder(&s.name).to_owned(), manifest })
        })
        .collect();
    let mut by_name: BTreeMap<&str, &str> = BTreeMap::new();
    for package in &manifests {
        let name = package.manifest.get("package").and_then(|p| p.get("name")?.as_str());
        by_name.extend(name.map(|n| (n, package.folder.as_str())));
    }
    let renamed = workspace_names(&manifests);
    for package in manifests.iter().filter(|p| p.manifest.contains_key("package")) {
        for name in dependency_names(&package.manifest) {
            let real = renamed.get(&name).cloned().unwrap_or(name);
            match by_name.get(real.as_str()) {
                Some(to) => {
                    edges.insert(Edge {
                        from: package.folder.clone(),
                        to: (*to).into(),
                        by: "cargo",
                    });
                }
                None => *outside.entry(real).or_default() += 1,
            }
        }
    }
}

/// `[workspace.dependencies] alias = { package = "name" }`.
fn workspace_names(manifests: &[Package]) -> BTreeMap<String, String> {
    let tables = manifests
        .iter()
        .filter_map(|p| p.manifest.get("workspace")?.get("dependencies")?.as_table());
    tables
        .flatten()
        .filter_map(|(k, v)| Some((k.clone(), v.get("package")?.as_str()?.into())))
        .collect()
}

/// Names in all dependency tables of a manifest, through `package = "…"`.
fn dependency_names(manifest: &toml::Table) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let targets = manifest.get("target").and_then(|t| t.as_table());
    let per_target = targets.into_iter().flat_map(|t| t.values().filter_map(|v| v.as_table()));
    for table in std::iter::once(manifest).chain(per_target) {
        for kind in ["dependencies", "dev-dependencies", "build-dependencies"] {
            let Some(list) = table.get(kind).and_then(|d| d.as_table()) else { continue };
            names.extend(list.iter().map(|(alias, value)| {
                value.get("package").and_then(|p| p.as_str()).unwrap_or(alias).to_owned()
            }));
        }
    }
    names
}

fn python(tree: &Tree, owners: &BTreeMap<String, String>, edges: &mut BTreeSet<Edge>) {
    let mut local: BTreeMap<&str, &str> = BTreeMap::new();
    let files = || tree.sources.iter().filter(|s| s.language.name == "Python");
    for source in files() {
        let stem = source.name.strip_suffix(".py").unwrap_or(&source.name);
        let stem = stem.strip_suffix("/__init__").unwrap_or(stem);
        local.insert(stem.rsplit('/').next().unwrap_or(stem), &owners[&source.name]);
    }
    for source in files() {
        for name in imports(source) {
            if let Some(to) = local.get(name) {
                let from = owners[&source.name].clone();
                edges.insert(Edge { from, to: (*to).to_owned(), by: "python" });
            }
        }
    }
}

/// Top-level names that `import` statements at the margin ask for.
fn imports(source: &Source) -> Vec<&str> {
    let mut names = Vec::new();
    for line in source.text.lines() {
        if let Some(list) = line.strip_prefix("import ") {
            let first = |part: &'_ str| part.trim().len();
            names.extend(
                list.split(',')
                    .filter(|p| first(p) > 0)
                    .filter_map(|p| p.trim().split(['.', ' ']).next()),
            );
        } else if let Some(rest) = line.strip_prefix("from ") {
            names.extend(rest.split([' ', '.']).next().filter(|n| !n.is_empty()));
        }
    }
    names
}

fn includes(tree: &Tree, owners: &BTreeMap<String, String>, edges: &mut BTreeSet<Edge>) {
    let mut local: BTreeMap<&str, &str> = BTreeMap::new();
    for source in tree.sources.iter().filter(|s| s.language.name == "C header") {
        let file = source.name.rsplit('/').next().unwrap_or(&source.name);
        local.insert(file, &owners[&source.name]);
    }
    for source in
        tree.sources.iter().filter(|s| matches!(s.language.name, "C" | "C header" | "C++"))
    {
        for line in source.text.lines() {
            let Some(rest) = line.strip_prefix("#include \"") else { continue };
            let file = rest.split('"').next().unwrap_or_default().rsplit('/').next();
            if let Some(to) = file.and_then(|f| local.get(f)) {
                let from = owners[&source.name].clone();
                edges.insert(Edge { from, to: (*to).to_owned(), by: "include" });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::language;
    use std::path::Path;

    fn tree(files: &[(&str, &str)]) -> Tree {
        let sources = files.iter().map(|(name, text)| Source {
            name: (*name).into(),
            language: language::detect(Path::new(name), text).unwrap(),
            text: (*text).into(),
        });
        Tree { sources: sources.collect(), ..Tree::default() }
    }

    #[test]
    fn cargo_edges_follow_renames_and_workspace_tables() {
        let graph = graph(&tree(&[
            (
                "Cargo.toml",
                "[workspace.dependencies]\nabi = { path = \"crates/abi\", package = \"my-abi\" }\nserde = \"1\"\n",
            ),
            (
                "crates/abi/Cargo.toml",
                "[package]\nname = \"my-abi\"\n[dependencies]\nserde.workspace = true\n",
            ),
            (
                "crates/top/Cargo.toml",
                "[package]\nname = \"top\"\n[dependencies]\nabi.workspace = true\n[target.'cfg(unix)'.dependencies]\nlibc = \"0.2\"\n",
            ),
        ]));
        let edge = Edge { from: "crates/top".into(), to: "crates/abi".into(), by: "cargo" };
        assert_eq!(graph.edges, [edge]);
        assert_eq!(graph.outside.keys().collect::<Vec<_>>(), ["libc", "serde"]);
    }

    #[test]
    fn python_imports_and_c_includes_join_modules() {
        let graph = graph(&tree(&[
            ("a/one.py", "import os, two.x\nfrom three import y\n"),
            ("b/two/__init__.py", ""),
            ("c/three.py", "def f():\n    import one\n"),
            ("d/x.c", "#include <stdio.h>\n#include \"e/y.h\"\n"),
            ("e/y.h", ""),
        ]));
        let found: Vec<_> =
            graph.edges.iter().map(|e| (e.from.as_str(), e.to.as_str(), e.by)).collect();
        assert_eq!(found, [("a", "b", "python"), ("a", "c", "python"), ("d", "e", "include")]);
    }
}
