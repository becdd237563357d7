//! The `[capabilities]` section: lists of texts or tables, and `@profiles`.

use crate::kinds::{self, Form, KINDS, Kind};
use crate::problem::Problems;
use crate::reader::{Item, Span, dotted, items, type_name};
use crate::rule::{InferScope, Rule, Scope, is_model_name};
use crate::types::is_name;
use crate::{limits, units};
use abi::Capability;
use std::time::Duration;
use toml::de::{DeTable, DeValue};

/// What the section holds, each with its place.
#[derive(Default)]
pub(crate) struct Found {
    pub rules: Vec<(Rule, Span)>,
    pub profiles: Vec<(String, Span)>,
}

/// Reads the section.
pub(crate) fn parse(table: &DeTable<'_>, problems: &mut Problems<'_>) -> Found {
    let mut found = Found::default();
    for item in dotted(table) {
        match kinds::named(&item.key) {
            Some(kind) => parse_one(&item, kind, &mut found, problems),
            None => {
                let keys = KINDS.map(|kind| kind.capability.name());
                problems.unknown_key(&item, "capability", &keys);
            }
        }
    }
    if found.rules.len() > limits::RULES {
        let span = found.rules[limits::RULES].1.clone();
        let message = format!("the manifest has {} rules", found.rules.len());
        problems.add(span, message, &format!("at most {}", limits::RULES));
    }
    found
}

fn parse_one(item: &Item<'_>, kind: &Kind, found: &mut Found, problems: &mut Problems<'_>) {
    let capability = kind.capability;
    match kind.form {
        Form::Table => {
            let rule = match capability {
                Capability::Infer => parse_infer(item, problems),
                _ => parse_spawn(item, problems),
            };
            found.rules.extend(rule.map(|rule| (rule, item.key_span.clone())));
        }
        Form::Flag => match item.value.get_ref() {
            DeValue::Boolean(true) => {
                push(capability, "true", item.key_span.clone(), Bounds::default(), found, problems);
            }
            DeValue::Boolean(false) => {}
            other => {
                let message = format!("`{}` is {}", item.key, type_name(other));
                problems.add(item.value.span(), message, kind.expected);
            }
        },
        Form::Word => {
            if let Some(text) = problems.string(item, kind.expected) {
                push(capability, text, item.value.span(), Bounds::default(), found, problems);
            }
        }
        Form::Files | Form::List => parse_list(item, capability, found, problems),
    }
}

fn expected(capability: Capability) -> &'static str {
    kinds::of(capability).expected
}

fn parse_list(
    item: &Item<'_>,
    capability: Capability,
    found: &mut Found,
    problems: &mut Problems<'_>,
) {
    let Some(list) = item.value.get_ref().as_array() else {
        let message = format!("`{}` is {}", item.key, type_name(item.value.get_ref()));
        problems.add(item.value.span(), message, &format!("a list of {}", expected(capability)));
        return;
    };
    if list.len() > limits::LIST_ENTRIES {
        let message = format!("`{}` has {} entries", item.key, list.len());
        problems.add(item.value.span(), message, &format!("at most {}", limits::LIST_ENTRIES));
        return;
    }
    for entry in list.iter() {
        match entry.get_ref() {
            DeValue::String(text) => {
                push(capability, text, entry.span(), Bounds::default(), found, problems);
            }
            DeValue::Table(table) => {
                if let Some((text, bounds)) = parse_entry(table, entry.span(), capability, problems)
                {
                    push(capability, &text, entry.span(), bounds, found, problems);
                }
            }
            other => {
                let message = format!("an entry of `{}` is {}", item.key, type_name(other));
                problems.add(entry.span(), message, expected(capability));
            }
        }
    }
}

/// What an entry says beside its value.
#[derive(Clone, Copy, Default)]
struct Bounds {
    expires: Option<Duration>,
    uses: Option<u32>,
}

impl Bounds {
    fn any(self) -> bool {
        self.expires.is_some() || self.uses.is_some()
    }
}

/// `{ path = "/srv/input", expires = "10m", uses = 3 }`; the key is `host` for the network.
fn parse_entry(
    table: &DeTable<'_>,
    span: Span,
    capability: Capability,
    problems: &mut Problems<'_>,
) -> Option<(String, Bounds)> {
    let value_key = kinds::of(capability).key;
    let (mut value, mut bounds, mut sound) = (None, Bounds::default(), true);
    for item in items(table) {
        match item.key.as_str() {
            key if key == value_key => {
                value = problems.string(&item, expected(capability)).map(str::to_owned);
                sound &= value.is_some();
            }
            "expires" => {
                bounds.expires = parse_expiry(&item, problems);
                sound &= bounds.expires.is_some();
            }
            "uses" => {
                let uses = problems.number(&item, 1, limits::USES.into());
                bounds.uses = uses.and_then(|uses| u32::try_from(uses).ok());
                sound &= bounds.uses.is_some();
            }
            _ => {
                problems.unknown_key(&item, "key of an entry", &[value_key, "expires", "uses"]);
                sound = false;
            }
        }
    }
    if value.is_none() && sound {
        let message = format!("the entry has no `{value_key}`");
        problems.add(span, message, &format!("{value_key} = {}", expected(capability)));
    }
    value.filter(|_| sound).map(|value| (value, bounds))
}

