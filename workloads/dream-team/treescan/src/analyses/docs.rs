//! The documenters' analysis of Rust: public items without a doc comment, files without a purpose.

use super::MOST_FINDINGS;
use crate::outcome::{Analysis, Finding, Severity};
use crate::parsed::Parsed;
use serde_json::json;

/// Documentation of what Rust modules offer.
pub fn run(rust: &Parsed<'_>) -> Analysis {
    let mut findings = Vec::new();
    for file in &rust.files {
        if !file.facts.file_documented {
            let text = "the file does not say what it is for (`//!`)".to_owned();
            findings.push(finding(file.source.name.clone(), 1, "file-without-purpose", text));
        }
        for item in file.facts.public.iter().filter(|p| !p.documented) {
            let text = format!("public `{}` has no documentation", item.name);
            findings.push(finding(file.source.name.clone(), item.line, "missing-doc", text));
        }
    }
    let sums = rust.per_module(|f| {
        let missing = f.facts.public.iter().filter(|p| !p.documented).count();
        [f.facts.public.len(), missing, 1, usize::from(f.facts.file_documented)]
    });
    let total = |i: usize| sums.values().map(|n| n[i]).sum::<usize>();
    let (public, missing) = (total(0), total(1));
    let modules: Vec<_> = sums
        .iter()
        .map(|(name, n)| json!({ "name": name, "public": n[0], "undocumented": n[1], "files": n[2], "files_documented": n[3] }))
        .collect();
    findings.truncate(MOST_FINDINGS);
    Analysis {
        headline: format!("{missing} of {public} public Rust items have no documentation"),
        question: format!(
            "{missing} of {public} public items lack documentation. What should a doc comment say?"
        ),
        figures: json!({
            "public": public, "undocumented": missing, "files": total(2), "files_documented": total(3),
            "modules": modules, "unparsed": rust.unparsed,
        }),
        findings,
    }
}

fn finding(file: String, line: usize, rule: &'static str, text: String) -> Finding {
    Finding { severity: Severity::Low, rule, file, line, text }
}
