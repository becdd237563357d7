//! The security auditors' analyses of Rust: `unsafe` and panics.

use super::MOST_FINDINGS;
use crate::outcome::{Analysis, Finding, Severity, plural};
use crate::parsed::Parsed;
use serde_json::json;
use std::collections::BTreeMap;

/// Where the compiler's guarantees are suspended, and where nobody says why.
pub fn unsafe_code(rust: &Parsed<'_>) -> Analysis {
    let mut findings = Vec::new();
    let mut total = 0;
    for file in &rust.files {
        total += file.facts.unsafe_places.len();
        for place in file.facts.unsafe_places.iter().filter(|p| !p.reasoned) {
            findings.push(Finding {
                severity: Severity::High,
                rule: "unsafe-without-reason",
                file: file.source.name.clone(),
                line: place.line,
                text: format!("`unsafe` {} without a SAFETY comment", place.what),
            });
        }
    }
    let modules: Vec<_> = rust
        .per_module(|f| {
            let places = &f.facts.unsafe_places;
            [places.len(), places.iter().filter(|p| !p.reasoned).count()]
        })
        .into_iter()
        .filter(|(_, n)| n[0] > 0)
        .map(|(name, n)| json!({ "name": name, "places": n[0], "unreasoned": n[1] }))
        .collect();
    let unreasoned = findings.len();
    findings.truncate(MOST_FINDINGS);
    Analysis {
        headline: format!(
            "{} in {}, {unreasoned} without a reason",
            plural(total, "unsafe place"),
            plural(modules.len(), "module")
        ),
        question: format!(
            "{total} unsafe places in Rust code, {unreasoned} without a SAFETY comment. Name the main risk."
        ),
        figures: json!({ "places": total, "unreasoned": unreasoned, "modules": modules, "rust_files": rust.files.len(), "unparsed": rust.unparsed }),
        findings,
    }
}

/// Where the program ends instead of saying what went wrong.
pub fn panics(rust: &Parsed<'_>) -> Analysis {
    let mut findings = Vec::new();
    let mut by_kind: BTreeMap<&str, usize> = BTreeMap::new();
    let mut total = 0;
    for file in &rust.files {
        for panic in &file.facts.panics {
            total += 1;
            *by_kind.entry(&panic.what).or_default() += 1;
            findings.push(Finding {
                severity: if panic.what == "expect" { Severity::Low } else { Severity::Medium },
                rule: "panic",
                file: file.source.name.clone(),
                line: panic.line,
                text: format!("`{}` outside tests ends the program", panic.what),
            });
        }
    }
    findings.sort_by_key(|f| f.severity);
    findings.truncate(MOST_FINDINGS);
    let modules: Vec<_> = rust
        .per_module(|f| [f.facts.panics.len()])
        .into_iter()
        .filter(|(_, n)| n[0] > 0)
        .map(|(name, n)| json!({ "name": name, "panics": n[0] }))
        .collect();
    Analysis {
        headline: format!(
            "{} outside tests in {}",
            plural(total, "panic"),
            plural(rust.files.len(), "Rust file")
        ),
        question: format!(
            "{total} panics outside tests in {} Rust files. When is that acceptable?",
            rust.files.len()
        ),
        figures: json!({ "panics": total, "kinds": by_kind, "modules": modules, "unparsed": rust.unparsed }),
        findings,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::language::LANGUAGES;
    use crate::parsed::ByName;
    use crate::tree::{Source, Tree};

    #[test]
    fn an_unreasoned_unsafe_block_is_a_high_finding_with_its_line() {
        let text = "fn a() {\n    unsafe { b() }\n}\n".to_owned();
        let source = Source { name: "k/a.rs".into(), language: &LANGUAGES[0], text };
        let tree = Tree { sources: vec![source], ..Tree::default() };
        let analysis = unsafe_code(&Parsed::of(&tree, ByName::new()));
        assert_eq!(analysis.figures["unreasoned"], 1);
        assert_eq!((analysis.findings[0].severity, analysis.findings[0].line), (Severity::High, 2));
    }
}
