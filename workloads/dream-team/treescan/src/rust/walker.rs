//! Goes through a file's tokens once, and into every pair of brackets but a macro's.

use super::attributes::Attributes;
use super::{Facts, Function, Panic, Public, Unsafe};
use proc_macro2::{Delimiter, Group, Ident, Span, TokenStream, TokenTree};

/// How far above an `unsafe` its comment may begin.
const SAFETY_REACH: usize = 8;
/// Macros that end the program.
const PANICS: [&str; 4] = ["panic", "unreachable", "todo", "unimplemented"];
/// Words that may stand before `!` and brackets without being a macro's name.
const NO_MACROS: [&str; 6] = ["if", "while", "match", "return", "in", "break"];

/// What the brackets belong to that the walker is in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Inside {
    /// A file, a module, a function, an expression.
    Code,
    /// An `impl` of a type's own.
    Impl,
    /// An `impl` of a trait: public or not is the trait's affair.
    TraitImpl,
    /// A trait, public or not.
    Trait { public: bool },
}

/// All facts of a file.
pub fn facts(tokens: TokenStream, text: &str, in_test: bool) -> Facts {
    let facts = Facts { file_documented: is_documented(tokens.clone()), ..Facts::default() };
    let mut walker = Walker { facts, lines: text.lines().collect(), in_test };
    walker.walk(tokens, Inside::Code);
    walker.facts
}

/// Whether a file begins with attributes of its own (`//!`, `#![…]`), one of them a doc comment.
fn is_documented(tokens: TokenStream) -> bool {
    let mut tokens = Tokens::of(tokens);
    let mut own = Attributes::default();
    while tokens.is_sign(0, '#') && tokens.is_sign(1, '!') {
        let Some(brackets) = tokens.group(2, Delimiter::Bracket) else { break };
        own.add(brackets);
        tokens.at += 3;
    }
    own.documented
}

struct Walker<'a> {
    facts: Facts,
    lines: Vec<&'a str>,
    in_test: bool,
}

/// What was seen of an item before the word that says what it is.
#[derive(Default)]
struct Before {
    attributes: Attributes,
    public: bool,
    /// The first of `const`, `async`, `unsafe` and `extern`: a signature begins there.
    first: Option<Span>,
    unsafety: Option<Span>,
}

/// Tokens of one pair of brackets.
struct Tokens {
    all: Vec<TokenTree>,
    at: usize,
}

impl Tokens {
    fn of(stream: TokenStream) -> Tokens {
        Tokens { all: stream.into_iter().collect(), at: 0 }
    }

    fn peek(&self, ahead: usize) -> Option<&TokenTree> {
        self.all.get(self.at + ahead)
    }

    fn ident(&self, ahead: usize) -> Option<&Ident> {
        match self.peek(ahead)? {
            TokenTree::Ident(ident) => Some(ident),
            _ => None,
        }
    }

    fn group(&self, ahead: usize, delimiter: Delimiter) -> Option<&Group> {
        match self.peek(ahead)? {
            TokenTree::Group(group) if group.delimiter() == delimiter => Some(group),
            _ => None,
        }
    }

    fn is_sign(&self, ahead: usize, sign: char) -> bool {
        matches!(self.peek(ahead), Some(TokenTree::Punct(punct)) if punct.as_char() == sign)
    }

    /// Goes past the next braces, or the next semicolon if that comes first; the braces.
    fn past_body(&mut self) -> Option<Group> {
        while self.peek(0).is_some() {
            let (body, end) = (self.group(0, Delimiter::Brace).cloned(), self.is_sign(0, ';'));
            self.at += 1;
            if body.is_some() || end {
                return body;
            }
        }
        None
    }
}

