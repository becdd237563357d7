//! The analyses: each reads a tree and gives figures, findings and a question for a model.

pub mod audit;
pub mod docs;
pub mod review;
pub mod structure;
pub mod tests;

use crate::modules;
use crate::rust::{self, Facts};
use crate::tree::{Source, Tree};
use std::collections::BTreeMap;

/// Findings listed one by one; the figures count all of them.
pub const MOST_FINDINGS: usize = 40;

/// The Rust files of a tree with what they say, and the module of each.
pub struct RustFile<'a> {
    /// The file.
    pub source: &'a Source,
    /// What it says.
    pub facts: Facts,
    /// Where it belongs.
    pub module: String,
}

/// Parses every Rust file; the second part counts those that could not be parsed.
pub fn rust_files(tree: &Tree) -> (Vec<RustFile<'_>>, usize) {
    let owners = modules::assign(tree);
    let mut unparsed = 0;
    let mut files = Vec::new();
    for source in tree.sources.iter().filter(|s| s.language.name == "Rust") {
        match rust::facts(&source.name, &source.text) {
            Some(facts) => {
                files.push(RustFile { source, facts, module: owners[&source.name].clone() });
            }
            None => unparsed += 1,
        }
    }
    (files, unparsed)
}

/// Sums a count per module.
pub fn per_module<'a, const N: usize>(
    files: &'a [RustFile<'_>],
    count: impl Fn(&RustFile<'_>) -> [usize; N],
) -> BTreeMap<&'a str, [usize; N]> {
    let mut sums: BTreeMap<&str, [usize; N]> = BTreeMap::new();
    for file in files {
        let sum = sums.entry(&file.module).or_insert([0; N]);
        for (total, n) in sum.iter_mut().zip(count(file)) {
            *total += n;
        }
    }
    sums
}
