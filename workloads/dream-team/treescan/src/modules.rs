//! Cuts a tree into modules: the unit that one reviewer is given.
//!
//! A folder with a package file (`Cargo.toml` with `[package]`, `pyproject.toml`, `package.json`,
//! `go.mod`) is a module. Everything else belongs to its top-level folder, loose files at the top to
//! `(top)`. A module that is much larger than its share is cut at its next folders.

use crate::count;
use crate::language::Kind;
use crate::tree::{Source, Tree};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// The name under which loose files at the root stand.
pub const TOP: &str = "(top)";
/// Loose files of one module are listed one by one in a reviewer's rights; more would be a folder.
const MOST_LOOSE_FILES: usize = 24;

/// One module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Module {
    /// Path below the root, or [`TOP`].
    pub name: String,
    /// The module that it was cut from; its own name if it is whole.
    pub package: String,
    /// Folders or files below the root that make it up.
    pub paths: Vec<String>,
    /// Source files in it.
    pub files: usize,
    /// All lines.
    pub lines: usize,
    /// Lines of code; data and prose have none.
    pub code: usize,
}

/// Which module each file belongs to, by the rule above, without the cuts for size.
pub fn assign(tree: &Tree) -> BTreeMap<String, String> {
    let roots: BTreeSet<&str> = tree.sources.iter().filter_map(package_root).collect();
    tree.sources.iter().map(|s| (s.name.clone(), owner(&s.name, &roots).to_owned())).collect()
}

/// The folder of a package file; the tree's own root is no module of its own.
fn package_root(source: &Source) -> Option<&str> {
    let (folder, file) = source.name.rsplit_once('/')?;
    let package = match file {
        "Cargo.toml" => source.text.contains("[package]"),
        "pyproject.toml" | "package.json" | "go.mod" | "setup.py" => true,
        _ => false,
    };
    package.then_some(folder)
}

fn owner<'a>(name: &'a str, roots: &BTreeSet<&str>) -> &'a str {
    let mut folder = name;
    while let Some((parent, _)) = folder.rsplit_once('/') {
        if roots.contains(parent) {
            return parent;
        }
        folder = parent;
    }
    if folder == name { TOP } else { folder }
}

/// The modules of a tree, largest first; one and a half `parts`-ths of the tree is the most, if a cut can help.
pub fn cut(tree: &Tree, parts: usize) -> Vec<Module> {
    let owners = assign(tree);
    let mut groups: BTreeMap<&str, Vec<&Source>> = BTreeMap::new();
    for source in &tree.sources {
        groups.entry(owners[&source.name].as_str()).or_default().push(source);
    }
    let packages: Vec<&str> = groups.keys().copied().collect();
    let total: usize = tree.sources.iter().map(Source::lines).sum();
    let share = (total / parts.max(1)).max(200) * 3 / 2;
    let mut modules = Vec::new();
    for (name, sources) in &groups {
        let first = modules.len();
        split(name, sources, share, &packages, &mut modules);
        modules[first..].iter_mut().for_each(|m| m.package = (*name).to_owned());
    }
    modules.sort_by(|a, b| b.lines.cmp(&a.lines).then_with(|| a.name.cmp(&b.name)));
    modules
}

fn is_below(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
}

/// Adds `sources` as one module, or as one per folder when they exceed `share` or a package lies below it.
fn split(name: &str, sources: &[&Source], share: usize, packages: &[&str], out: &mut Vec<Module>) {
    let must = packages.iter().any(|p| is_below(p, name));
    let lines: usize = sources.iter().map(|s| s.lines()).sum();
    let (loose, inner) = children(name, sources);
    let useful = must || (!inner.is_empty() && loose.len() <= MOST_LOOSE_FILES);
    if name == TOP {
        out.push(module(name, loose.iter().map(|s| s.name.clone()).collect(), sources));
    } else if useful && (must || lines > share) {
        if !loose.is_empty() {
            out.push(module(name, loose.iter().map(|s| s.name.clone()).collect(), &loose));
        }
        for (folder, sources) in inner {
            split(&folder, &sources, share, packages, out);
        }
    } else {
        out.push(module(name, vec![name.to_owned()], sources));
    }
}

type Folders<'a> = BTreeMap<String, Vec<&'a Source>>;

/// Files directly in `name`, and those in each of its folders.
fn children<'a>(name: &str, sources: &[&'a Source]) -> (Vec<&'a Source>, Folders<'a>) {
    let mut loose = Vec::new();
    let mut inner = Folders::new();
    for source in sources {
        let rest = source.name.strip_prefix(name).map_or(source.name.as_str(), |r| &r[1..]);
        match rest.split_once('/') {
            Some((folder, _)) => inner.entry(format!("{name}/{folder}")).or_default().push(source),
            None => loose.push(*source),
        }
    }
    (loose, inner)
}

fn module(name: &str, paths: Vec<String>, sources: &[&Source]) -> Module {
    let lines = |s: &&&Source| count::lines(s);
    let code = sources.iter().filter(|s| s.language.kind == Kind::Code).map(|s| lines(&s).code);
    Module {
        name: name.to_owned(),
        package: name.to_owned(),
        paths,
        files: sources.len(),
        lines: sources.iter().map(|s| lines(&s).total()).sum(),
        code: code.sum(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::language;
    use std::path::Path;

    fn tree(files: &[(&str, usize)]) -> Tree {
        let mut tree = Tree::default();
        for (name, lines) in files {
            let text = if name.ends_with("Cargo.toml") {
                "[package]\n".into()
            } else {
                "x\n".repeat(*lines)
            };
            let language = language::detect(Path::new(name), &text).unwrap();
            tree.sources.push(Source { name: (*name).into(), language, text });
        }
        tree
    }

    fn names(modules: &[Module]) -> Vec<&str> {
        modules.iter().map(|m| m.name.as_str()).collect()
    }

    #[test]
    fn packages_folders_and_loose_files() {
        let tree = tree(&[
            ("a/Cargo.toml", 1),
            ("a/src/x.rs", 30),
            ("b/c/Cargo.toml", 1),
            ("b/c/x.rs", 20),
            ("docs/x.md", 10),
            ("README.md", 5),
        ]);
        let modules = cut(&tree, 4);
        assert_eq!(names(&modules), ["a", "b/c", "docs", TOP]);
        assert_eq!(modules[3].paths, ["README.md"]);
    }

    #[test]
    fn every_file_is_in_exactly_one_module_even_when_cut() {
        let tree = tree(&[
            ("big/Cargo.toml", 1),
            ("big/src/lib.rs", 900),
            ("big/src/deep/x.rs", 800),
            ("big/tests/t.rs", 700),
            ("w/run.sh", 5),
            ("w/in/Cargo.toml", 1),
            ("w/in/y.rs", 3),
            ("w/deep/er/Cargo.toml", 1),
            ("w/deep/er/z.rs", 2),
            ("w/deep/v.rs", 9),
        ]);
        let modules = cut(&tree, 10);
        for source in &tree.sources {
            let owners = modules
                .iter()
                .filter(|m| m.paths.iter().any(|p| source.name == *p || is_below(&source.name, p)));
            assert_eq!(owners.count(), 1, "{} in {modules:?}", source.name);
        }
        assert!(names(&modules).contains(&"big/src/deep"));
    }
}
