//! `cap ls`, and the capabilities in `show`.

use super::table::{Table, elastic, fixed, number, path, styled};
use super::{DIM, clean, paint, short, time};
use api::HeldCapability;
use api::agent::ChangeReport;

/// Source of what an agent has at its launch, which no rule names.
const LAUNCH: &str = "launch";

/// What an agent holds, one right a line; the rights of a profile are one line, unless the terminal
/// is as wide as it takes.
pub fn table(held: &[HeldCapability], now_ns: u64, width: usize) -> String {
    if held.is_empty() {
        return "It holds no capability.\n".into();
    }
    let mut table = Table::new(&[
        number("RULE"),
        fixed("CAPABILITY"),
        path("OF", 20),
        elastic("FROM", 10),
        fixed("UNTIL"),
    ]);
    let mut folded = false;
    let fold = |a: &HeldCapability, b: &HeldCapability| {
        let folds = a.source.starts_with('@') || a.source == LAUNCH;
        width != usize::MAX && folds && a.source == b.source
    };
    for group in held.chunk_by(fold) {
        match group {
            [right] => row(&mut table, right, now_ns),
            [first, .., last] => {
                folded = true;
                let (number, what, from) = match first.source == LAUNCH {
                    true => ("-".to_owned(), "own mounts, standard files", "every agent"),
                    false => (format!("{}-{}", first.rule, last.rule), "file rights", "profile"),
                };
                table.row([
                    number.into(),
                    clean(&first.source).into(),
                    styled(DIM, format!("{} {what}", group.len())),
                    styled(DIM, from),
                    styled(DIM, "-"),
                ]);
            }
            [] => {}
        }
    }
    let mut text = table.render(width);
    if folded {
        text.push_str(&paint(DIM, "--wide lists all rights one by one."));
        text.push('\n');
    }
    text
}

fn row(table: &mut Table, right: &HeldCapability, now_ns: u64) {
    let of = right.capability.split_once('=').map_or("", |(_, of)| of);
    let span = |at: u64| format!("in {}", time::span(at - now_ns));
    let until = match (right.expires_ns, right.uses_left) {
        (Some(at), _) if at <= now_ns => styled(super::BAD, "expired"),
        (_, Some(0)) => styled(super::BAD, "used up"),
        (None, None) => styled(DIM, "-"),
        (Some(at), None) => span(at).into(),
        (None, Some(left)) => uses(left).into(),
        (Some(at), Some(left)) => format!("{}, {}", uses(left), span(at)).into(),
    };
    let number = if right.rule == 0 { "-".to_owned() } else { right.rule.to_string() };
    table.row([
        number.into(),
        right.kind.name().into(),
        clean(of).into(),
        styled(DIM, clean(&right.source)),
        until,
    ]);
}

fn uses(left: u64) -> String {
    format!("{left} {}", if left == 1 { "use" } else { "uses" })
}

/// What a grant or revocation did, in one sentence.
pub fn change(done: &str, report: &ChangeReport) -> String {
    let agents = report.changed.len();
    let ended = match report.ended.as_slice() {
        [] => String::new(),
        some => format!(
            "; ended {} that still had it: {}",
            some.len(),
            some.iter().map(|a| short(*a)).collect::<Vec<_>>().join(" ")
        ),
    };
    let noun = if agents == 1 { "agent" } else { "agents" };
    let (ms, us) = (report.took_us / 1000, report.took_us % 1000 / 10);
    format!("{done} for {agents} {noun} in {ms}.{us:02} ms{ended}\n")
}

#[cfg(test)]
mod tests {
    use super::super::sample::{NOW, fits, plain};
    use super::*;
    use abi::Capability;
    use uuid::Uuid;

    fn right(
        rule: u32,
        capability: &str,
        kind: Capability,
        source: &str,
        expires_ns: Option<u64>,
    ) -> HeldCapability {
        let (capability, source) = (capability.into(), source.into());
        HeldCapability { rule, capability, kind, source, expires_ns, uses_left: None }
    }

    #[test]
    fn what_is_counted_says_how_often() {
        let counted = |rule, expires_ns, left| HeldCapability {
            uses_left: Some(left),
            ..right(rule, "fs.read=/srv/in", Capability::FsRead, "grant", expires_ns)
        };
        let held = [
            counted(3, None, 0),
            counted(4, None, 1),
            counted(5, Some(NOW + 60_000_000_000), 12),
            counted(6, Some(NOW - 1), 2),
        ];
        let text = table(&held, NOW, 80);
        fits(&text, 80);
        let text = plain(&text);
        let until: Vec<_> =
            text.lines().skip(1).filter_map(|l| l.split_once("grant  ")).map(|l| l.1).collect();
        assert_eq!(until, ["used up", "1 use", "12 uses, in 1m", "expired"]);
    }

    #[test]
    fn a_profile_is_one_line() {
        let held = [
            right(1, "fs.read=/srv/in", Capability::FsRead, "line 6", None),
            right(2, "fs.read=/etc/passwd", Capability::FsRead, "@base", None),
            right(3, "fs.write=/dev/null", Capability::FsWrite, "@base", None),
            right(0, "fs.read=/proc (its own)", Capability::FsRead, "launch", None),
            right(0, "fs.write=/tmp (its own)", Capability::FsWrite, "launch", None),
        ];
        let text = table(&held, NOW, 80);
        fits(&text, 80);
        let expected = "\
RULE  CAPABILITY  OF                            FROM         UNTIL
   1  fs.read     /srv/in                       line 6       -
 2-3  @base       2 file rights                 profile      -
   -  launch      2 own mounts, standard files  every agent  -
--wide lists all rights one by one.
";
        assert_eq!(plain(&text), expected);
        assert_eq!(plain(&table(&held, NOW, usize::MAX)).lines().count(), 6);
    }

    #[test]
    fn rights_read_as_a_table() {
        let held = [
            right(3, "fs.read=/srv/input", Capability::FsRead, "manifest:7", None),
            right(
                9,
                "net.connect=127.0.0.1:11700",
                Capability::NetConnect,
                "infer",
                Some(NOW + 60_000_000_000),
            ),
        ];
        let text = table(&held, NOW, 80);
        fits(&text, 80);
        assert_eq!(
            plain(&text),
            "RULE  CAPABILITY   OF               FROM        UNTIL\n   \
             3  fs.read      /srv/input       manifest:7  -\n   \
             9  net.connect  127.0.0.1:11700  infer       in 1m\n"
        );
    }

    #[test]
    fn a_change_says_whom_it_ended() {
        let report = ChangeReport {
            changed: vec![Uuid::nil(), Uuid::max()],
            ended: vec![Uuid::max()],
            took_us: 1234,
        };
        let text = change("Revoked fs.read=/srv", &report);
        assert_eq!(
            text,
            "Revoked fs.read=/srv for 2 agents in 1.23 ms; ended 1 that still had it: ffffffff\n"
        );
    }
}
