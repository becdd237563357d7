//! `explain`: what was tried, which rule refused, and the line that would allow it.

use super::{BAD, BOLD, DIM, GOOD, clean, paint, short, thousands, time, wrap};
use abi::Capability;
use api::Explanation;
use api::agent::ExplanationList;
use std::fmt::Write;

/// Who refused, where it was not the kernel; its reason says all.
const DAEMON: &str = "coconutd";
/// Column at which the values begin.
const VALUES: usize = 11;

/// `coconut explain AID`.
pub fn list(list: &ExplanationList, now_ns: u64, width: usize) -> String {
    let who = format!("{}  {}", paint(BOLD, &clean(&list.name)), short(list.aid));
    if list.denials.is_empty() {
        return format!("{who}: nothing was denied\n");
    }
    let noun = if list.total == 1 { "denial" } else { "denials" };
    let mut out = format!("{who}  {} {noun}, newest first\n", thousands(list.total));
    for denial in &list.denials {
        out.push_str(&one(denial, now_ns, width));
    }
    let shown: u64 = list.denials.iter().map(|d| d.count).sum();
    if shown < list.total {
        let _ = writeln!(
            out,
            "\n{} older: coconut audit query --agent {} --kind denial",
            thousands(list.total - shown),
            short(list.aid)
        );
    }
    out
}

fn one(denial: &Explanation, now_ns: u64, width: usize) -> String {
    let times = match denial.count {
        1 => String::new(),
        n => format!(", {} times", thousands(n)),
    };
    let mut out = String::from("\n");
    let _ =
        writeln!(out, "{}", paint(DIM, &format!("{}{times}", time::ago(denial.time_ns, now_ns))));
    let mut line = |key: &str, style, value: &str| {
        let value = wrap(&clean(value), width, VALUES);
        let _ = writeln!(out, "  {:<9}{}", key, paint(style, &value));
    };
    if denial.program == DAEMON {
        line("tried", super::PLAIN, &denial.tried);
        line("refused", BAD, &denial.refused_by);
        return out;
    }
    line("tried", super::PLAIN, &format!("{} ({})", denial.tried, denial.program));
    line("refused", BAD, &format!("{}; it saw {}", denial.refused_by, denial.errno));
    match (&denial.manifest_line, &denial.command) {
        (None, None) if denial.capability == Capability::Forbidden => {
            line("allow", DIM, "nothing can: no capability covers this");
        }
        // It is allowed by now, or the agent can do nothing at all: the reason says so.
        (None, None) => {}
        (manifest, command) => {
            if let Some(text) = manifest {
                line("manifest", GOOD, text);
            }
            if let Some(text) = command {
                line("now", GOOD, text);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::sample::{NOW, fits, plain};
    use super::*;
    use uuid::Uuid;

    fn denial() -> Explanation {
        Explanation {
            time_ns: NOW - 130_000_000_000,
            count: 3,
            tried: "open /home/maya/.ssh/id_ed25519 for reading".into(),
            program: "python3".into(),
            refused_by: "no fs.read rule covers it".into(),
            errno: "EACCES".into(),
            capability: Capability::FsRead,
            object: "/home/maya/.ssh/id_ed25519".into(),
            manifest_line: Some("\"fs.read\" = [\"/home/maya/.ssh/id_ed25519\"]".into()),
            command: Some("coconut cap grant 0000002a 'fs.read=/home/maya/.ssh/id_ed25519'".into()),
        }
    }

    #[test]
    fn a_denial_tells_what_why_and_what_would_allow_it() {
        let aid = Uuid::from_u128(42);
        let text = list(
            &ExplanationList { aid, name: "researcher".into(), total: 5, denials: vec![denial()] },
            NOW,
            80,
        );
        fits(&text, 80);
        assert_eq!(
            plain(&text),
            "researcher  0000002a  5 denials, newest first\n\
             \n\
             2m ago, 3 times\n  \
             tried    open /home/maya/.ssh/id_ed25519 for reading (python3)\n  \
             refused  no fs.read rule covers it; it saw EACCES\n  \
             manifest \"fs.read\" = [\"/home/maya/.ssh/id_ed25519\"]\n  \
             now      coconut cap grant 0000002a 'fs.read=/home/maya/.ssh/id_ed25519'\n\
             \n\
             2 older: coconut audit query --agent 0000002a --kind denial\n"
        );
    }

    #[test]
    fn what_nothing_can_allow_says_so() {
        let held_now = Explanation { manifest_line: None, command: None, ..denial() };
        let forbidden = Explanation { capability: Capability::Forbidden, ..held_now.clone() };
        let says = |denial| plain(&one(denial, NOW, 80)).contains("nothing can");
        assert!(says(&forbidden));
        assert!(!says(&held_now), "a rule may allow it by now");
    }
}
