//! The paths within its own crate that a file names: `crate::a::{b, c::d}`, `super::e`.

use super::Module;

/// Every such path, from the crate's root. Tests at a file's end are left out: they may use anything.
pub fn of(text: &str, module: &Module) -> Vec<Module> {
    let text: String = text
        .lines()
        .take_while(|line| *line != "#[cfg(test)]")
        .map(|line| line.split("//").next().unwrap_or_default())
        .flat_map(|line| [line, "\n"])
        .collect();
    let mut paths = Vec::new();
    for (word, start) in [("crate", Some(Vec::new())), ("super", above(module))] {
        let Some(start) = start else { continue };
        let marker = format!("{word}::");
        for (at, _) in text.match_indices(&marker) {
            if !text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':') {
                expand(&text[at + marker.len()..], &start, &mut paths);
            }
        }
    }
    paths
}

fn above(module: &Module) -> Option<Module> {
    module.split_last().map(|(_, above)| above.to_vec())
}

/// Follows one tree of paths and returns what is left of the text behind it.
fn expand<'a>(text: &'a str, before: &Module, paths: &mut Vec<Module>) -> &'a str {
    let text = text.trim_start();
    if let Some(mut rest) = text.strip_prefix('{') {
        loop {
            rest = expand(rest, before, paths).trim_start();
            match rest.strip_prefix(',') {
                Some(next) if !next.trim_start().starts_with('}') => rest = next,
                next => return next.unwrap_or(rest).trim_start().strip_prefix('}').unwrap_or(""),
            }
        }
    }
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    let path = match name {
        "super" => above(before).unwrap_or_default(),
        "" | "self" => before.clone(),
        name => [before.as_slice(), &[name.to_owned()]].concat(),
    };
    if let Some(rest) = rest.strip_prefix("::") {
        return expand(rest, &path, paths);
    }
    paths.push(path);
    let rest = rest.strip_prefix('*').unwrap_or(rest);
    // `a as b` within a group.
    match rest.strip_prefix(" as ") {
        Some(other) => other.trim_start_matches(|c: char| c.is_alphanumeric() || c == '_'),
        None => rest,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(text: &str) -> Vec<String> {
        let module = ["a".to_owned(), "b".to_owned()].to_vec();
        let mut all: Vec<String> = of(text, &module).iter().map(|p| p.join("::")).collect();
        all.sort();
        all
    }

    #[test]
    fn every_way_to_write_a_path_is_read() {
        assert_eq!(named("use crate::x::Y;"), ["x::Y"]);
        assert_eq!(named("use crate::{x::{self, Y as Z}, w::*,\n    v};"), ["v", "w", "x", "x::Y"]);
        assert_eq!(named("use super::c::D; use super::super::e::F;"), ["a::c::D", "e::F"]);
        assert_eq!(named("fn f() -> crate::g::H { super::i::j() }"), ["a::i::j", "g::H"]);
    }

    #[test]
    fn other_crates_comments_and_tests_are_not() {
        assert!(named("use other::x;\n// crate::x\nlet a = 1; // super::y\n").is_empty());
        assert!(named("#[cfg(test)]\nmod tests { use crate::x; }").is_empty());
        assert!(named("pub(crate) fn f() {} macro_crate::x!()").is_empty());
    }
}
