//! Goes through a file's syntax tree and notes what it says.

use super::{Facts, Function, Panic, Public, Unsafe};
use proc_macro2::Span;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{Attribute, Meta, Visibility};

/// All facts of a file.
pub fn facts(file: &syn::File, text: &str, in_test: bool) -> Facts {
    let facts = Facts { file_documented: has_doc(&file.attrs), ..Facts::default() };
    let lines = text.lines().collect();
    let mut visitor =
        Visitor { facts, lines, in_test, in_public_trait: false, in_trait_impl: false };
    visitor.visit_file(file);
    visitor.facts
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

    fn unsafe_place(&mut self, span: Span, what: &str, attrs: &[Attribute]) {
        let line = span.start().line;
        let reasoned = documents_safety(attrs) || self.comment_above(line);
        self.facts.unsafe_places.push(Unsafe { line, what: what.to_owned(), reasoned });
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