impl Walker<'_> {
    fn walk(&mut self, stream: TokenStream, inside: Inside) {
        let mut tokens = Tokens::of(stream);
        let mut before = Before::default();
        while let Some(token) = tokens.peek(0).cloned() {
            match token {
                TokenTree::Ident(word) => self.word(&word, &mut tokens, &mut before, inside),
                TokenTree::Punct(sign) => self.sign(sign.as_char(), &mut tokens, &mut before),
                TokenTree::Group(group) => {
                    tokens.at += 1;
                    before = Before::default();
                    self.walk(group.stream(), Inside::Code);
                }
                TokenTree::Literal(_) => tokens.at += 1,
            }
        }
    }

    fn sign(&mut self, sign: char, tokens: &mut Tokens, before: &mut Before) {
        let inner = usize::from(tokens.is_sign(1, '!'));
        match sign {
            '#' => {
                if let Some(brackets) = tokens.group(1 + inner, Delimiter::Bracket) {
                    // An inner one is of what is around it.
                    if inner == 0 {
                        before.attributes.add(brackets);
                    }
                    tokens.at += 1 + inner;
                }
            }
            '.' => self.method_call(tokens),
            ';' | ',' => *before = Before::default(),
            _ => {}
        }
        tokens.at += 1;
    }

    fn method_call(&mut self, tokens: &Tokens) {
        let (Some(name), Some(arguments)) =
            (tokens.ident(1), tokens.group(2, Delimiter::Parenthesis))
        else {
            return;
        };
        let wanted = if name == "unwrap" {
            0
        } else if name == "expect" {
            1
        } else {
            return;
        };
        if arguments_in(arguments) == wanted {
            self.panic(name.span().start().line, name.to_string());
        }
    }

    fn word(&mut self, word: &Ident, tokens: &mut Tokens, before: &mut Before, inside: Inside) {
        tokens.at += 1;
        let text = word.to_string();
        match text.as_str() {
            "pub" => before.public = !self.skip(tokens, Delimiter::Parenthesis),
            "const" | "async" | "unsafe" | "extern" => {
                self.prefix(&text, word, tokens, before, inside);
            }
            "fn" => self.function(word, tokens, before, inside),
            "impl" | "trait" | "mod" => self.container(&text, tokens, before),
            "struct" | "enum" | "type" | "static" => {
                self.named(tokens, before, inside);
                if text != "static" {
                    tokens.past_body();
                }
            }
            _ if tokens.is_sign(0, '!') && !NO_MACROS.contains(&text.as_str()) => {
                self.macro_call(word, &text, tokens);
            }
            _ => {}
        }
    }

    /// Goes over one pair of brackets, if they come next.
    fn skip(&self, tokens: &mut Tokens, delimiter: Delimiter) -> bool {
        let there = tokens.group(0, delimiter).is_some();
        tokens.at += usize::from(there);
        there
    }

    fn prefix(
        &mut self,
        text: &str,
        word: &Ident,
        tokens: &mut Tokens,
        before: &mut Before,
        inside: Inside,
    ) {
        before.first.get_or_insert(word.span());
        let block = tokens.group(0, Delimiter::Brace).is_some();
        match text {
            "unsafe" if block => self.unsafe_place(word.span(), "block", before.attributes),
            "unsafe" => before.unsafety = Some(word.span()),
            // A constant, not a `const fn` or `const {`.
            "const" if tokens.ident(0).is_some_and(|next| !is_prefix(next)) => {
                self.named(tokens, before, inside);
            }
            "extern" => {
                let named = usize::from(matches!(tokens.peek(0), Some(TokenTree::Literal(_))));
                // Functions of others have no bodies here.
                if tokens.group(named, Delimiter::Brace).is_some() {
                    tokens.at += named + 1;
                    *before = Before::default();
                }
            }
            _ => {}
        }
    }

    /// A type, a constant: what it offers. Within a trait or an implementation it is no item of its own.
    fn named(&mut self, tokens: &Tokens, before: &mut Before, inside: Inside) {
        let mutable = usize::from(tokens.ident(0).is_some_and(|next| next == "mut"));
        if let Some(name) = tokens.ident(mutable)
            && inside == Inside::Code
            && before.public
        {
            self.offer(name, name.span(), before.attributes);
        }
        *before = Before::default();
    }

    fn function(&mut self, word: &Ident, tokens: &mut Tokens, before: &mut Before, inside: Inside) {
        // Without a name it is a type: `fn(u8)`.
        let Some(name) = tokens.ident(0).cloned() else { return };
        let Before { attributes, public, first, unsafety } = std::mem::take(before);
        let first = first.unwrap_or(word.span());
        let body = tokens.past_body();
        let offered = match inside {
            Inside::Trait { public } => public,
            Inside::TraitImpl => false,
            // One without a body is somebody else's.
            Inside::Code | Inside::Impl => public && body.is_some(),
        };
        if offered {
            self.offer(&name, first, attributes);
        }
        let Some(body) = body else { return };
        if attributes.test {
            self.facts.tests += 1;
            self.facts.ignored += usize::from(attributes.ignored);
        }
        let line = first.start().line;
        let lines = body.span_close().end().line + 1 - line;
        let test = attributes.test || self.in_test;
        self.facts.functions.push(Function { name: name.to_string(), line, lines, test });
        if let Some(span) = unsafety {
            self.unsafe_place(span, "fn", attributes);
        }
        self.scoped(attributes, body.stream(), Inside::Code);
    }

    fn container(&mut self, text: &str, tokens: &mut Tokens, before: &mut Before) {
        let Before { attributes, public, unsafety, .. } = std::mem::take(before);
        if let (Some(span), Some(what)) =
            (unsafety, ["impl", "trait"].into_iter().find(|what| *what == text))
        {
            self.unsafe_place(span, what, attributes);
        }
        let begin = tokens.at;
        let body = tokens.past_body();
        let inside = match text {
            "impl" if of_a_trait(&tokens.all[begin..tokens.at]) => Inside::TraitImpl,
            "impl" => Inside::Impl,
            "trait" => Inside::Trait { public },
            _ => Inside::Code,
        };
        if text == "trait"
            && public
            && let Some(TokenTree::Ident(name)) = tokens.all.get(begin)
        {
            self.offer(name, name.span(), attributes);
        }
        let Some(body) = body else { return };
        // A trait's default methods are no tests, whatever is above the trait.
        let scope = if text == "trait" { Attributes::default() } else { attributes };
        self.scoped(scope, body.stream(), inside);
    }

    /// Goes over a macro's brackets; a name behind the `!` is what `macro_rules!` defines.
    fn macro_call(&mut self, word: &Ident, text: &str, tokens: &mut Tokens) {
        let named = usize::from(tokens.ident(1).is_some());
        if !matches!(tokens.peek(1 + named), Some(TokenTree::Group(_))) {
            return;
        }
        // `path::to::panic!` is another macro.
        let path = tokens.at >= 2
            && matches!(&tokens.all[tokens.at - 2], TokenTree::Punct(p) if p.as_char() == ':');
        if PANICS.contains(&text) && !path {
            self.panic(word.span().start().line, format!("{text}!"));
        }
        tokens.at += 2 + named;
    }

    fn offer(&mut self, name: &Ident, span: Span, attributes: Attributes) {
        if !self.in_test {
            self.facts.public.push(Public {
                line: span.start().line,
                name: name.to_string(),
                documented: attributes.documented,
            });
        }
    }

    fn unsafe_place(&mut self, span: Span, what: &'static str, attributes: Attributes) {
        let line = span.start().line;
        let reasoned = attributes.safety || self.comment_above(line);
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

    /// Walks with the test mark set when the attributes put the item under `cfg(test)` or make it a test.
    fn scoped(&mut self, attributes: Attributes, stream: TokenStream, inside: Inside) {
        let before = self.in_test;
        self.in_test |= attributes.test || attributes.cfg_test;
        self.walk(stream, inside);
        self.in_test = before;
    }

    fn panic(&mut self, line: usize, what: String) {
        if !self.in_test {
            self.facts.panics.push(Panic { line, what });
        }
    }
}

fn is_prefix(word: &Ident) -> bool {
    ["fn", "async", "unsafe", "extern", "move"].iter().any(|prefix| word == prefix)
}

/// Whether an `impl` names a trait: it has a `for` that is not the one of `for<'a>`.
fn of_a_trait(head: &[TokenTree]) -> bool {
    let is_sign = |token: Option<&TokenTree>| matches!(token, Some(TokenTree::Punct(p)) if p.as_char() == '<');
    let mut words = head.iter().enumerate();
    words.any(|(at, token)| {
        matches!(token, TokenTree::Ident(word) if word == "for") && !is_sign(head.get(at + 1))
    })
}

/// How many arguments a call has: parts between commas, the last comma closing nothing.
fn arguments_in(brackets: &Group) -> usize {
    let tokens: Vec<TokenTree> = brackets.stream().into_iter().collect();
    let is_comma =
        |token: &&TokenTree| matches!(token, TokenTree::Punct(sign) if sign.as_char() == ',');
    let commas = tokens.iter().filter(is_comma).count();
    let open = tokens.last().is_some_and(|last| !is_comma(&last));
    commas + usize::from(open)
}
