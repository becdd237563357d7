//! Audit records, one a line, and the log's head.

use super::{BAD, DIM, ODD, PLAIN, clean, cut, cut_path, paint, short, time};
use abi::{Kind, Verdict};
use api::audit::Record;
use record::Body;
use unicode_width::UnicodeWidthStr;

/// The heading of the lines of [`record`].
pub fn heading() -> String {
    let text = format!(
        "{:>6}  {:<8}  {:<13} {:<9} {:<11} {}",
        "SEQ", "TIME", "AGENT", "KIND", "CAPABILITY", "OBJECT"
    );
    paint(DIM, &text) + "\n"
}

/// One record on one line; `--json` and `--wide` show all of it.
pub fn record(record: &Record, width: usize) -> String {
    let (kind, verdict) = (record.kind.known(), record.verdict.known());
    let who = match (&record.name, record.agent.is_nil(), kind) {
        (_, true, Some(Kind::Seal)) => "(outside)".to_owned(),
        (_, true, _) => "coconutd".to_owned(),
        (Some(name), ..) => clean(name),
        (None, ..) => short(record.agent),
    };
    let refused = verdict == Some(Verdict::Deny);
    let name = match kind {
        Some(Kind::Denial) => "DENIED".to_owned(),
        Some(Kind::Inference) if refused => "DENIED".to_owned(),
        _ => record.kind.to_string(),
    };
    let style = match kind {
        Some(Kind::Denial | Kind::Gap | Kind::Seal) => BAD,
        Some(Kind::Inference) if refused => BAD,
        Some(Kind::Revoke | Kind::Degraded) => ODD,
        _ => PLAIN,
    };
    let head = format!(
        "{:>6}  {:<8}  {} {} {:<11} ",
        record.sequence,
        time::clock(record.time_ns),
        pad(&cut(&who, 13), 13),
        paint(style, &format!("{name:<9}")),
        record.capability.to_string(),
    );
    let room = width.saturating_sub(54);
    let detail = if width == usize::MAX { clean(&record.detail) } else { brief(record) };
    let object = clean(&record.object);
    // Of a path the end tells more, of a command line the beginning.
    let object = match kind {
        Some(Kind::Spawn) => cut(&object, room),
        _ => cut_path(&object, room),
    };
    let object = match record.cut {
        0 => object,
        bytes => format!("{} [+{bytes} bytes]", cut(&object, room.saturating_sub(17))),
    };
    let object = match record.count {
        1 => object,
        times => {
            let times = format!(" ×{times}");
            format!("{}{times}", cut_path(&object, room.saturating_sub(times.width())))
        }
    };
    let left = room.saturating_sub(object.width() + 1);
    let detail = if left >= 5 && !detail.is_empty() { cut(&detail, left) } else { String::new() };
    let line = format!("{head}{object}");
    match detail.is_empty() {
        true => line.trim_end().to_owned() + "\n",
        false => format!("{line} {}\n", paint(DIM, &detail)),
    }
}

/// What a person looks for in the body of a kind; all of it where nothing is chosen.
fn brief(record: &Record) -> String {
    let body = record.kind.known().zip(record.body.as_ref());
    let body = body.and_then(|(kind, json)| Body::from_json(kind, json));
    let all = clean(&record.detail);
    let in_brackets = |text: &str| match text {
        "" => String::new(),
        text => format!("({})", clean(text)),
    };
    match body {
        Some(Body::Attempt(attempt)) if attempt.op != "api" => in_brackets(&attempt.comm),
        Some(Body::Spawn(_)) => String::new(),
        Some(Body::State(step)) => format!("from {}", clean(&step.from)),
        Some(Body::Exit(exit)) if exit.step.is_empty() => in_brackets(&exit.reason),
        Some(Body::Grant(grant)) => in_brackets(&grant.from),
        Some(Body::Revoke(revoke)) => in_brackets(&revoke.why),
        Some(Body::Inference(call)) if !call.refused.is_empty() => in_brackets(&call.refused),
        Some(Body::Inference(call)) => {
            let tokens = |count: Option<u64>| count.map_or("?".into(), |count| count.to_string());
            let (read, written) = (tokens(call.prompt_tokens), tokens(call.completion_tokens));
            format!("{read} + {written} tokens")
        }
        _ => all,
    }
}

fn pad(text: &str, width: usize) -> String {
    format!("{text}{}", " ".repeat(width.saturating_sub(text.width())))
}

#[cfg(test)]
mod tests {
    use super::super::sample::{NOW, fits, plain};
    use super::*;
    use abi::{Capability, Code};
    use uuid::Uuid;

    #[test]
    fn a_denial_stands_out_and_fits() {
        let record_of = Record {
            sequence: 1234,
            time_ns: NOW,
            agent: Uuid::from_u128(0xa1b2_c3d4),
            name: Some("researcher".into()),
            parent: Uuid::nil(),
            tenant: "maya".into(),
            kind: Code::Known(Kind::Denial),
            capability: Code::Known(Capability::FsRead),
            verdict: Code::Known(Verdict::Deny),
            object: "/home/maya/.ssh/id_ed25519".into(),
            detail: "hook=file_open errno=EACCES comm=cat".into(),
            body: None,
            cut: 0,
            count: 1,
        };
        let text = record(&record_of, 80);
        fits(&text, 80);
        let text = plain(&text);
        assert!(text.starts_with("  1234  "), "{text}");
        assert!(
            text.ends_with("researcher    DENIED    fs.read     /home/maya/.ssh/id_ed25519\n"),
            "{text}"
        );
        let state = Record {
            kind: Code::Known(Kind::State),
            verdict: Code::Known(Verdict::None),
            capability: Code::Known(Capability::None),
            object: "cap-denied".into(),
            detail: "from=active".into(),
            body: Some(serde_json::json!({"from": "active"})),
            ..record_of.clone()
        };
        assert!(
            plain(&record(&state, 80)).ends_with("state     -           cap-denied from active\n")
        );
        let wide = plain(&record(&record_of, usize::MAX));
        assert!(wide.ends_with("id_ed25519 hook=file_open errno=EACCES comm=cat\n"), "{wide}");
        let storm_of = record_of.clone();
        let newer = Record { kind: Code::Unknown(99), cut: 7, ..record_of };
        let text = plain(&record(&newer, 120));
        assert!(text.contains("99        fs.read") && text.contains("[+7 bytes]"), "{text}");
        let storm = Record { count: 41_234, ..storm_of };
        let text = record(&storm, 80);
        fits(&text, 80);
        assert!(plain(&text).ends_with("/.ssh/id_ed25519 ×41234\n"), "{}", plain(&text));
    }
}
