//! What a Rust file says of itself, from its syntax tree: functions, `unsafe`, public items, panics, tests.

mod visitor;

use serde::{Deserialize, Serialize};

/// One function with a body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// Line of its signature, from 1.
    pub line: usize,
    /// From the signature to the end of the body.
    pub lines: usize,
    /// It is a test or stands in test code.
    pub test: bool,
}

/// A place where the compiler's guarantees are suspended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unsafe {
    /// Line, from 1.
    pub line: usize,
    /// `block`, `fn`, `impl` or `trait`.
    pub what: String,
    /// A `SAFETY` comment or a `# Safety` section says why it is right.
    pub reasoned: bool,
}

/// A public function, type, trait, constant or method.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Public {
    /// Line, from 1.
    pub line: usize,
    /// Its name.
    pub name: String,
    /// It has a doc comment.
    pub documented: bool,
}

/// A place that ends the program when something is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Panic {
    /// Line, from 1.
    pub line: usize,
    /// `unwrap`, `expect`, `panic!`…
    pub what: String,
}

/// All that is known of one file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// Every function with a body.
    pub functions: Vec<Function>,
    /// Every `unsafe`.
    pub unsafe_places: Vec<Unsafe>,
    /// What the file offers to others.
    pub public: Vec<Public>,
    /// Panics outside tests.
    pub panics: Vec<Panic>,
    /// Test functions.
    pub tests: usize,
    /// Those that are not run.
    pub ignored: usize,
    /// The file starts with `//!`.
    pub file_documented: bool,
}

/// Parses a file. None: it is not valid Rust (a template, or a newer syntax).
pub fn facts(name: &str, text: &str) -> Option<Facts> {
    let file = syn::parse_file(text).ok()?;
    let in_test = name.split('/').any(|part| part == "tests" || part == "benches")
        || name.ends_with("/tests.rs");
    Some(visitor::facts(&file, text, in_test))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = r##"//! A file.
/// Doc.
pub fn one() -> u8 {
    // SAFETY: nothing is read.
    unsafe { two() };
    let x = unsafe { three() };
    x.unwrap()
}
pub struct Bare;
pub(crate) struct Hidden;
/// Two.
///
/// # Safety
/// Call it on Mondays.
pub unsafe fn two() {}
impl Bare {
    pub fn bare(&self) { panic!("no") }
    fn own(&self) {}
}
impl Clone for Bare {
    fn clone(&self) -> Self { Bare }
}
pub trait Open { fn opened(&self); }
#[cfg(test)]
mod tests {
    #[test]
    fn works() { Some(1).unwrap(); }
    #[test]
    #[ignore]
    fn slow() {}
}
"##;

    #[test]
    fn unsafe_places_and_their_reasons() {
        let facts = facts("src/a.rs", SAMPLE).unwrap();
        let found: Vec<_> =
            facts.unsafe_places.iter().map(|u| (u.line, u.what.as_str(), u.reasoned)).collect();
        assert_eq!(found, [(5, "block", true), (6, "block", false), (15, "fn", true)]);
    }

    #[test]
    fn an_unsafe_block_without_a_comment_is_unreasoned() {
        let facts = facts("src/a.rs", "fn a() {\n    b();\n    unsafe { c() }\n}\n").unwrap();
        assert!(!facts.unsafe_places[0].reasoned);
    }

    #[test]
    fn public_items_and_their_documentation() {
        let facts = facts("src/a.rs", SAMPLE).unwrap();
        let found: Vec<_> = facts.public.iter().map(|p| (p.name.as_str(), p.documented)).collect();
        let expected = [
            ("one", true),
            ("Bare", false),
            ("two", true),
            ("bare", false),
            ("Open", false),
            ("opened", false),
        ];
        assert_eq!(found, expected);
        assert!(facts.file_documented);
    }

    #[test]
    fn panics_count_outside_tests_only() {
        let inside = facts("src/a.rs", SAMPLE).unwrap();
        let found: Vec<_> = inside.panics.iter().map(|p| (p.line, p.what.as_str())).collect();
        assert_eq!(found, [(7, "unwrap"), (17, "panic!")]);
        assert_eq!((inside.tests, inside.ignored), (2, 1));
        assert!(facts("tests/a.rs", SAMPLE).unwrap().panics.is_empty());
    }

    #[test]
    fn functions_span_from_signature_to_brace() {
        let facts = facts("src/a.rs", SAMPLE).unwrap();
        assert_eq!((facts.functions[0].line, facts.functions[0].lines), (3, 6));
    }

    #[test]
    fn what_is_not_rust_is_not_guessed_at() {
        assert!(facts("a.rs", "fn {{name}}() {").is_none());
    }

    #[test]
    fn words_that_only_look_like_items_are_none() {
        let text = "fn a(f: fn(u8), g: unsafe extern \"C\" fn()) -> impl Sized {\n\
            if !(b.unwrap()) { c!(d.unwrap()) }\n\
            std::panic!();\n\
            let p: *const u8 = const { 1 } as _;\n\
            other.expect(\"a\", \"b\");\n\
            }\n\
            extern \"C\" { pub fn theirs(); }\n\
            impl<T: for<'a> F<'a>> S<T> { pub const N: u8 = 1; pub fn own() {} }\n\
            unsafe impl Send for S<u8> { fn hidden() {} }\n\
            macro_rules! m { () => { pub fn made() {} } }\n";
        let facts = facts("src/a.rs", text).unwrap();
        let named: Vec<_> = facts.functions.iter().map(|f| f.name.as_str()).collect();
        assert_eq!(named, ["a", "own", "hidden"]);
        let public: Vec<_> = facts.public.iter().map(|p| p.name.as_str()).collect();
        assert_eq!(public, ["own"]);
        let panics: Vec<_> = facts.panics.iter().map(|p| (p.line, p.what.as_str())).collect();
        assert_eq!(panics, [(2, "unwrap")]);
        let unsafe_places: Vec<_> =
            facts.unsafe_places.iter().map(|u| (u.line, u.what.as_str())).collect();
        assert_eq!(unsafe_places, [(9, "impl")]);
    }
}
