//! Which language a file is in, and how its comments look.

use std::path::Path;

/// How comments are written, as far as counting lines needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Comments {
    /// Prefixes that make the rest of the line a comment.
    pub line: &'static [&'static str],
    /// Opening and closing mark of a block comment.
    pub block: Option<(&'static str, &'static str)>,
}

const SLASHES: Comments = Comments { line: &["//"], block: Some(("/*", "*/")) };
const HASH: Comments = Comments { line: &["#"], block: None };
const MARKUP: Comments = Comments { line: &[], block: Some(("<!--", "-->")) };
const NONE: Comments = Comments { line: &[], block: None };

/// What a language is for; prose and data are shown apart from code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Programs.
    Code,
    /// Configuration and data.
    Data,
    /// Text for people.
    Prose,
}

/// One row of the language table.
#[derive(Debug, PartialEq, Eq)]
pub struct Language {
    /// The name that people see.
    pub name: &'static str,
    /// What it is for.
    pub kind: Kind,
    /// How comments look.
    pub comments: Comments,
    extensions: &'static [&'static str],
    names: &'static [&'static str],
    interpreters: &'static [&'static str],
}

macro_rules! languages {
    ($($name:literal $kind:ident $comments:ident [$($ext:literal)*] [$($file:literal)*] [$($interp:literal)*];)+) => {
        /// Every language that is known, most specific first.
        pub static LANGUAGES: &[Language] = &[$(Language {
            name: $name, kind: Kind::$kind, comments: $comments,
            extensions: &[$($ext),*], names: &[$($file),*], interpreters: &[$($interp),*],
        }),+];
    };
}

languages! {
    "Rust" Code SLASHES ["rs"] [] [];
    "Python" Code HASH ["py" "pyi"] [] ["python" "python3"];
    "Shell" Code HASH ["sh" "bash"] [] ["sh" "bash" "dash" "zsh"];
    "C" Code SLASHES ["c"] [] [];
    "C header" Code SLASHES ["h"] [] [];
    "C++" Code SLASHES ["cc" "cpp" "cxx" "hpp" "hh"] [] [];
    "Go" Code SLASHES ["go"] [] [];
    "Java" Code SLASHES ["java" "kt"] [] [];
    "JavaScript" Code SLASHES ["js" "mjs" "cjs" "jsx"] [] ["node"];
    "TypeScript" Code SLASHES ["ts" "tsx"] [] [];
    "CSS" Code SLASHES ["css" "scss"] [] [];
    "HTML" Code MARKUP ["html" "htm" "svg"] [] [];
    "SQL" Code SLASHES ["sql"] [] [];
    "Make" Code HASH ["mk"] ["Makefile" "GNUmakefile"] ["make"];
    "Dockerfile" Code HASH [] ["Dockerfile" "Containerfile"] [];
    "TOML" Data HASH ["toml"] [] [];
    "YAML" Data HASH ["yml" "yaml"] [] [];
    "JSON" Data NONE ["json"] [] [];
    "systemd unit" Data HASH ["service" "socket" "target" "mount" "timer" "path"] [] [];
    "Configuration" Data HASH ["conf" "ini" "cfg" "list" "preset"] [".gitignore"] [];
    "Markdown" Prose MARKUP ["md" "markdown"] [] [];
    "Text" Prose NONE ["txt" "rst" "adoc"] ["LICENSE" "COPYING" "NOTICE" "AUTHORS"] [];
}

/// Finds the language by file name, then by extension, then by the `#!` line.
pub fn detect(path: &Path, text: &str) -> Option<&'static Language> {
    let name = path.file_name()?.to_str()?;
    if let Some(found) = LANGUAGES.iter().find(|l| l.names.contains(&name)) {
        return Some(found);
    }
    if let Some(extension) = path.extension().and_then(|e| e.to_str()) {
        let lower = extension.to_ascii_lowercase();
        return LANGUAGES.iter().find(|l| l.extensions.contains(&lower.as_str()));
    }
    let interpreter = interpreter(text)?;
    LANGUAGES.iter().find(|l| l.interpreters.contains(&interpreter))
}

/// The program named by a `#!` line, without its folder; looks through `env`.
fn interpreter(text: &str) -> Option<&str> {
    let line = text.lines().next()?.strip_prefix("#!")?;
    let mut words = line.split_whitespace();
    let mut program = words.next()?;
    if program.ends_with("/env") {
        program = words.find(|w| !w.starts_with('-'))?;
    }
    program.rsplit('/').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(path: &str, text: &str) -> Option<&'static str> {
        detect(Path::new(path), text).map(|l| l.name)
    }

    #[test]
    fn extension_name_and_shebang_decide_in_that_order() {
        assert_eq!(name("a/b.rs", ""), Some("Rust"));
        assert_eq!(name("Makefile", ""), Some("Make"));
        assert_eq!(name("x", "#!/usr/bin/env -S bash -e\n"), Some("Shell"));
        assert_eq!(name("tool", "#!/usr/bin/python3\n"), Some("Python"));
        assert_eq!(name("photo.png", "#!/bin/sh"), None);
        assert_eq!(name("unknown", "hello"), None);
    }
}
