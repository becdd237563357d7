//! The surveyors' analyses of a whole tree: languages, duplicates, dependencies, and the coordinator's plan.

use super::MOST_FINDINGS;
use crate::count::{self, Lines};
use crate::dependencies::{self, Graph};
use crate::duplicates;
use crate::language::Kind;
use crate::modules::{self, Module};
use crate::outcome::{Analysis, Finding, Severity, plural};
use crate::tree::{Source, Tree};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Files whose size is listed, for those who multiply it with something.
const LISTED_FILES: usize = 1500;
/// A longer copy is a finding of medium severity.
const LONG_COPY: usize = 25;

/// What the tree is written in.
pub fn languages(tree: &Tree) -> Analysis {
    let mut rows: BTreeMap<&str, (Kind, usize, Lines)> = BTreeMap::new();
    let mut sizes = Vec::new();
    for source in &tree.sources {
        let lines = count::lines(source);
        let row =
            rows.entry(source.language.name).or_insert((source.language.kind, 0, Lines::default()));
        row.1 += 1;
        row.2.add(lines);
        sizes.push((lines, source));
    }
    let mut total = Lines::default();
    rows.values().for_each(|r| total.add(r.2));
    let mut table: Vec<_> = rows.into_iter().collect();
    table.sort_by_key(|(_, r)| std::cmp::Reverse(r.2.total()));
    let first = table.first().map_or("nothing", |(name, _)| name);
    sizes.sort_by_key(|(lines, _)| std::cmp::Reverse(lines.total()));
    let listed =
        sizes.iter().take(LISTED_FILES).map(|(lines, s)| file_row(lines, s)).collect::<Vec<_>>();
    Analysis {
        headline: format!(
            "{} in {}, {} lines, mostly {first}",
            plural(tree.sources.len(), "file"),
            plural(table.len(), "language"),
            total.total()
        ),
        question: format!(
            "A source tree has {} lines in {} languages, mostly {first}. What is it likely to be?",
            total.total(),
            table.len()
        ),
        figures: json!({
            "files": tree.sources.len(), "other_files": tree.other_files, "bytes": tree.bytes,
            "lines": total, "languages": table.iter().map(language_row).collect::<Vec<_>>(),
            "file_sizes": listed,
        }),
        findings: Vec::new(),
    }
}

fn file_row(lines: &Lines, source: &Source) -> Value {
    json!({ "file": source.name, "language": source.language.name, "lines": lines.total(), "code": lines.code })
}

fn language_row((name, (kind, files, lines)): &(&str, (Kind, usize, Lines))) -> Value {
    json!({
        "name": name, "kind": kind, "files": files,
        "code": lines.code, "comment": lines.comment, "blank": lines.blank,
    })
}

/// Blocks of code that stand in the tree more than once.
pub fn duplicate_blocks(tree: &Tree) -> Analysis {
    let found = duplicates::find(tree);
    let code: usize = tree
        .sources
        .iter()
        .filter(|s| s.language.kind == Kind::Code)
        .map(|s| count::lines(s).code)
        .sum();
    let lines: usize = found.iter().map(|d| d.lines).sum();
    let findings = found.iter().take(MOST_FINDINGS).map(|d| Finding {
        severity: if d.lines > LONG_COPY { Severity::Medium } else { Severity::Low },
        rule: "duplicate",
        file: d.file.clone(),
        line: d.line,
        text: format!("{} lines stand again in {}:{}", d.lines, d.other_file, d.other_line),
    });
    Analysis {
        headline: format!("{}, {lines} lines of {code}", plural(found.len(), "duplicate block")),
        question: format!(
            "{} duplicate blocks, {lines} of {code} lines of code. When is a copy better than a function?",
            found.len()
        ),
        figures: json!({
            "blocks": found.len(), "lines": lines, "code": code, "window": duplicates::WINDOW,
            "largest": &found[..found.len().min(15)],
        }),
        findings: findings.collect(),
    }
}

/// Who depends on whom.
pub fn dependency_graph(tree: &Tree) -> Analysis {
    let Graph { edges, outside } = dependencies::graph(tree);
    let names: BTreeSet<&str> =
        edges.iter().flat_map(|e| [e.from.as_str(), e.to.as_str()]).collect();
    let rows: Vec<Value> = names
        .iter()
        .map(|name| {
            let distinct = |pairs: BTreeSet<&str>| pairs.len();
            let fan_in =
                distinct(edges.iter().filter(|e| e.to == *name).map(|e| e.from.as_str()).collect());
            let fan_out =
                distinct(edges.iter().filter(|e| e.from == *name).map(|e| e.to.as_str()).collect());
            json!({ "name": name, "fan_in": fan_in, "fan_out": fan_out })
        })
        .collect();
    let central = rows.iter().max_by_key(|r| r["fan_in"].as_u64());
    let central = central.and_then(|r| r["name"].as_str()).unwrap_or("none").to_owned();
    let most_used = if rows.is_empty() { String::new() } else { format!("; most used: {central}") };
    let mut packages: Vec<_> = outside.into_iter().collect();
    packages.sort_by_key(|(name, n)| (std::cmp::Reverse(*n), name.clone()));
    Analysis {
        headline: format!(
            "{} between {}{most_used}",
            plural(edges.len(), "dependency"),
            plural(names.len(), "module")
        ),
        question: format!(
            "{} modules with {} dependencies; {central} is used most. What does that mean for changes?",
            names.len(),
            edges.len()
        ),
        figures: json!({ "edges": edges, "modules": rows, "outside": packages }),
        findings: Vec::new(),
    }
}

/// What the coordinator plans by: modules, and which files are of interest to specialists.
pub fn plan(tree: &Tree, parts: usize) -> Value {
    let modules: Vec<Module> = modules::cut(tree, parts);
    let of = |name: &str| -> Vec<&str> {
        tree.sources.iter().filter(|s| s.language.name == name).map(|s| s.name.as_str()).collect()
    };
    json!({
        "modules": modules,
        "python": of("Python"),
        "shell": of("Shell"),
        "markdown": of("Markdown"),
        "files": tree.sources.len(),
    })
}
