//! What a Rust file says of itself, from its syntax tree: functions, `unsafe`, public items, panics, tests.

use proc_macro2::Span;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{Attribute, Meta, Visibility};

/// One function with a body.
#[derive(Clone, Debug, PartialEq, Eq)]
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsafe {
    /// Line, from 1.
    pub line: usize,
    /// `block`, `fn`, `impl` or `trait`.
    pub what: &'static str,
    /// A `SAFETY` comment or a `# Safety` section says why it is right.
    pub reasoned: bool,
}

/// A public function, type, trait, constant or method.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Public {
    /// Line, from 1.
    pub line: usize,
    /// Its name.
    pub name: String,
    /// It has a doc comment.
    pub documented: bool,
}

/// A place that ends the program when something is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Panic {
    /// Line, from 1.
    pub line: usize,
    /// `unwrap`, `expect`, `panic!`…
    pub what: String,
}

/// All that is known of one file.
#[derive(Debug, Default)]
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
    let lines: Vec<&str> = text.lines().collect();
    let in_test = name.split('/').any(|part| part == "tests" || part == "benches")
        || name.ends_with("/tests.rs");
    let mut visitor = Visitor {
        facts: Facts::default(),
        lines,
        in_test,
        in_public_trait: false,
        in_trait_impl: false,
    };
    visitor.facts.file_documented = has_doc(&file.attrs);
    visitor.visit_file(&file);
    Some(visitor.facts)
}

struct Visitor<'a> {
    facts: Facts,
    lines: Vec<&'a str>,
    in_test: bool,
    in_public_trait: bool,
    in_trait_impl: bool,
}

/// How far above an `unsafe` its comment may begin.
const SAFETY_REACH: usize = 8;

impl Visitor<'_> {
    fn public(&mut self, visibility: &Visibility, attrs: &[Attribute], name: &str, span: Span) {
        if matches!(visibility, Visibility::Public(_)) {
            self.offer(attrs, name, span);
        }
    }

    fn offer(&mut self, attrs: &[Attribute], name: &str, span: Span) {
        if !self.in_test {
            self.facts.public.push(Public {
                line: span.start().line,
                name: name.to_owned(),
                documented: has_doc(attrs),
            });
        }
    }

    fn function(&mut self, attrs: &[Attribute], sig: &syn::Signature, whole: Span) {
        let test = is_test(attrs);
        if test {
            self.facts.tests += 1;
            self.facts.ignored += usize::from(has_path(attrs, "ignore"));
        }
        let first = sig.span().start().line;
        self.facts.functions.push(Function {
            name: sig.ident.to_string(),
            line: first,
            lines: whole.end().line + 1 - first,
            test: test || self.in_test,
        });
        if let Some(token) = &sig.unsafety {
            self.unsafe_place(token.span(), "fn", attrs);
        }
    }

    fn unsafe_place(&mut self, span: Span, what: &'static str, attrs: &[Attribute]) {
        let line = span.start().line;
        let reasoned = documents_safety(attrs) || self.comment_above(line);
        self.facts.unsafe_places.push(Unsafe { line, what, reasoned });
    }

    /// A `SAFETY` comment counts when no other statement or block lies between it and the `unsafe`.
    fn comment_above(&self, line: usize) -> bool {
        let own = line.min(self.lines.len()).saturating_sub(1);
        if self.lines.get(own).is_some_and(|text| text.contains("SAFETY")) {
            return true;
        }
        let above = self.lines[own.saturating_sub(SAFETY_REACH)..own].iter().rev();
        for text in above.map(|text| text.trim()) {
            if text.contains("SAFETY") {
                return true;
            }
            if !text.starts_with("//") && text.ends_with([';', '}', '{']) {
                return false;
            }
        }
        false
    }

    /// Runs `inside` with the test mark set when `attrs` put the item under `cfg(test)` or make it a test.
    fn scoped(&mut self, attrs: &[Attribute], inside: impl FnOnce(&mut Self)) {
        let before = self.in_test;
        self.in_test |= is_test(attrs) || is_cfg_test(attrs);
        inside(self);
        self.in_test = before;
    }

    fn panic(&mut self, line: usize, what: &str) {
        if !self.in_test {
            self.facts.panics.push(Panic { line, what: what.to_owned() });
        }
    }
}