fn parse_expiry(item: &Item<'_>, problems: &mut Problems<'_>) -> Option<Duration> {
    let wanted = "a duration as \"90s\", \"10m\", \"2h\" or \"7d\", at most ten years";
    let text = problems.string(item, wanted)?;
    let span = units::parse_duration(text);
    if span.is_none() {
        problems.add(item.value.span(), format!("`{text}` is no duration"), wanted);
    }
    span
}

fn push(
    capability: Capability,
    text: &str,
    span: Span,
    bounds: Bounds,
    found: &mut Found,
    problems: &mut Problems<'_>,
) {
    let files = kinds::of(capability).form == Form::Files;
    if let (true, Some(name)) = (files, text.strip_prefix('@')) {
        if !is_name(name) || bounds.any() {
            let message = format!("`{text}` cannot be a profile");
            problems.add(
                span,
                message,
                "a profile's name, as \"@python\", without an expiry and uses",
            );
        } else if !found.profiles.iter().any(|(known, _)| known == name) {
            found.profiles.push((name.to_owned(), span));
        }
        return;
    }
    match Rule::parse_value(capability, text).and_then(|rule| rule.counted(bounds.uses)) {
        Ok(rule) => found.rules.push((rule.clipped(bounds.expires), span)),
        Err(error) => problems.add(span, error.to_string(), expected(capability)),
    }
}

fn parse_spawn(item: &Item<'_>, problems: &mut Problems<'_>) -> Option<Rule> {
    let table = problems.table(item, expected(Capability::AgentSpawn))?;
    let (mut count, mut expires) = (None, None);
    for entry in items(table) {
        match entry.key.as_str() {
            "count" => count = Some(problems.number(&entry, 1, u64::from(limits::CHILDREN))?),
            "expires" => expires = Some(parse_expiry(&entry, problems)?),
            _ => problems.unknown_key(&entry, "key of agent.spawn", &["count", "expires"]),
        }
    }
    let Some(count) = count.and_then(|n| u32::try_from(n).ok()) else {
        problems.add(
            item.value.span(),
            "`agent.spawn` has no `count`".to_owned(),
            "{ count = 30 }",
        );
        return None;
    };
    Some(Rule::new(Scope::Spawn { count }).clipped(expires))
}

fn parse_infer(item: &Item<'_>, problems: &mut Problems<'_>) -> Option<Rule> {
    const KEYS: [&str; 5] = ["models", "tokens_per_minute", "concurrency", "context", "expires"];
    let table = problems.table(item, expected(Capability::Infer))?;
    let mut scope = InferScope::any();
    let (mut expires, mut named) = (None, false);
    let small = |n: u64| u32::try_from(n).ok();
    for entry in items(table) {
        match entry.key.as_str() {
            "models" => {
                named = true;
                scope.models = parse_models(&entry, problems);
            }
            "tokens_per_minute" => {
                scope.tokens_per_minute = Some(problems.number(&entry, 1, 1 << 53)?);
            }
            "concurrency" => {
                scope.concurrency = problems.number(&entry, 1, 1 << 20).and_then(small);
            }
            "context" => scope.context = problems.number(&entry, 1, 1 << 30).and_then(small),
            "expires" => expires = parse_expiry(&entry, problems),
            _ => problems.unknown_key(&entry, "key of infer", &KEYS),
        }
    }
    let empty = scope.models.is_empty();
    if !named {
        let message = "`infer` does not say which models".to_owned();
        problems.add(item.value.span(), message, "models = [\"*\"]");
    }
    let rule = Rule::new(Scope::Infer(scope)).clipped(expires);
    (named && !empty).then_some(rule)
}

fn parse_models(
    item: &Item<'_>,
    problems: &mut Problems<'_>,
) -> std::collections::BTreeSet<String> {
    let wanted = "a list of model names, or [\"*\"] for any";
    let names = problems.strings(item, limits::LIST_ENTRIES, wanted);
    if item.value.get_ref().as_array().is_some_and(|list| list.is_empty()) {
        problems.add(item.value.span(), "`models` is empty".to_owned(), wanted);
    }
    let mut models = std::collections::BTreeSet::new();
    for (name, span) in names {
        if is_model_name(name) {
            models.insert(name.to_owned());
        } else {
            problems.add(span, format!("`{name}` is no model's name"), wanted);
        }
    }
    InferScope::least_names(models)
}
