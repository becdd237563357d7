//! What is wrong with a manifest: line, column, what was expected and what may have been meant.

use crate::limits;
use miette::{Diagnostic, LabeledSpan, Severity};
use serde::Serialize;
use std::fmt;
use std::ops::Range;

/// One thing that is wrong.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Problem {
    /// 1-based.
    pub line: u32,
    /// 1-based, in characters.
    pub column: u32,
    /// Byte offset of the first byte.
    pub offset: usize,
    /// Bytes.
    pub length: usize,
    /// What is wrong.
    pub message: String,
    /// What would be right.
    pub expected: String,
    /// What may have been meant, or what to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.line, self.column, self.message)
    }
}

impl std::error::Error for Problem {}

impl Diagnostic for Problem {
    fn severity(&self) -> Option<Severity> {
        Some(Severity::Error)
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.hint.as_ref().map(|hint| Box::new(hint) as Box<dyn fmt::Display>)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let label = (!self.expected.is_empty()).then(|| format!("expected {}", self.expected));
        Some(Box::new(std::iter::once(LabeledSpan::new(label, self.offset, self.length))))
    }
}

/// A manifest was refused. Holds the text, so that it can show the lines.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct ManifestError {
    /// What the text is called: a file's name.
    pub name: String,
    /// Everything that is wrong, in the order of the text; never empty.
    pub problems: Vec<Problem>,
    #[serde(skip)]
    source: String,
}

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.problems.len();
        let plural = if count == 1 { "" } else { "s" };
        write!(f, "{} is refused: {count} problem{plural}", self.name)
    }
}

impl std::error::Error for ManifestError {}

impl Diagnostic for ManifestError {
    fn source_code(&self) -> Option<&dyn miette::SourceCode> {
        Some(&self.source)
    }

    fn related<'a>(&'a self) -> Option<Box<dyn Iterator<Item = &'a dyn Diagnostic> + 'a>> {
        Some(Box::new(self.problems.iter().map(|p| p as &dyn Diagnostic)))
    }
}

/// Columns of the plain text.
const WIDTH: usize = 80;

impl ManifestError {
    pub(crate) fn new(name: &str, source: &str, problems: Vec<Problem>) -> Self {
        ManifestError { name: name.to_owned(), problems, source: source.to_owned() }
    }

    /// Plain text for a terminal of 80 columns, without colour.
    pub fn render(&self) -> String {
        let mut text = String::new();
        for problem in &self.problems {
            self.render_problem(problem, &mut text);
        }
        let count = self.problems.len();
        let plural = if count == 1 { "" } else { "s" };
        text.push_str(&format!("{count} problem{plural}: the manifest is refused\n"));
        text
    }

    fn render_problem(&self, problem: &Problem, text: &mut String) {
        let place = format!("{}:{}:{}: ", short(&self.name), problem.line, problem.column);
        wrap(text, &place, "    ", &problem.message);
        let number = problem.line.to_string();
        let gutter = " ".repeat(number.len() + 2);
        let line = self.source.lines().nth(problem.line as usize - 1).unwrap_or_default();
        let (shown, start, marks) = window(line, problem, WIDTH - gutter.len() - 2);
        text.push_str(&format!(" {number} | {shown}\n"));
        text.push_str(&format!("{gutter}| {}{}\n", " ".repeat(start), "^".repeat(marks)));
        if !problem.expected.is_empty() {
            wrap(text, &format!("{gutter}= expected: "), &format!("{gutter}  "), &problem.expected);
        }
        if let Some(hint) = &problem.hint {
            wrap(text, &format!("{gutter}= hint: "), &format!("{gutter}  "), hint);
        }
        text.push('\n');
    }
}

/// The end of a long name: the file, without the directories that lead to it.
fn short(name: &str) -> String {
    let count = name.chars().count();
    if count <= WIDTH / 2 {
        return name.to_owned();
    }
    std::iter::once('…').chain(name.chars().skip(count - WIDTH / 2 + 1)).collect()
}

/// The part of a line that shows the problem, where it starts in that part and how long it is.
fn window(line: &str, problem: &Problem, width: usize) -> (String, usize, usize) {
    let characters: Vec<char> =
        line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let start = (problem.column as usize - 1).min(characters.len());
    let fits = characters.len() <= width && start < width;
    let first = if fits { 0 } else { start.saturating_sub(width / 3) };
    let shown: String = characters.iter().skip(first).take(width).collect();
    let bytes = line.char_indices().nth(start).map_or(line.len(), |(at, _)| at);
    let end = (bytes + problem.length).min(line.len());
    let length = line.get(bytes..end).map_or(1, |part| part.chars().count());
    let marks = length.clamp(1, width.saturating_sub(start - first).max(1));
    (shown, start - first, marks)
}

/// Writes `body` after `first`, broken at spaces, and within words that are wider than the terminal.
fn wrap(text: &mut String, first: &str, rest: &str, body: &str) {
    let mut line = first.to_owned();
    let mut width = first.chars().count();
    let mut empty = true;
    let room = WIDTH - rest.chars().count();
    for word in body.split(' ').flat_map(|word| pieces(word, room)) {
        let length = word.chars().count();
        if width + usize::from(!empty) + length > WIDTH {
            text.push_str(line.trim_end());
            text.push('\n');
            (line, width, empty) = (rest.to_owned(), rest.chars().count(), true);
        }
        if !empty {
            line.push(' ');
            width += 1;
        }
        line.extend(word.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }));
        width += length;
        empty = false;
    }
    text.push_str(&line);
    text.push('\n');
}

/// A word in pieces of at most `most` characters.
fn pieces(word: &str, most: usize) -> Vec<&str> {
    let mut list = Vec::new();
    let mut rest = word;
    while let Some((at, _)) = rest.char_indices().nth(most) {
        let (piece, more) = rest.split_at(at);
        list.push(piece);
        rest = more;
    }
    list.push(rest);
    list
}

/// Collects problems while a manifest is read.
pub(crate) struct Problems<'a> {
    source: &'a str,
    list: Vec<Problem>,
}

impl<'a> Problems<'a> {
    pub(crate) fn new(source: &'a str) -> Self {
        Problems { source, list: Vec::new() }
    }

    /// 1-based line and column of a byte offset.
    pub(crate) fn position(&self, offset: usize) -> (u32, u32) {
        let mut offset = offset.min(self.source.len());
        while !self.source.is_char_boundary(offset) {
            offset -= 1;
        }
        let before = &self.source[..offset];
        let line = before.bytes().filter(|b| *b == b'\n').count() as u32 + 1;
        let start = before.rfind('\n').map_or(0, |at| at + 1);
        (line, before[start..].chars().count() as u32 + 1)
    }

    pub(crate) fn add(&mut self, span: Range<usize>, message: String, expected: &str) {
        self.add_with_hint(span, message, expected, None);
    }

    pub(crate) fn add_with_hint(
        &mut self,
        span: Range<usize>,
        message: String,
        expected: &str,
        hint: Option<String>,
    ) {
        if self.list.len() >= limits::PROBLEMS {
            return;
        }
        let (line, column) = self.position(span.start);
        let (offset, length) = (span.start, span.len());
        let expected = expected.to_owned();
        self.list.push(Problem { line, column, offset, length, message, expected, hint });
    }

    pub(crate) fn finish(mut self) -> Vec<Problem> {
        self.list.sort_by_key(|p| p.offset);
        self.list
    }
}
