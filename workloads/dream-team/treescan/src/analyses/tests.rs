//! The test analysts' analyses of Rust: tests per module, and code without any.

use super::MOST_FINDINGS;
use crate::count;
use crate::outcome::{Analysis, Finding, Severity, plural};
use crate::parsed::Parsed;
use serde_json::json;
use std::collections::BTreeSet;

/// A smaller file needs no test of its own.
const SMALL_FILE: usize = 80;

/// Tests and functions per module.
pub fn density(rust: &Parsed<'_>) -> Analysis {
    let sums = rust.per_module(|f| {
        let plain = f.facts.functions.iter().filter(|f| !f.test).count();
        [plain, f.facts.tests, f.facts.ignored]
    });
    let modules: Vec<_> = sums
        .iter()
        .map(|(name, n)| json!({ "name": name, "functions": n[0], "tests": n[1], "ignored": n[2] }))
        .collect();
    let total = |i: usize| sums.values().map(|n| n[i]).sum::<usize>();
    let findings = sums
        .iter()
        .filter(|(_, n)| n[0] >= 5 && n[1] == 0)
        .map(|(name, n)| Finding {
            severity: Severity::Medium,
            rule: "module-without-tests",
            file: (*name).to_owned(),
            line: 0,
            text: format!("{} and not one test", plural(n[0], "function")),
        })
        .collect();
    Analysis {
        headline: format!(
            "{} for {} in Rust",
            plural(total(1), "test"),
            plural(total(0), "function")
        ),
        question: format!(
            "{} tests for {} functions. Which tests are usually missing?",
            total(1),
            total(0)
        ),
        figures: json!({ "functions": total(0), "tests": total(1), "ignored": total(2), "modules": modules, "unparsed": rust.unparsed }),
        findings,
    }
}

/// Larger files that hold no test, in crates whose own `tests/` do not name them either.
pub fn gaps(rust: &Parsed<'_>) -> Analysis {
    let outer: Vec<&str> = rust
        .tree
        .sources
        .iter()
        .filter(|s| s.name.contains("/tests/") || s.name.contains("acceptance/"))
        .map(|s| s.text.as_str())
        .collect();
    let words: BTreeSet<&str> =
        outer.iter().flat_map(|t| t.split(|c: char| !c.is_alphanumeric() && c != '_')).collect();
    let mut untested = Vec::new();
    let mut looked_at = 0;
    for file in &rust.files {
        let code = count::lines(file.source).code;
        let name = file.source.name.rsplit('/').next().unwrap_or_default();
        let stem = name.trim_end_matches(".rs");
        let is_test = file.source.name.contains("/tests/") || file.facts.functions.is_empty();
        if is_test || code < SMALL_FILE {
            continue;
        }
        looked_at += 1;
        if file.facts.tests == 0 && !words.contains(stem) {
            untested.push((code, file));
        }
    }
    untested.sort_by_key(|(code, _)| std::cmp::Reverse(*code));
    let list: Vec<_> = untested
        .iter()
        .take(20)
        .map(|(code, f)| json!({ "file": f.source.name, "code": code }))
        .collect();
    let findings = untested.iter().take(MOST_FINDINGS).map(|(code, file)| Finding {
        severity: Severity::Low,
        rule: "file-without-tests",
        file: file.source.name.clone(),
        line: 0,
        text: format!("{code} lines of code, no test inside, not named by an outer test"),
    });
    Analysis {
        headline: format!(
            "{} of {} have no test near them",
            untested.len(),
            plural(looked_at, "larger file")
        ),
        question: format!(
            "{} of {looked_at} larger source files have no test. Which to test first?",
            untested.len()
        ),
        figures: json!({ "untested": untested.len(), "looked_at": looked_at, "files": list }),
        findings: findings.collect(),
    }
}

#[cfg(test)]
mod unit {
    use super::*;
    use crate::language::LANGUAGES;
    use crate::parsed::ByName;
    use crate::tree::{Source, Tree};

    fn tree(files: &[(&str, String)]) -> Tree {
        let sources = files.iter().map(|(name, text)| Source {
            name: (*name).into(),
            language: &LANGUAGES[0],
            text: text.clone(),
        });
        Tree { sources: sources.collect(), ..Tree::default() }
    }

    #[test]
    fn a_file_that_an_outer_test_names_is_no_gap() {
        let body = format!("fn a() {{\n{}}}\n", "    x();\n".repeat(SMALL_FILE));
        let lonely = ("k/src/lonely.rs", body.clone());
        let named = ("k/src/named.rs", body);
        let outer = ("k/tests/t.rs", "use k::named;\n#[test]\nfn t() {}\n".to_owned());
        let analysis = gaps(&Parsed::of(&tree(&[lonely, named, outer]), ByName::new()));
        assert_eq!(analysis.findings.len(), 1);
        assert_eq!(analysis.findings[0].file, "k/src/lonely.rs");
    }

    #[test]
    fn a_module_with_functions_and_no_test_is_found() {
        let body: String = (0..5).map(|i| format!("fn f{i}() {{}}\n")).collect();
        let analysis = density(&Parsed::of(&tree(&[("k/a.rs", body)]), ByName::new()));
        assert_eq!(analysis.findings[0].rule, "module-without-tests");
    }
}
