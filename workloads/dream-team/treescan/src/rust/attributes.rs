//! What stands before an item and is kept until the item comes: its attributes.

use proc_macro2::{Group, TokenTree};

/// What is known of an item's attributes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Attributes {
    /// It has a doc comment.
    pub documented: bool,
    /// A doc comment has a `# Safety` section.
    pub safety: bool,
    /// `#[test]`, `#[tokio::test]` and their like.
    pub test: bool,
    /// `#[cfg(test)]`, alone or with others.
    pub cfg_test: bool,
    /// `#[ignore]`.
    pub ignored: bool,
}

impl Attributes {
    /// Adds one attribute: what stands between its brackets.
    pub fn add(&mut self, brackets: &Group) {
        let tokens: Vec<TokenTree> = brackets.stream().into_iter().collect();
        let length = tokens.iter().take_while(|token| is_of_path(token)).count();
        let (path, rest) = tokens.split_at(length);
        let last = path.iter().rev().find_map(|token| match token {
            TokenTree::Ident(ident) => Some(ident),
            _ => None,
        });
        let Some(last) = last else { return };
        self.test |= last == "test";
        // `doc`, `cfg` and `ignore` have no path in front.
        let [_] = path else { return };
        match rest.first() {
            Some(TokenTree::Punct(sign)) if last == "doc" && sign.as_char() == '=' => {
                self.documented = true;
                self.safety |= rest.iter().any(|token| token.to_string().contains("# Safety"));
            }
            Some(TokenTree::Group(condition)) if last == "cfg" => {
                let condition = condition.stream().to_string();
                let mut words = condition.split(|c: char| !c.is_alphanumeric());
                self.cfg_test |= words.any(|word| word == "test");
            }
            _ => self.ignored |= last == "ignore",
        }
    }
}

fn is_of_path(token: &TokenTree) -> bool {
    match token {
        TokenTree::Ident(_) => true,
        TokenTree::Punct(sign) => sign.as_char() == ':',
        _ => false,
    }
}
