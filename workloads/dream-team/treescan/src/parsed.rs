//! The Rust files of a tree with what they say. To parse them takes longer than all that is done with them, so it is
//! done once, on all processors, and written down for those who need it.

use crate::modules;
use crate::rust::{self, Facts};
use crate::tree::{Source, Tree};
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::thread;

/// What each Rust file says, by the file's name; none of one that cannot be parsed.
pub type ByName = BTreeMap<String, Option<Facts>>;

/// One Rust file.
pub struct RustFile<'a> {
    /// The file.
    pub source: &'a Source,
    /// What it says.
    pub facts: Facts,
    /// Where it belongs.
    pub module: String,
}

/// A tree, and its Rust files.
pub struct Parsed<'a> {
    /// All of it.
    pub tree: &'a Tree,
    /// Those that could be parsed.
    pub files: Vec<RustFile<'a>>,
    /// How many could not.
    pub unparsed: usize,
}

impl<'a> Parsed<'a> {
    /// Parses the tree's Rust files, but those whose facts are known.
    pub fn of(tree: &'a Tree, mut known: ByName) -> Self {
        let owners = modules::assign(tree);
        let unknown: Vec<&Source> =
            rust_sources(tree).filter(|source| !known.contains_key(&source.name)).collect();
        known.extend(parse(&unknown));
        let (mut files, mut unparsed) = (Vec::new(), 0);
        for source in rust_sources(tree) {
            match known.remove(&source.name).flatten() {
                Some(facts) => {
                    files.push(RustFile { source, facts, module: owners[&source.name].clone() });
                }
                None => unparsed += 1,
            }
        }
        Self { tree, files, unparsed }
    }

    /// Sums a count per module.
    pub fn per_module<const N: usize>(
        &self,
        count: impl Fn(&RustFile<'_>) -> [usize; N],
    ) -> BTreeMap<&str, [usize; N]> {
        let mut sums: BTreeMap<&str, [usize; N]> = BTreeMap::new();
        for file in &self.files {
            let sum = sums.entry(&file.module).or_insert([0; N]);
            for (total, n) in sum.iter_mut().zip(count(file)) {
                *total += n;
            }
        }
        sums
    }
}

fn rust_sources(tree: &Tree) -> impl Iterator<Item = &Source> {
    tree.sources.iter().filter(|source| source.language.name == "Rust")
}

/// On all processors: each of n threads takes every n-th file.
fn parse(sources: &[&Source]) -> ByName {
    let processors = thread::available_parallelism().map_or(1, usize::from);
    let part = |first: usize| {
        let mine = sources.iter().skip(first).step_by(processors);
        mine.map(|s| (s.name.clone(), rust::facts(&s.name, &s.text))).collect::<Vec<_>>()
    };
    thread::scope(|scope| {
        let part = &part;
        let threads: Vec<_> =
            (0..processors).map(|first| scope.spawn(move || part(first))).collect();
        let parts = threads.into_iter().map(|t| t.join());
        parts.flat_map(|part| part.unwrap_or_else(|e| std::panic::resume_unwind(e))).collect()
    })
}

/// Parses all Rust files of a tree and writes down what they say.
pub fn write(tree: &Tree, path: &Path) -> Result<()> {
    let facts = parse(&rust_sources(tree).collect::<Vec<_>>());
    let json = serde_json::to_vec(&facts)?;
    fs::write(path, json).with_context(|| format!("cannot write {}", path.display()))
}

/// What `write` has written.
pub fn read(path: &Path) -> Result<ByName> {
    let json = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_slice(&json).with_context(|| {
        format!("{} is not what `treescan modules --facts` writes", path.display())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::language::LANGUAGES;

    fn tree(files: &[(&str, &str)]) -> Tree {
        let source = |(name, text): &(&str, &str)| Source {
            name: (*name).into(),
            language: &LANGUAGES[0],
            text: (*text).into(),
        };
        Tree { sources: files.iter().map(source).collect(), ..Tree::default() }
    }

    #[test]
    fn facts_that_were_written_down_are_those_of_the_files() {
        let texts: Vec<(String, String)> =
            (0..9).map(|i| (format!("k/f{i}.rs"), format!("pub fn f{i}() {{}}\n"))).collect();
        let mut files: Vec<(&str, &str)> =
            texts.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
        files.push(("k/template.rs", "fn {{name}}() {"));
        let tree = tree(&files);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("facts.json");
        write(&tree, &path).unwrap();
        let known = read(&path).unwrap();
        assert_eq!(known.len(), 10);
        for source in &tree.sources {
            assert_eq!(known[&source.name], rust::facts(&source.name, &source.text));
        }
        let parsed = Parsed::of(&tree, known);
        assert_eq!((parsed.files.len(), parsed.unparsed), (9, 1));
    }

    #[test]
    fn what_is_known_is_not_parsed_again_and_what_is_not_is() {
        let tree = tree(&[("a.rs", "fn a() {}"), ("b.rs", "fn b() {}")]);
        let known = Facts { tests: 7, ..Facts::default() };
        let parsed = Parsed::of(&tree, ByName::from([("a.rs".to_owned(), Some(known))]));
        assert_eq!(parsed.files[0].facts.tests, 7);
        assert_eq!(parsed.files[1].facts.functions[0].name, "b");
    }

    #[test]
    fn a_file_of_something_else_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("facts.json");
        fs::write(&path, "[]").unwrap();
        let error = format!("{:#}", read(&path).unwrap_err());
        assert!(error.contains("treescan modules --facts"), "{error}");
    }
}
