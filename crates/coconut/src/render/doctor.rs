//! `doctor`: one line for each thing that Coconut wants, with advice below what is not as it
//! should be.

use super::{BAD, DIM, GOOD, ODD, paint, wrap};
use api::status::{Feature, Level};
use std::fmt::Write;

/// Column at which findings begin.
const FINDINGS: usize = 25;

/// Findings in sections, and a verdict as last line.
pub fn report(sections: &[(&str, &[Feature])], width: usize) -> String {
    let mut out = String::new();
    for (title, features) in sections {
        let _ = writeln!(out, "{}", paint(super::BOLD, title));
        for feature in *features {
            out.push_str(&line(feature, width));
        }
        out.push('\n');
    }
    let all = || sections.iter().flat_map(|(_, features)| features.iter());
    let count = |level| all().filter(|f| f.level == level).count();
    let (weaker, missing) = (count(Level::Weaker), count(Level::Missing));
    out.push_str(&match (missing, weaker) {
        (0, 0) => "Everything is as it should be.\n".to_owned(),
        (0, n) => format!("Coconut runs here; {n} thing{} weaker than it could be.\n", is(n)),
        (n, _) => format!("Coconut cannot run here: {n} thing{} missing.\n", is(n)),
    });
    out
}

fn is(n: usize) -> &'static str {
    if n == 1 { " is" } else { "s are" }
}

fn line(feature: &Feature, width: usize) -> String {
    let (word, style) = match feature.level {
        Level::Ok => ("ok", GOOD),
        Level::Weaker => ("weaker", ODD),
        Level::Missing => ("missing", BAD),
    };
    let word = paint(style, &format!("{word:<8}"));
    let found = wrap(&super::clean(&feature.found), width, FINDINGS);
    let mut out = format!("  {word} {:<14}{found}\n", feature.name);
    if let Some(advice) = &feature.advice {
        let advice = wrap(advice, width, FINDINGS);
        let _ = writeln!(out, "{}{}", " ".repeat(FINDINGS), paint(DIM, &advice));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::sample::{fits, plain};
    use super::*;

    #[test]
    fn advice_stands_below_what_is_weaker() {
        let feature = |name: &str, level, found: &str, advice: Option<&str>| Feature {
            name: name.into(),
            level,
            found: found.into(),
            advice: advice.map(str::to_owned),
        };
        let kernel = [
            feature("bpf-lsm", Level::Ok, "active", None),
            feature(
                "lockdown",
                Level::Weaker,
                "none",
                Some(
                    "root can change the running kernel; boot with lockdown=integrity on the command line",
                ),
            ),
        ];
        let text = report(&[("Kernel", &kernel)], 80);
        fits(&text, 80);
        assert_eq!(
            plain(&text),
            "Kernel\n  \
             ok       bpf-lsm       active\n  \
             weaker   lockdown      none\n                         \
             root can change the running kernel; boot with\n                         \
             lockdown=integrity on the command line\n\
             \n\
             Coconut runs here; 1 thing is weaker than it could be.\n"
        );
    }
}
