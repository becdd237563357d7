//! Every crate that is linked may be used under a licence of this list; one that is GPL only is refused.

use super::{packages, text};
use serde_json::Value;

const ALLOWED: [&str; 14] = [
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
    "Unicode-3.0",
    "Zlib",
];

/// What is wrong, one line each.
pub fn check(metadata: &Value) -> Vec<String> {
    let wrong = packages(metadata).filter(|p| !allowed(text(p, "license")));
    wrong
        .map(|p| {
            let licence = text(p, "license");
            let shown = if licence.is_empty() { "no licence named" } else { licence };
            format!("{} {}: {shown}", text(p, "name"), text(p, "version"))
        })
        .collect()
}

/// Whether an SPDX expression leaves a choice that is allowed. `A/B` is the old way to write `A OR B`.
pub fn allowed(expression: &str) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut at = 0;
    let verdict = either(&words, &mut at);
    verdict && at == words.len()
}

fn either(words: &[&str], at: &mut usize) -> bool {
    let mut verdict = both(words, at);
    while words.get(*at) == Some(&"OR") {
        *at += 1;
        // Not `||`: the right side must be read whatever the left one says.
        verdict |= both(words, at);
    }
    verdict
}

fn both(words: &[&str], at: &mut usize) -> bool {
    let mut verdict = one(words, at);
    while words.get(*at) == Some(&"AND") {
        *at += 1;
        verdict &= one(words, at);
    }
    verdict
}

fn one(words: &[&str], at: &mut usize) -> bool {
    let Some(word) = words.get(*at) else { return false };
    *at += 1;
    if *word == "(" {
        let verdict = either(words, at);
        let closed = words.get(*at) == Some(&")");
        *at += 1;
        return verdict && closed;
    }
    let mut name = (*word).to_owned();
    if words.get(*at) == Some(&"WITH") {
        name = format!("{name} WITH {}", words.get(*at + 1).unwrap_or(&""));
        *at += 2;
    }
    ALLOWED.contains(&name.as_str())
}

#[cfg(test)]
mod tests {
    use super::allowed;

    #[test]
    fn a_choice_suffices_and_a_sum_binds() {
        for good in [
            "MIT",
            "MIT/Apache-2.0",
            "LGPL-2.1-only OR BSD-2-Clause",
            "(MIT OR GPL-2.0-only) AND Unicode-3.0",
            "Apache-2.0 WITH LLVM-exception OR Apache-2.0 OR MIT",
        ] {
            assert!(allowed(good), "{good}");
        }
    }

    #[test]
    fn gpl_only_and_nonsense_are_refused() {
        for bad in [
            "GPL-2.0-only",
            "MIT AND GPL-2.0-only",
            "GPL-3.0-or-later OR AGPL-3.0-only",
            "",
            "(MIT",
            "MIT Apache-2.0",
        ] {
            assert!(!allowed(bad), "{bad}");
        }
    }
}
