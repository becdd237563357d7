//! Lines of code, comment and blank; TODO marks.

use crate::language::Comments;
use crate::tree::Source;
use serde::Serialize;

/// Lines of a file or of many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Lines {
    /// With something that is no comment.
    pub code: usize,
    /// With nothing but comment.
    pub comment: usize,
    /// Empty.
    pub blank: usize,
}

impl Lines {
    /// All of them.
    pub fn total(self) -> usize {
        self.code + self.comment + self.blank
    }

    /// Adds another count to this one.
    pub fn add(&mut self, other: Lines) {
        self.code += other.code;
        self.comment += other.comment;
        self.blank += other.blank;
    }
}

/// Counts the lines of a file.
pub fn lines(source: &Source) -> Lines {
    count(&source.text, source.language.comments)
}

fn count(text: &str, comments: Comments) -> Lines {
    let mut lines = Lines::default();
    let mut in_block = false;
    for line in text.lines() {
        let line = line.trim();
        if line.is_empty() {
            lines.blank += 1;
        } else if is_comment(line, comments, &mut in_block) {
            lines.comment += 1;
        } else {
            lines.code += 1;
        }
    }
    lines
}

/// True when nothing on the line is code. `in_block` carries an open block comment to the next line.
fn is_comment(line: &str, comments: Comments, in_block: &mut bool) -> bool {
    let Some((open, close)) = comments.block else {
        return comments.line.iter().any(|p| line.starts_with(p));
    };
    if !*in_block && !line.starts_with(open) {
        return comments.line.iter().any(|p| line.starts_with(p));
    }
    let after = if *in_block { line } else { &line[open.len()..] };
    match after.find(close) {
        Some(at) => {
            *in_block = false;
            after[at + close.len()..].trim().is_empty()
        }
        None => {
            *in_block = true;
            true
        }
    }
}

/// A mark that somebody left for later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Line, from 1.
    pub line: usize,
    /// `TODO`, `FIXME`, `XXX` or `HACK`.
    pub word: &'static str,
    /// What follows it.
    pub text: String,
}

/// Finds marks in comments: the word must stand alone and be written in capitals after a comment sign.
pub fn marks(source: &Source) -> Vec<Mark> {
    let signs: &[&str] = match source.language.comments {
        Comments { line: [], block: None } => return Vec::new(),
        Comments { line: [], block: Some(_) } => &["<!--"],
        Comments { line: ["#"], .. } => &["#"],
        _ => &["//", "/*", " * "],
    };
    let mut found = Vec::new();
    for (index, line) in source.text.lines().enumerate() {
        let Some(start) = signs.iter().filter_map(|s| line.find(s)).min() else { continue };
        for word in ["TODO", "FIXME", "XXX", "HACK"] {
            if let Some(text) = after_word(&line[start..], word) {
                found.push(Mark { line: index + 1, word, text });
                break;
            }
        }
    }
    found
}

/// A mark is the first word of its comment, with nothing but a colon or `(name)` after it.
fn after_word(comment: &str, word: &str) -> Option<String> {
    let body = comment.trim_start_matches(['/', '#', '*', '!', '<', '-', ' ', '\t']);
    let rest = body.strip_prefix(word)?;
    let follows = rest.chars().next();
    if follows.is_some_and(|c| c != ':' && c != '(' && c != ' ') {
        return None;
    }
    Some(rest.trim_start_matches([':', ' ']).chars().take(120).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::language;
    use std::path::Path;

    fn source(name: &str, text: &str) -> Source {
        let language = language::detect(Path::new(name), text).unwrap();
        Source { name: name.into(), language, text: text.into() }
    }

    #[test]
    fn code_comment_and_blank_are_told_apart() {
        let rust =
            source("a.rs", "// one\n\nfn a() {} // tail\n/* two\n three */\n/* x */ let y;\n");
        assert_eq!(lines(&rust), Lines { code: 2, comment: 3, blank: 1 });
        let shell = source("a.sh", "#!/bin/sh\n# c\necho hi # x\n");
        assert_eq!(lines(&shell), Lines { code: 1, comment: 2, blank: 0 });
        let json = source("a.json", "{\n\n}\n");
        assert_eq!(lines(&json), Lines { code: 2, comment: 0, blank: 1 });
    }

    #[test]
    fn a_mark_opens_its_comment() {
        let text =
            "// TODO: mend\n/// finds TODO marks\nlet x = \"TODO\"; // XXX(me) odd\n// TODOS\n";
        let found = marks(&source("a.rs", text));
        assert_eq!(
            found.iter().map(|m| (m.line, m.word)).collect::<Vec<_>>(),
            [(1, "TODO"), (3, "XXX")]
        );
        assert_eq!(found[0].text, "mend");
    }
}
