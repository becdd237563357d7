//! A byte-level BPE vocabulary, trained on a text, as GPT-2's tokenizer would apply it.

use std::collections::HashMap;

/// Token texts in GPT-2's byte alphabet, and the merges that make them.
pub struct Bpe {
    /// The first 256 are single bytes.
    pub tokens: Vec<String>,
    /// Pairs `left right`, in the order in which they apply.
    pub merges: Vec<String>,
    ranks: HashMap<(String, String), usize>,
    ids: HashMap<String, u32>,
}

/// GPT-2's printable stand-in for each byte.
fn alphabet() -> Vec<char> {
    let printable = |b: u32| matches!(b, 33..=126 | 161..=172 | 174..=255);
    let mut next = 256;
    (0..256)
        .map(|b| {
            let code = if printable(b) {
                b
            } else {
                next += 1;
                next - 1
            };
            char::from_u32(code).unwrap_or('?')
        })
        .collect()
}

/// GPT-2's split, for plain text: a word with its leading blank, digits, signs, or blanks.
fn words(text: &str) -> Vec<&str> {
    let kind = |c: char| match c {
        c if c.is_alphabetic() => 0,
        c if c.is_numeric() => 1,
        c if c.is_whitespace() => 2,
        _ => 3,
    };
    let mut out = Vec::new();
    let mut start = 0;
    let chars: Vec<(usize, char)> = text.char_indices().collect();
    for (i, (at, c)) in chars.iter().enumerate().skip(1) {
        let (begin, previous) = (chars[i - 1].0, chars[i - 1].1);
        let lone_blank = previous == ' ' && begin == start && kind(*c) != 2;
        if kind(*c) != kind(previous) && !lone_blank {
            // Of several blanks the last belongs to the word that follows.
            if kind(previous) == 2 && previous == ' ' && kind(*c) != 2 && begin > start {
                out.push(&text[start..begin]);
                start = begin;
            } else {
                out.push(&text[start..*at]);
                start = *at;
            }
        }
    }
    if start < text.len() {
        out.push(&text[start..]);
    }
    out
}

impl Bpe {
    /// Merges the most frequent pairs until there are `size` tokens or no pair occurs twice.
    pub fn train(text: &str, size: usize) -> Self {
        let letters = alphabet();
        let spell =
            |w: &str| w.bytes().map(|b| letters[b as usize].to_string()).collect::<Vec<_>>();
        let mut counts: HashMap<&str, usize> = HashMap::new();
        for w in words(text) {
            *counts.entry(w).or_default() += 1;
        }
        let mut spelled: Vec<(Vec<String>, usize)> =
            counts.into_iter().map(|(w, n)| (spell(w), n)).collect();
        let mut bpe = Self {
            tokens: letters.iter().map(char::to_string).collect(),
            merges: Vec::new(),
            ranks: HashMap::new(),
            ids: HashMap::new(),
        };
        while bpe.tokens.len() < size {
            let mut pairs: HashMap<(&str, &str), usize> = HashMap::new();
            for (w, n) in &spelled {
                for p in w.windows(2) {
                    *pairs.entry((&p[0], &p[1])).or_default() += n;
                }
            }
            // Ties by text, so that the same corpus always gives the same file.
            let best = pairs.into_iter().max_by(|a, b| a.1.cmp(&b.1).then(b.0.cmp(&a.0)));
            let Some(((left, right), 2..)) = best else { break };
            let (left, right) = (left.to_owned(), right.to_owned());
            for (w, _) in &mut spelled {
                *w = merge(w, &left, &right);
            }
            bpe.ranks.insert((left.clone(), right.clone()), bpe.merges.len());
            bpe.merges.push(format!("{left} {right}"));
            bpe.tokens.push(left + &right);
        }
        bpe.ids = bpe.tokens.iter().enumerate().map(|(i, t)| (t.clone(), i as u32)).collect();
        bpe
    }

    /// Token ids of a text.
    pub fn encode(&self, text: &str) -> Vec<u32> {
        let letters = alphabet();
        let mut out = Vec::new();
        for word in words(text) {
            let mut parts: Vec<String> =
                word.bytes().map(|b| letters[b as usize].to_string()).collect();
            loop {
                let rank = |p: &[String]| self.ranks.get(&(p[0].clone(), p[1].clone()));
                let Some(first) = parts.windows(2).filter_map(rank).min() else { break };
                let pair = self.merges[*first].split_once(' ').unwrap_or_default();
                parts = merge(&parts, pair.0, pair.1);
            }
            out.extend(parts.iter().filter_map(|p| self.ids.get(p)));
        }
        out
    }
}

fn merge(parts: &[String], left: &str, right: &str) -> Vec<String> {
    let mut out: Vec<String> = Vec::with_capacity(parts.len());
    let mut i = 0;
    while i < parts.len() {
        if i + 1 < parts.len() && parts[i] == left && parts[i + 1] == right {
            out.push(format!("{left}{right}"));
            i += 2;
        } else {
            out.push(parts[i].clone());
            i += 1;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_split_as_gpt2_does() {
        let split = words("It is a  test, 42 of\nit.");
        assert_eq!(split, ["It", " is", " a", " ", " test", ",", " 42", " of", "\n", "it", "."]);
    }

    #[test]
    fn frequent_words_become_one_token() {
        let bpe = Bpe::train(&"the module reads the module ".repeat(9), 400);
        assert_eq!(bpe.encode(" module").len(), 1);
        assert_eq!(bpe.encode("zq").len(), 2);
    }
}
