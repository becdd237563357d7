//! What people read: pure functions from API types to text of at most `width` columns.
//!
//! Agents choose many of the strings shown here, so every one of them passes [`clean`] first: no
//! control character of an agent's reaches the terminal. Colour only repeats what words say.

pub mod agents;
pub mod audit;
pub mod caps;
pub mod doctor;
pub mod explain;
pub mod feed;
pub mod lanes;
pub mod table;
pub mod time;
pub mod verify;

use abi::AgentState;
use anstyle::{AnsiColor, Style};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};
use uuid::Uuid;

/// Headings and names.
pub const BOLD: Style = Style::new().bold();
/// What matters less.
pub const DIM: Style = Style::new().dimmed();
/// Refused, failed, broken.
pub const BAD: Style = AnsiColor::Red.on_default();
/// Weaker, waiting, on hold.
pub const ODD: Style = AnsiColor::Yellow.on_default();
/// As it should be.
pub const GOOD: Style = AnsiColor::Green.on_default();
/// Nothing to say.
pub const PLAIN: Style = Style::new();

/// `text` in `style`.
pub fn paint(style: Style, text: &str) -> String {
    if style.is_plain() { text.to_owned() } else { format!("{style}{text}{style:#}") }
}

/// The last eight hex digits: a UUIDv7 begins with the time, so its end tells agents apart.
pub fn short(aid: Uuid) -> String {
    let hex = aid.simple().to_string();
    hex[hex.len() - 8..].to_owned()
}

/// Control characters as `\x1b`, and what would turn the writing direction as `\u{202e}`.
pub fn clean(text: &str) -> String {
    let turns = |c: char| matches!(c, '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c if turns(c) => out.push_str(&format!("\\u{{{:x}}}", u32::from(c))),
            c => out.push(c),
        }
    }
    out
}

/// `text` in at most `width` columns, with `…` where its end is missing.
pub fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut out = String::new();
    let mut used = 0;
    for c in text.chars() {
        used += c.width().unwrap_or(0);
        if used >= width {
            break;
        }
        out.push(c);
    }
    out.push('…');
    out
}

/// A path in at most `width` columns: its end tells more than its beginning.
pub fn cut_path(text: &str, width: usize) -> String {
    if text.width() <= width || !text.starts_with('/') {
        return cut(text, width);
    }
    let mut kept: Vec<char> = Vec::new();
    let mut used = 1;
    for c in text.chars().rev() {
        used += c.width().unwrap_or(0);
        if used > width {
            break;
        }
        kept.push(c);
    }
    kept.push('…');
    kept.iter().rev().collect()
}

/// `text` broken at spaces into lines of `width` columns, each after the first behind `indent`
/// spaces.
pub fn wrap(text: &str, width: usize, indent: usize) -> String {
    let mut out = String::new();
    let mut used = indent;
    for word in text.split(' ') {
        let columns = word.width();
        if used > indent {
            if used + 1 + columns > width {
                out.push('\n');
                out.push_str(&" ".repeat(indent));
                used = indent;
            } else {
                out.push(' ');
                used += 1;
            }
        }
        out.push_str(word);
        used += columns;
    }
    out
}

/// `12,345`.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

/// Colour of a lifecycle state.
pub fn state_style(state: AgentState) -> Style {
    match state {
        AgentState::Active | AgentState::InferenceBlocked => GOOD,
        AgentState::CapDenied | AgentState::Quarantined => ODD,
        AgentState::TerminatedRevoked | AgentState::TerminatedFailed => BAD,
        AgentState::Spawning | AgentState::Attested | AgentState::TerminatedClean => DIM,
    }
}

/// One agent, in memory, for the tests of the renderings.
#[cfg(test)]
pub mod sample {
    use super::*;
    use api::Agent;

    /// 2026-11-23 09:00:00 UTC, in nanoseconds since the UNIX epoch.
    pub const NOW: u64 = 1_795_424_400_000_000_000;

    /// A running agent that started two minutes ago.
    pub fn agent(last: u32, name: &str, tenant: &str) -> Agent {
        Agent {
            aid: Uuid::from_u128(0x019a_b000_0000_7000_8000_0000_0000_0000 | u128::from(last)),
            name: name.to_owned(),
            tenant: tenant.to_owned(),
            parent: None,
            state: AgentState::Active,
            pid: Some(412),
            uid: 998,
            owner: 0,
            command: vec!["/usr/bin/python3".into(), "/opt/team/researcher.py".into()],
            weight: 100,
            started_ns: NOW - 120_000_000_000,
            ended_ns: None,
            exit: None,
            denials: 0,
            uses: 17,
        }
    }

    /// A rendering without its colours, as `NO_COLOR` shows it.
    pub fn plain(text: &str) -> String {
        anstream::adapter::strip_str(text).to_string()
    }

    /// Fails if a line is wider than `width`.
    pub fn fits(text: &str, width: usize) {
        for line in plain(text).lines() {
            assert!(line.width() <= width, "{} columns: {line:?}", line.width());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agents_escape_sequences_do_not_reach_the_terminal() {
        assert_eq!(clean("a\x1b[2Jb\u{202e}c\n"), "a\\x1b[2Jb\\u{202e}c\\n");
    }

    #[test]
    fn long_text_is_cut_where_it_tells_least() {
        assert_eq!(cut("researcher", 6), "resea…");
        assert_eq!(cut_path("/srv/input/secret.txt", 12), "…/secret.txt");
        assert_eq!(cut_path("short", 12), "short");
    }

    #[test]
    fn wrapping_keeps_the_indent() {
        assert_eq!(wrap("one two three", 12, 4), "one two\n    three");
    }

    #[test]
    fn numbers_read_well() {
        assert_eq!(thousands(7), "7");
        assert_eq!(thousands(12_345), "12,345");
        assert_eq!(thousands(1_000_000), "1,000,000");
    }
}
