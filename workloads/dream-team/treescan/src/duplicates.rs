//! Finds blocks of code that stand in the tree more than once.
//!
//! Lines are compared without their indent; blank lines, comments and lines of punctuation only do
//! not count. Every window of [`WINDOW`] such lines is hashed; equal neighbours grow into one block.

use crate::language::{Comments, Kind};
use crate::tree::{Source, Tree};
use serde::Serialize;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

/// Fewest equal lines that make a block.
pub const WINDOW: usize = 8;
/// A window in more places than this is boilerplate (an import list, a licence): only the first pairs count.
const MOST_PLACES: usize = 8;

/// One block and its copy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Duplicate {
    /// Lines that are equal.
    pub lines: usize,
    /// File of the first.
    pub file: String,
    /// Where it begins, from 1.
    pub line: usize,
    /// File of the second.
    pub other_file: String,
    /// Where that begins, from 1.
    pub other_line: usize,
}

struct Normal<'a> {
    source: &'a Source,
    /// (line from 1, text without indent)
    lines: Vec<(usize, &'a str)>,
}

/// All maximal blocks, longest first.
pub fn find(tree: &Tree) -> Vec<Duplicate> {
    let files: Vec<Normal> = tree
        .sources
        .iter()
        .filter(|s| s.language.kind == Kind::Code)
        .map(|source| Normal { source, lines: normal_lines(source) })
        .collect();
    let mut found = Vec::new();
    let mut covered: HashMap<(usize, usize), Vec<(usize, usize)>> = HashMap::new();
    for (a, b) in pairs(&files) {
        let spans = covered.entry((a.0, b.0)).or_default();
        if spans.iter().any(|(from, to)| a.1 >= *from && a.1 < *to) {
            continue;
        }
        let length = extent(&files, a, b);
        if length < WINDOW {
            continue;
        }
        spans.push((a.1, a.1 + length));
        found.push(Duplicate {
            lines: length,
            file: files[a.0].source.name.clone(),
            line: files[a.0].lines[a.1].0,
            other_file: files[b.0].source.name.clone(),
            other_line: files[b.0].lines[b.1].0,
        });
    }
    found.sort_by(|x, y| {
        y.lines.cmp(&x.lines).then_with(|| (&x.file, x.line).cmp(&(&y.file, y.line)))
    });
    found
}

type Place = (usize, usize);

/// Pairs of windows with the same hash, in order of the first.
fn pairs(files: &[Normal]) -> Vec<(Place, Place)> {
    let mut places: HashMap<u64, Vec<Place>> = HashMap::new();
    for (f, file) in files.iter().enumerate() {
        for (l, window) in file.lines.windows(WINDOW).enumerate() {
            let mut hasher = DefaultHasher::new();
            window.iter().for_each(|(_, text)| text.hash(&mut hasher));
            places.entry(hasher.finish()).or_default().push((f, l));
        }
    }
    let mut pairs = Vec::new();
    for group in places.values().filter(|g| g.len() > 1) {
        let group = &group[..group.len().min(MOST_PLACES)];
        for (i, a) in group.iter().enumerate() {
            pairs.extend(group[i + 1..].iter().map(|b| (*a, *b)));
        }
    }
    pairs.sort_unstable();
    pairs
}

/// How many lines are equal from two places on; a block never overlaps its own copy.
fn extent(files: &[Normal], a: Place, b: Place) -> usize {
    let (left, right) = (&files[a.0].lines[a.1..], &files[b.0].lines[b.1..]);
    let equal = left.iter().zip(right).take_while(|(x, y)| x.1 == y.1).count();
    if a.0 == b.0 { equal.min(b.1 - a.1) } else { equal }
}

fn normal_lines(source: &Source) -> Vec<(usize, &str)> {
    let Comments { line: signs, .. } = source.language.comments;
    let counts = |text: &str| {
        text.chars().any(char::is_alphanumeric) && !signs.iter().any(|s| text.starts_with(s))
    };
    let trimmed = source.text.lines().map(str::trim).enumerate();
    trimmed.filter(|(_, text)| counts(text)).map(|(i, text)| (i + 1, text)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::language;
    use std::path::Path;

    fn source(name: &str, text: &str) -> Source {
        let language = language::detect(Path::new(name), text).unwrap();
        Source { name: name.into(), language, text: text.into() }
    }

    fn block(n: usize) -> String {
        (0..n).map(|i| format!("    let x{i} = {i};\n")).collect()
    }

    #[test]
    fn one_block_is_found_once_with_its_whole_length() {
        let mut tree = Tree::default();
        tree.sources.push(source("a.rs", &format!("fn a() {{\n{}}}\n", block(12))));
        tree.sources
            .push(source("b.rs", &format!("// b\n\nfn b() {{\n{}}}\nfn c() {{}}\n", block(12))));
        let found = find(&tree);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!((found[0].lines, found[0].line, found[0].other_line), (12, 2, 4));
    }

    #[test]
    fn short_repeats_and_prose_do_not_count() {
        let mut tree = Tree::default();
        tree.sources.push(source("a.rs", &block(WINDOW - 1)));
        tree.sources.push(source("b.rs", &block(WINDOW - 1)));
        tree.sources.push(source("a.md", &block(30)));
        tree.sources.push(source("b.md", &block(30)));
        assert!(find(&tree).is_empty());
    }

    #[test]
    fn a_run_of_equal_lines_is_not_its_own_copy() {
        let mut tree = Tree::default();
        tree.sources.push(source("a.rs", &"    call();\n".repeat(10)));
        assert!(find(&tree).is_empty());
    }
}
