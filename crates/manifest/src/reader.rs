//! A typed view of parsed TOML that collects problems instead of stopping at the first.

use crate::problem::Problems;
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Byte range in the text.
pub(crate) type Span = Range<usize>;

/// One key of a table with its value, in the order of the text.
pub(crate) struct Item<'t> {
    pub key: String,
    pub key_span: Span,
    pub value: &'t Spanned<DeValue<'t>>,
}

/// The entries of a table in the order of the text.
pub(crate) fn items<'t>(table: &'t DeTable<'t>) -> Vec<Item<'t>> {
    let mut list: Vec<Item<'t>> = table
        .iter()
        .map(|(key, value)| Item { key: key.get_ref().to_string(), key_span: key.span(), value })
        .collect();
    list.sort_by_key(|item| item.key_span.start);
    list
}

/// Entries of `[capabilities]`: an unquoted `fs.read` is a table `fs` with a key `read`.
pub(crate) fn dotted<'t>(table: &'t DeTable<'t>) -> Vec<Item<'t>> {
    let mut list = Vec::new();
    for item in items(table) {
        match item.value.get_ref() {
            DeValue::Table(inner)
                if ["fs", "net", "ipc", "agent", "audit"].contains(&item.key.as_str()) =>
            {
                list.extend(
                    items(inner)
                        .into_iter()
                        .map(|sub| Item { key: format!("{}.{}", item.key, sub.key), ..sub }),
                );
            }
            _ => list.push(item),
        }
    }
    list.sort_by_key(|item| item.key_span.start);
    list
}

/// What TOML calls the type of a value.
pub(crate) fn type_name(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// The known key that `text` was probably meant to be.
pub(crate) fn nearest<'k>(text: &str, known: &[&'k str]) -> Option<&'k str> {
    let near = known
        .iter()
        .map(|key| (strsim::damerau_levenshtein(&text.to_lowercase(), key), *key))
        .min_by_key(|(distance, _)| *distance)?;
    (near.0 <= 1 + text.len() / 4).then_some(near.1)
}

impl Problems<'_> {
    pub(crate) fn unknown_key(&mut self, item: &Item<'_>, what: &str, known: &[&str]) {
        let hint = nearest(&item.key, known).map(|key| format!("did you mean `{key}`?"));
        let expected = format!("one of {}", known.join(", "));
        let message = format!("unknown {what} `{}`", item.key);
        self.add_with_hint(item.key_span.clone(), message, &expected, hint);
    }

    fn wrong_type(&mut self, item: &Item<'_>, expected: &str) {
        let found = type_name(item.value.get_ref());
        self.add(item.value.span(), format!("`{}` is {found}", item.key), expected);
    }

    pub(crate) fn table<'t>(&mut self, item: &Item<'t>, expected: &str) -> Option<&'t DeTable<'t>> {
        let table = item.value.get_ref().as_table();
        if table.is_none() {
            self.wrong_type(item, expected);
        }
        table
    }

    pub(crate) fn string<'t>(&mut self, item: &Item<'t>, expected: &str) -> Option<&'t str> {
        let text = item.value.get_ref().as_str();
        if text.is_none() {
            self.wrong_type(item, expected);
        }
        text
    }

    /// A whole number from `least` to `most`.
    pub(crate) fn number(&mut self, item: &Item<'_>, least: u64, most: u64) -> Option<u64> {
        let expected = format!("a whole number from {least} to {most}");
        let DeValue::Integer(number) = item.value.get_ref() else {
            self.wrong_type(item, &expected);
            return None;
        };
        let value = u64::from_str_radix(number.as_str(), number.radix()).ok();
        let value = value.filter(|n| (least..=most).contains(n));
        if value.is_none() {
            self.add(item.value.span(), format!("`{}` is {number}", item.key), &expected);
        }
        value
    }

    /// The strings of a list, with their places. Other entries become problems.
    pub(crate) fn strings<'t>(
        &mut self,
        item: &Item<'t>,
        most: usize,
        expected: &str,
    ) -> Vec<(&'t str, Span)> {
        let Some(list) = item.value.get_ref().as_array() else {
            self.wrong_type(item, expected);
            return Vec::new();
        };
        if list.len() > most {
            let message = format!("`{}` has {} entries", item.key, list.len());
            self.add(item.value.span(), message, &format!("at most {most}"));
            return Vec::new();
        }
        let mut texts = Vec::with_capacity(list.len());
        for entry in list.iter() {
            match entry.get_ref().as_str() {
                Some(text) => texts.push((text, entry.span())),
                None => {
                    let found = type_name(entry.get_ref());
                    self.add(
                        entry.span(),
                        format!("an entry of `{}` is {found}", item.key),
                        "a string",
                    );
                }
            }
        }
        texts
    }
}
