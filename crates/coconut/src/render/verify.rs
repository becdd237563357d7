//! `audit verify`: what was read, and the first thing that is wrong.

use super::{BAD, DIM, GOOD, ODD, clean, paint, thousands, time, wrap};
use audit::Report;
use std::fmt::Write;

/// Column at which values begin.
const VALUES: usize = 12;

/// The whole report.
pub fn report(report: &Report, now_ns: u64, width: usize) -> String {
    let mut out = String::new();
    let mut line = |key: &str, value: &str| {
        let value = wrap(&clean(value), width, VALUES);
        let _ = writeln!(out, "{}{value}", paint(DIM, &format!("{key:<VALUES$}")));
    };
    line("log", &report.origin);
    line("key", &format!("{} signs the checkpoints", report.key_id));
    let leaves = thousands(report.leaves);
    line("records", &format!("{} in {leaves} leaves", thousands(report.records)));
    if report.minimum > 0 {
        let first = thousands(report.first_record);
        line("pruned", &format!("records before {first} are not kept; who has the key says so"));
    }
    if report.incomplete > 0 {
        let missing = thousands(report.incomplete);
        line(
            "incomplete",
            &format!(
                "the newest {missing} leaves are not in this copy: it was made while the log was written"
            ),
        );
    }
    line("agents", &format!("{} chains, coconutd's own included", thousands(report.agents)));
    line("denials", &thousands(report.denials));
    if let (Some(first), Some(last)) = (report.first_time_ns, report.last_time_ns) {
        let (first, last) = (time::ago(first, now_ns), time::ago(last, now_ns));
        line("time", &format!("from {first} to {last}"));
    }
    if report.gaps > 0 {
        let _ = writeln!(
            out,
            "{}",
            paint(
                ODD,
                &format!(
                    "{:<VALUES$}{} (the log itself says that events are missing)",
                    "gaps", report.gaps
                )
            )
        );
    }
    for warning in &report.warnings {
        let text = wrap(&clean(warning), width, VALUES);
        let _ = writeln!(out, "{}{text}", paint(ODD, &format!("{:<VALUES$}", "note")));
    }
    out.push('\n');
    out.push_str(&verdict(report, width));
    out
}

fn verdict(report: &Report, width: usize) -> String {
    match &report.violation {
        None if report.minimum > 0 || report.incomplete > 0 => {
            let text = "Sound: no record that is here was changed, removed or moved.";
            format!("{}\n", paint(GOOD, text))
        }
        None => {
            let text = "Sound: no record was changed, removed or moved.";
            format!("{}\n", paint(GOOD, text))
        }
        Some(violation) => {
            let text = wrap(&clean(&format!("VIOLATED: {violation}")), width, 2);
            format!("{}\n", paint(BAD, &text))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample::{NOW, fits, plain};
    use super::*;
    use audit::{Violation, ViolationKind};
    use uuid::Uuid;

    fn sound() -> Report {
        Report {
            origin: "coconut.local/4f1c2d3e".into(),
            key_id: "1a2b3c4d".into(),
            leaves: 312,
            root: "00".into(),
            minimum: 0,
            incomplete: 0,
            first_record: 0,
            records: 12_345,
            agents: 32,
            denials: 17,
            gaps: 0,
            first_time_ns: Some(NOW - 7_200_000_000_000),
            last_time_ns: Some(NOW - 3_000_000_000),
            warnings: Vec::new(),
            violation: None,
        }
    }

    #[test]
    fn a_sound_log_reads_well() {
        let text = report(&sound(), NOW, 80);
        fits(&text, 80);
        let expected = "\
log         coconut.local/4f1c2d3e
key         1a2b3c4d signs the checkpoints
records     12,345 in 312 leaves
agents      32 chains, coconutd's own included
denials     17
time        from 2h ago to 3s ago

Sound: no record was changed, removed or moved.
";
        assert_eq!(plain(&text), expected);
    }

    #[test]
    fn what_is_not_there_is_said_and_is_no_violation() {
        let some = Report { minimum: 512, first_record: 5_120, incomplete: 1_044, ..sound() };
        let text = report(&some, NOW, 80);
        fits(&text, 80);
        let text = plain(&text);
        assert!(text.contains("\npruned      records before 5,120 are not kept;"), "{text}");
        assert!(text.contains("\nincomplete  the newest 1,044 leaves are not in"), "{text}");
        assert!(
            text.ends_with("Sound: no record that is here was changed, removed or moved.\n"),
            "{text}"
        );
    }

    #[test]
    fn a_violation_names_the_first_bad_record() {
        let violation = Violation {
            kind: ViolationKind::RecordChanged,
            seq: Some(88),
            or_seq: Vec::new(),
            agent: Some(Uuid::from_u128(7)),
            leaf: Some(3),
            file: None,
            detail: "a record is not what was signed".into(),
        };
        let text = report(&Report { violation: Some(violation), ..sound() }, NOW, 80);
        fits(&text, 80);
        assert!(
            plain(&text).ends_with(
                "VIOLATED: a record is not what was signed (record 88, agent\n  \
             00000000-0000-0000-0000-000000000007, leaf 3)\n"
            ),
            "{}",
            plain(&text)
        );
    }
}
