//! A reviewer's analysis: the size, shape and loose ends of the modules that it was given.

use super::MOST_FINDINGS;
use crate::count::{self, Lines};
use crate::functions;
use crate::outcome::{Analysis, Finding, Severity, plural};
use crate::rust;
use crate::rust::Function;
use crate::tree::{self, Source, Tree};
use anyhow::{Result, ensure};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// A longer function is a finding.
const LONG_FUNCTION: usize = 60;
/// A longer file is a finding.
const LONG_FILE: usize = 450;
/// Longest functions and files named per module.
const NAMED: usize = 6;

/// One module as the command line gives it: `NAME:PATH,PATH…`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// Name of the module.
    pub name: String,
    /// Folders and files below the root.
    pub paths: Vec<PathBuf>,
}

impl FromStr for Assignment {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (name, paths) = text.split_once(':').ok_or_else(|| {
            format!("`{text}` is not NAME:PATH,PATH, as in crates/abi:crates/abi")
        })?;
        let paths: Vec<PathBuf> =
            paths.split(',').filter(|p| !p.is_empty()).map(Into::into).collect();
        if name.is_empty() || paths.is_empty() {
            return Err(format!("`{text}` names no module or no path"));
        }
        Ok(Assignment { name: name.into(), paths })
    }
}

#[derive(Default)]
struct Totals {
    files: usize,
    lines: Lines,
    functions: usize,
    tests: usize,
    marks: usize,
    unsafe_places: usize,
    public: usize,
    undocumented: usize,
    panics: usize,
}

struct Place {
    file: String,
    function: Function,
}

/// Reads each module by itself and reviews it.
pub fn run(root: &Path, assignments: &[Assignment]) -> Result<Analysis> {
    ensure!(!assignments.is_empty(), "a review needs at least one --module NAME:PATH,PATH");
    let mut modules = Vec::new();
    let mut findings = Vec::new();
    let mut lines = 0;
    for assignment in assignments {
        let tree = tree::read(root, &assignment.paths)?;
        lines += tree.sources.iter().map(Source::lines).sum::<usize>();
        modules.push(module(&assignment.name, &tree, &mut findings));
    }
    findings
        .sort_by(|a: &Finding, b| a.severity.cmp(&b.severity).then_with(|| a.file.cmp(&b.file)));
    let question = question(&modules);
    let headline = format!(
        "{}, {lines} lines: {}",
        plural(modules.len(), "module"),
        plural(findings.len(), "remark"),
    );
    let remarks = findings.len();
    findings.truncate(MOST_FINDINGS);
    let figures = json!({ "modules": modules, "lines": lines, "remarks": remarks });
    Ok(Analysis { headline, figures, findings, question })
}

fn module(name: &str, tree: &Tree, findings: &mut Vec<Finding>) -> Value {
    let mut totals = Totals::default();
    let mut places = Vec::new();
    for source in &tree.sources {
        file(source, &mut totals, &mut places, findings);
    }
    places.sort_by_key(|p| std::cmp::Reverse(p.function.lines));
    let mut longest: Vec<&Source> = tree.sources.iter().collect();
    longest.sort_by_key(|s| std::cmp::Reverse(s.lines()));
    let functions = places.iter().filter(|p| !p.function.test).take(NAMED).map(|p| {
        json!({ "file": p.file, "line": p.function.line, "name": p.function.name, "lines": p.function.lines })
    });
    let files = longest.iter().take(NAMED).map(|s| json!({ "file": s.name, "lines": s.lines() }));
    json!({
        "name": name,
        "files": totals.files,
        "code": totals.lines.code,
        "comment": totals.lines.comment,
        "blank": totals.lines.blank,
        "functions": totals.functions,
        "tests": totals.tests,
        "marks": totals.marks,
        "unsafe": totals.unsafe_places,
        "public": totals.public,
        "undocumented": totals.undocumented,
        "panics": totals.panics,
        "longest_functions": functions.collect::<Vec<_>>(),
        "longest_files": files.collect::<Vec<_>>(),
    })
}