impl<'ast> Visit<'ast> for Visitor<'_> {
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.public(&item.vis, &item.attrs, &item.sig.ident.to_string(), item.sig.span());
        self.function(&item.attrs, &item.sig, item.span());
        self.scoped(&item.attrs, |v| visit::visit_item_fn(v, item));
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        self.scoped(&item.attrs, |v| visit::visit_item_mod(v, item));
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        if let Some(token) = &item.unsafety {
            self.unsafe_place(token.span(), "impl", &item.attrs);
        }
        let before = std::mem::replace(&mut self.in_trait_impl, item.trait_.is_some());
        self.scoped(&item.attrs, |v| visit::visit_item_impl(v, item));
        self.in_trait_impl = before;
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        if !self.in_trait_impl {
            self.public(&item.vis, &item.attrs, &item.sig.ident.to_string(), item.sig.span());
        }
        self.function(&item.attrs, &item.sig, item.span());
        self.scoped(&item.attrs, |v| visit::visit_impl_item_fn(v, item));
    }

    fn visit_item_trait(&mut self, item: &'ast syn::ItemTrait) {
        self.public(&item.vis, &item.attrs, &item.ident.to_string(), item.ident.span());
        if let Some(token) = &item.unsafety {
            self.unsafe_place(token.span(), "trait", &item.attrs);
        }
        let public = matches!(item.vis, Visibility::Public(_));
        let before = std::mem::replace(&mut self.in_public_trait, public);
        visit::visit_item_trait(self, item);
        self.in_public_trait = before;
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        if self.in_public_trait {
            self.offer(&item.attrs, &item.sig.ident.to_string(), item.sig.span());
        }
        if item.default.is_some() {
            self.function(&item.attrs, &item.sig, item.span());
        }
        visit::visit_trait_item_fn(self, item);
    }

    fn visit_item_struct(&mut self, item: &'ast syn::ItemStruct) {
        self.public(&item.vis, &item.attrs, &item.ident.to_string(), item.ident.span());
    }

    fn visit_item_enum(&mut self, item: &'ast syn::ItemEnum) {
        self.public(&item.vis, &item.attrs, &item.ident.to_string(), item.ident.span());
    }

    fn visit_item_type(&mut self, item: &'ast syn::ItemType) {
        self.public(&item.vis, &item.attrs, &item.ident.to_string(), item.ident.span());
    }

    fn visit_item_const(&mut self, item: &'ast syn::ItemConst) {
        self.public(&item.vis, &item.attrs, &item.ident.to_string(), item.ident.span());
        visit::visit_item_const(self, item);
    }

    fn visit_item_static(&mut self, item: &'ast syn::ItemStatic) {
        self.public(&item.vis, &item.attrs, &item.ident.to_string(), item.ident.span());
        visit::visit_item_static(self, item);
    }

    fn visit_expr_unsafe(&mut self, block: &'ast syn::ExprUnsafe) {
        self.unsafe_place(block.unsafe_token.span(), "block", &block.attrs);
        visit::visit_expr_unsafe(self, block);
    }

    fn visit_expr_method_call(&mut self, call: &'ast syn::ExprMethodCall) {
        let name = call.method.to_string();
        if (name == "unwrap" && call.args.is_empty()) || (name == "expect" && call.args.len() == 1)
        {
            self.panic(call.method.span().start().line, &name);
        }
        visit::visit_expr_method_call(self, call);
    }

    fn visit_macro(&mut self, mac: &'ast syn::Macro) {
        if let Some(name) = mac.path.get_ident().map(ToString::to_string)
            && matches!(name.as_str(), "panic" | "unreachable" | "todo" | "unimplemented")
        {
            self.panic(mac.span().start().line, &format!("{name}!"));
        }
        visit::visit_macro(self, mac);
    }
}

fn has_doc(attrs: &[Attribute]) -> bool {
    attrs.iter().any(|a| a.path().is_ident("doc") && matches!(a.meta, Meta::NameValue(_)))
}

fn has_path(attrs: &[Attribute], name: &str) -> bool {
    attrs.iter().any(|a| a.path().is_ident(name))
}

/// `#[test]`, `#[tokio::test]` and their like.
fn is_test(attrs: &[Attribute]) -> bool {
    attrs.iter().any(|a| a.path().segments.last().is_some_and(|s| s.ident == "test"))
}

fn is_cfg_test(attrs: &[Attribute]) -> bool {
    attrs.iter().any(|a| {
        a.path().is_ident("cfg")
            && matches!(&a.meta, Meta::List(l) if l.tokens.to_string().split(|c: char| !c.is_alphanumeric()).any(|w| w == "test"))
    })
}

fn documents_safety(attrs: &[Attribute]) -> bool {
    attrs.iter().filter(|a| a.path().is_ident("doc")).any(|a| match &a.meta {
        Meta::NameValue(pair) => match &pair.value {
            syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(text), .. }) => {
                text.value().contains("# Safety")
            }
            _ => false,
        },
        _ => false,
    })
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
            facts.unsafe_places.iter().map(|u| (u.line, u.what, u.reasoned)).collect();
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
}
