//! Where functions begin and end, in each language that has them.

use crate::rust::{self, Function};
use crate::tree::Source;

/// Finds the functions of a file. Rust is parsed; the others are recognised by their layout.
pub fn find(source: &Source) -> Vec<Function> {
    match source.language.name {
        "Rust" => rust::facts(&source.name, &source.text).map(|f| f.functions).unwrap_or_default(),
        "Python" => python(source),
        "Shell" => shell(source),
        "C" | "C header" | "C++" => c(source),
        _ => Vec::new(),
    }
}

fn in_test_folder(name: &str) -> bool {
    name.split('/').any(|part| {
        part == "tests" || part == "test" || part.starts_with("test_") || part.ends_with("_test.py")
    })
}

/// `def` to the last line that is indented deeper.
fn python(source: &Source) -> Vec<Function> {
    let lines: Vec<&str> = source.text.lines().collect();
    let mut found = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let body = line.trim_start();
        let Some(rest) = body.strip_prefix("def ").or_else(|| body.strip_prefix("async def "))
        else {
            continue;
        };
        let indent = line.len() - body.len();
        let inside = |l: &&str| {
            let text = l.trim_start();
            text.is_empty() || l.len() - text.len() > indent || text.starts_with([')', ']'])
        };
        let tail: Vec<&str> = lines[index + 1..].iter().copied().take_while(inside).collect();
        let blank = tail.iter().rev().take_while(|l| l.trim().is_empty()).count();
        found.push(named(source, rest, index, 1 + tail.len() - blank));
    }
    found
}

/// `name() {` at the margin to `}` at the margin.
fn shell(source: &Source) -> Vec<Function> {
    let lines: Vec<&str> = source.text.lines().collect();
    let mut found = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let head = line.strip_prefix("function ").unwrap_or(line);
        let Some((name, rest)) = head.split_once("()") else { continue };
        let plain = !name.is_empty()
            && name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | ':'));
        if !plain || !rest.trim_start().starts_with(['{', '(']) {
            continue;
        }
        let one_line = rest.trim_end().ends_with(['}', ')']);
        let end = lines[index..].iter().position(|l| *l == "}" || *l == ")");
        let length = if one_line { 1 } else { end.map_or(1, |e| e + 1) };
        found.push(named(source, name, index, length));
    }
    found
}

/// A line that ends in `{` at depth 0 after a `)` opens a function; its closing brace ends it.
fn c(source: &Source) -> Vec<Function> {
    let mut found = Vec::new();
    let mut depth = 0usize;
    let mut open: Option<(String, usize)> = None;
    let mut head = String::new();
    let mut head_line = 0;
    for (index, line) in strip_c(&source.text).lines().enumerate() {
        if depth == 0 {
            if head.is_empty() {
                head_line = index;
            }
            head.push_str(line.split('{').next().unwrap_or_default());
            head.push(' ');
            if line.contains('{') {
                open = c_name(&head).map(|name| (name, head_line));
            }
            if line.contains(['{', ';', '}'])
                || line.trim_start().starts_with('#')
                || line.trim().is_empty()
            {
                head.clear();
            }
        }
        depth += line.matches('{').count();
        depth = depth.saturating_sub(line.matches('}').count());
        if depth == 0
            && line.contains('}')
            && let Some((name, start)) = open.take()
        {
            found.push(named(source, &name, start, index + 1 - start));
        }
    }
    found
}

/// The name of a C function from its head; BPF's `SEC("…") int BPF_PROG(name, …)` gives `name`.
fn c_name(head: &str) -> Option<String> {
    let head = head.trim();
    if !head.ends_with(')') || head.contains('=') || head.starts_with("typedef") {
        return None;
    }
    let before_body = match head.find("BPF_PROG(") {
        Some(at) => &head[at + "BPF_PROG(".len()..],
        None => {
            let start =
                head.rfind("SEC(").map_or(0, |at| at + head[at..].find(')').unwrap_or(0) + 1);
            let open = start + head[start..].find('(')?;
            let name = head[..open].rsplit(|c: char| !c.is_alphanumeric() && c != '_').next()?;
            return (!name.is_empty()).then(|| name.to_owned());
        }
    };
    before_body.split([',', ')']).next().map(|n| n.trim().to_owned())
}

/// C text with comments and the insides of strings blanked, line for line.
fn strip_c(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    let mut inside: Option<char> = None;
    while let Some(c) = chars.next() {
        if c == '\n' {
            out.push(c);
            inside = inside.filter(|i| *i == '*');
            continue;
        }
        match inside {
            None if c == '/' && chars.peek() == Some(&'/') => inside = Some('/'),
            None if c == '/' && chars.peek() == Some(&'*') => inside = Some('*'),
            None => {
                if c == '"' || c == '\'' {
                    inside = Some(c);
                }
                out.push(c);
            }
            Some('*') if c == '*' && chars.peek() == Some(&'/') => {
                chars.next();
                inside = None;
            }
            Some('"' | '\'') if c == '\\' => {
                chars.next();
            }
            Some(quote @ ('"' | '\'')) if c == quote => {
                inside = None;
                out.push(c);
            }
            Some(_) => {}
        }
    }
    out
}

fn named(source: &Source, text: &str, index: usize, lines: usize) -> Function {
    let name: String = text
        .chars()
        .take_while(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | ':'))
        .collect();
    let test = in_test_folder(&source.name) || name.starts_with("test_");
    Function { name, line: index + 1, lines, test }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::language;
    use std::path::Path;

    fn spans(name: &str, text: &str) -> Vec<(String, usize, usize)> {
        let language = language::detect(Path::new(name), text).unwrap();
        let source = Source { name: name.into(), language, text: text.into() };
        find(&source).into_iter().map(|f| (f.name, f.line, f.lines)).collect()
    }

    #[test]
    fn python_functions_end_where_the_indent_ends() {
        let text = "def a(x,\n      y):\n    return 1\n\n\nclass B:\n    async def c(self):\n        pass\nx = 1\n";
        assert_eq!(spans("a.py", text), [("a".into(), 1, 3), ("c".into(), 7, 2)]);
    }

    #[test]
    fn shell_functions_end_at_the_margin() {
        let text = "say() { echo hi; }\nrun() {\n  if x; then\n    y\n  fi\n}\nz=$(a)\n";
        assert_eq!(spans("a.sh", text), [("say".into(), 1, 1), ("run".into(), 2, 5)]);
    }

    #[test]
    fn c_functions_survive_strings_comments_and_macros() {
        let text = "#include <x.h>\nstruct s {\n  int a;\n};\nstatic int one(int a)\n{\n  puts(\"}\"); /* } */\n  return 0; // }\n}\nSEC(\"lsm/file_open\")\nint BPF_PROG(opened, struct file *f)\n{\n  return 0;\n}\nint t[] = { 1, 2 };\n";
        assert_eq!(spans("a.c", text), [("one".into(), 5, 5), ("opened".into(), 10, 5)]);
    }
}