fn file(
    source: &Source,
    totals: &mut Totals,
    places: &mut Vec<Place>,
    findings: &mut Vec<Finding>,
) {
    totals.files += 1;
    totals.lines.add(lines_of(source));
    for mark in count::marks(source) {
        totals.marks += 1;
        let text = format!("{}: {}", mark.word, mark.text);
        findings.push(remark(Severity::Low, "todo", source, mark.line, text));
    }
    if source.language.kind == crate::language::Kind::Code && source.lines() > LONG_FILE {
        let text = format!("{} lines; {LONG_FILE} are easier to hold in the head", source.lines());
        findings.push(remark(Severity::Low, "long-file", source, 0, text));
    }
    let functions = match rust_facts(source, totals) {
        Some(functions) => functions,
        None => functions::find(source),
    };
    for function in functions {
        totals.functions += 1;
        totals.tests +=
            usize::from(source.language.name != "Rust" && function.name.starts_with("test"));
        if function.lines > LONG_FUNCTION && !function.test {
            let text = format!("`{}` has {} lines", function.name, function.lines);
            findings.push(remark(Severity::Low, "long-function", source, function.line, text));
        }
        places.push(Place { file: source.name.clone(), function });
    }
}

/// Data and prose have lines, but no lines of code.
fn lines_of(source: &Source) -> Lines {
    let lines = count::lines(source);
    if source.language.kind == crate::language::Kind::Code {
        return lines;
    }
    Lines { code: 0, comment: 0, blank: lines.blank }
}

fn rust_facts(source: &Source, totals: &mut Totals) -> Option<Vec<Function>> {
    if source.language.name != "Rust" {
        return None;
    }
    let facts = rust::facts(&source.name, &source.text)?;
    totals.tests += facts.tests;
    totals.unsafe_places += facts.unsafe_places.len();
    totals.public += facts.public.len();
    totals.undocumented += facts.public.iter().filter(|p| !p.documented).count();
    totals.panics += facts.panics.len();
    Some(facts.functions)
}

fn remark(
    severity: Severity,
    rule: &'static str,
    source: &Source,
    line: usize,
    text: String,
) -> Finding {
    Finding { severity, rule, file: source.name.clone(), line, text }
}

/// Short: an emulated processor reads a prompt at a few dozen tokens a second.
fn question(modules: &[Value]) -> String {
    let largest = modules.iter().max_by_key(|m| m["code"].as_u64());
    let Some(module) = largest else { return String::new() };
    let longest = &module["longest_functions"][0];
    let about = match longest["name"].as_str() {
        Some(name) => format!("; longest: {name}, {} lines", longest["lines"]),
        None => String::new(),
    };
    format!(
        "Review module {}: {} lines of code, {} functions, {} tests{about}. Name one improvement.",
        module["name"].as_str().unwrap_or_default(),
        module["code"],
        module["functions"],
        module["tests"],
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_review_counts_only_what_it_was_given() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a")).unwrap();
        fs::create_dir_all(dir.path().join("b")).unwrap();
        let body = "    x();\n".repeat(LONG_FUNCTION);
        fs::write(dir.path().join("a/x.rs"), format!("// TODO: later\nfn long() {{\n{body}}}\n"))
            .unwrap();
        fs::write(dir.path().join("b/y.rs"), "fn other() {}\n").unwrap();
        let analysis = run(dir.path(), &["a:a".parse().unwrap()]).unwrap();
        let module = &analysis.figures["modules"][0];
        assert_eq!((module["files"].as_u64(), module["functions"].as_u64()), (Some(1), Some(1)));
        let rules: Vec<_> = analysis.findings.iter().map(|f| (f.rule, f.line)).collect();
        assert_eq!(rules, [("todo", 1), ("long-function", 2)]);
    }

    #[test]
    fn a_malformed_assignment_says_how_it_should_look() {
        let error = Assignment::from_str("crates/abi").unwrap_err();
        assert!(error.contains("NAME:PATH"), "{error}");
    }
}
