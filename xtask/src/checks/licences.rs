//! Every crate that is linked may be used under a licence of this list; one that is GPL only is refused, and so is an
//! expression that SPDX does not know.

use super::{packages, text};
use serde_json::Value;
use spdx::{Expression, LicenseReq, Licensee, ParseMode};

const ALLOWED: [&str; 15] = [
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BlueOak-1.0.0",
    "BSD-1-Clause",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "MIT",
    // Weak: binds changes of its own files only.
    "MPL-2.0",
    // That of libFuzzer.
    "NCSA",
    "Unicode-3.0",
    "Zlib",
];

/// As SPDX has it, but for `A/B`, which is the old way to write `A OR B`.
const WRITTEN: ParseMode = ParseMode { allow_slash_as_or_operator: true, ..ParseMode::STRICT };

/// What is wrong, one line each.
pub fn check(metadata: &Value) -> Vec<String> {
    let judged = packages(metadata).map(|p| (p, judge(text(p, "license"))));
    judged
        .filter_map(|(p, verdict)| {
            let why = verdict.err()?;
            Some(format!("{} {}: {why}", text(p, "name"), text(p, "version")))
        })
        .collect()
}

/// Whether an expression leaves a choice that is allowed; if not, why.
fn judge(expression: &str) -> Result<(), String> {
    if expression.is_empty() {
        return Err("no licence named".to_owned());
    }
    let parsed = Expression::parse_mode(expression, WRITTEN)
        .map_err(|error| format!("{expression}: {}", error.reason))?;
    parsed.evaluate_with_failures(is_allowed).map_err(|refused| {
        let refused: Vec<String> = refused.iter().map(|one| one.req.to_string()).collect();
        format!("{expression}: {} is not allowed", refused.join(", "))
    })
}

fn is_allowed(wanted: &LicenseReq) -> bool {
    ALLOWED.iter().any(|name| Licensee::parse(name).is_ok_and(|ours| ours.satisfies(wanted)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_allowed_is_a_licence_and_allows_itself() {
        for name in ALLOWED {
            assert!(Licensee::parse(name).is_ok(), "{name}");
            assert_eq!(judge(name), Ok(()));
        }
    }

    #[test]
    fn a_choice_suffices_and_a_sum_binds() {
        for good in [
            "MIT",
            "MIT/Apache-2.0",
            "Apache-2.0 / MIT",
            "LGPL-2.1-only OR BSD-2-Clause",
            "(MIT OR GPL-2.0-only) AND Unicode-3.0",
            "Apache-2.0 WITH LLVM-exception OR Apache-2.0 OR MIT",
        ] {
            assert_eq!(judge(good), Ok(()));
        }
    }

    #[test]
    fn gpl_only_and_nonsense_are_refused() {
        for bad in [
            "GPL-2.0-only",
            "GPL-3.0-only",
            "MIT AND GPL-2.0-only",
            "MIT OR Apache-2.0 AND GPL-3.0-only AND",
            "GPL-3.0-or-later OR AGPL-3.0-only",
            // An exception that is not the one that is allowed.
            "GPL-2.0-only WITH Classpath-exception-2.0",
            "LicenseRef-ours",
            "Mine-1.0",
            "mit",
            "",
            "(MIT",
            "MIT Apache-2.0",
        ] {
            assert!(judge(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_complaint_names_the_crate_and_what_is_wrong_with_it() {
        let named = |licence| json!({"name": "crate", "version": "1.2.3", "license": licence});
        let metadata = json!({"packages": [
            named(json!("MIT")), named(json!("MIT AND GPL-3.0-only")), named(json!("Mine-1.0")), named(json!(null)),
        ]});
        let wrong = check(&metadata);
        assert_eq!(wrong.len(), 3, "{wrong:?}");
        assert_eq!(wrong[0], "crate 1.2.3: MIT AND GPL-3.0-only: GPL-3.0-only is not allowed");
        assert!(wrong[1].starts_with("crate 1.2.3: Mine-1.0: unknown"), "{}", wrong[1]);
        assert_eq!(wrong[2], "crate 1.2.3: no licence named");
    }
}
