//! From TOML to [`Manifest`]: everything that is wrong is found in one pass.

use crate::problem::{ManifestError, Problems};
use crate::reader::{Item, Span, items};
use crate::types::{
    Agent, Children, Consequence, Declared, DenialLimit, Exec, Manifest, Memory, Namespaces,
    ProfileUse, is_name,
};
use crate::{AbsPath, capabilities, limits, units};
use std::collections::BTreeMap;
use toml::de::DeTable;

const SECTIONS: [&str; 5] = ["agent", "capabilities", "denials", "lane", "memory"];
const AGENT_KEYS: [&str; 10] =
    ["name", "tenant", "command", "user", "cwd", "env", "children", "namespaces", "exec", "digest"];
const NAME: &str =
    "lower-case letters, digits, `-`, `_` and `.`, a letter or digit first, at most 63";

impl Manifest {
    /// Reads and checks a manifest; `name` is what errors call it.
    pub fn parse(name: &str, text: &str) -> Result<Self, ManifestError> {
        let mut problems = Problems::new(text);
        let manifest = parse(text, &mut problems);
        let list = problems.finish();
        match manifest {
            Some(manifest) if list.is_empty() => Ok(manifest),
            _ => Err(ManifestError::new(name, text, list)),
        }
    }
}

/// The table of `text`; syntax errors become problems.
pub(crate) fn parse_table<'t>(text: &'t str, problems: &mut Problems<'_>) -> Option<DeTable<'t>> {
    if text.len() > limits::MANIFEST_BYTES {
        let expected = format!("at most {} bytes", limits::MANIFEST_BYTES);
        problems.add(0..0, format!("the text has {} bytes", text.len()), &expected);
        return None;
    }
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let message = error.message().lines().next().unwrap_or("broken syntax");
        problems.add(error.span().unwrap_or(0..0), message.to_owned(), "TOML 1.0 (toml.io)");
    }
    errors.is_empty().then(|| table.into_inner())
}

fn parse(text: &str, problems: &mut Problems<'_>) -> Option<Manifest> {
    let table = parse_table(text, problems)?;
    let mut agent = None;
    let mut seen_agent = false;
    let mut section_of_agent = 0..0;
    let mut found = capabilities::Found::default();
    let mut weight = 100;
    let (mut memory, mut denials) = (Memory::default(), None);
    for item in items(&table) {
        if !SECTIONS.contains(&item.key.as_str()) {
            problems.unknown_key(&item, "section", &SECTIONS);
            continue;
        }
        let Some(section) = problems.table(&item, "a section in brackets") else { continue };
        match item.key.as_str() {
            "agent" => {
                seen_agent = true;
                section_of_agent = item.key_span.clone();
                agent = parse_agent(section, item.key_span.clone(), problems);
            }
            "capabilities" => found = capabilities::parse(section, problems),
            "lane" => weight = parse_lane(section, problems),
            "denials" => denials = parse_denials(section, item.key_span.clone(), problems),
            _ => memory = parse_memory(section, problems),
        }
    }
    if !seen_agent {
        let expected = "[agent] with name, tenant and command";
        problems.add(0..0, "the manifest does not say who runs what".to_owned(), expected);
    }
    if let Some(agent) = &agent {
        check_limit(agent, &memory, section_of_agent, problems);
    }
    let place = |(rule, span): (_, Span), problems: &Problems<'_>| {
        let (line, column) = problems.position(span.start);
        Declared { rule, line, column }
    };
    let rules = found.rules.into_iter().map(|rule| place(rule, problems)).collect();
    let profiles = found.profiles.into_iter().map(|(name, span)| {
        let (line, column) = problems.position(span.start);
        ProfileUse { name, line, column }
    });
    Some(Manifest { agent: agent?, rules, profiles: profiles.collect(), weight, memory, denials })
}

fn parse_agent(table: &DeTable<'_>, section: Span, problems: &mut Problems<'_>) -> Option<Agent> {
    let (mut name, mut tenant, mut command) = (None, None, None);
    let (mut user, mut cwd, mut digest) = (None, None, None);
    let (mut env, mut children) = (BTreeMap::new(), Children::End);
    let (mut namespaces, mut exec) = (Namespaces::Own, Exec::Readable);
    let list = items(table);
    for item in &list {
        match item.key.as_str() {
            "name" => name = parse_name(item, problems),
            "tenant" => tenant = parse_name(item, problems),
            "command" => command = parse_command(item, problems),
            "user" => user = parse_user(item, problems),
            "cwd" => cwd = parse_cwd(item, problems),
            "env" => env = parse_env(item, problems),
            "children" => children = parse_children(item, problems),
            "namespaces" => namespaces = parse_namespaces(item, problems),
            "exec" => exec = parse_exec(item, problems),
            "digest" => digest = parse_digest(item, problems),
            _ => problems.unknown_key(item, "key in [agent]", &AGENT_KEYS),
        }
    }
    for key in ["name", "tenant", "command"] {
        if !list.iter().any(|item| item.key == key) {
            let example = match key {
                "name" => "name = \"researcher\"",
                "tenant" => "tenant = \"maya\"",
                _ => "command = [\"/usr/bin/python3\", \"/opt/team/researcher.py\"]",
            };
            problems.add(section.clone(), format!("[agent] has no `{key}`"), example);
        }
    }
    let (name, tenant, command) = (name?, tenant?, command?);
    Some(Agent { name, tenant, command, user, cwd, env, children, namespaces, exec, digest })
}

fn parse_name(item: &Item<'_>, problems: &mut Problems<'_>) -> Option<String> {
    let text = problems.string(item, NAME)?;
    if !is_name(text) {
        let message = format!("`{text}` cannot be the {} of an agent", item.key);
        problems.add(item.value.span(), message, NAME);
        return None;
    }
    Some(text.to_owned())
}

fn parse_command(item: &Item<'_>, problems: &mut Problems<'_>) -> Option<Vec<String>> {
    let expected = "a list: an absolute path and arguments, as [\"/usr/bin/python3\", \"-V\"]";
    let words = problems.strings(item, limits::ARGUMENTS, expected);
    let Some((program, span)) = words.first() else {
        if item.value.get_ref().as_array().is_some_and(|list| list.is_empty()) {
            problems.add(item.value.span(), "`command` is empty".to_owned(), expected);
        }
        return None;
    };
    if let Err(error) = AbsPath::parse(program) {
        problems.add(span.clone(), error.to_string(), "the program's absolute path");
        return None;
    }
    for (word, span) in &words {
        if word.len() > limits::ARGUMENT_BYTES || word.contains('\0') {
            let expected = format!("at most {} bytes, no NUL", limits::ARGUMENT_BYTES);
            problems.add(span.clone(), "an argument cannot be passed on".to_owned(), &expected);
        }
    }
    Some(words.into_iter().map(|(word, _)| word.to_owned()).collect())
}

fn parse_user(item: &Item<'_>, problems: &mut Problems<'_>) -> Option<String> {
    let expected = "the name of a system user";
    let text = problems.string(item, expected)?;
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_".contains(&b);
    let first = text.bytes().next().is_some_and(|b| b.is_ascii_lowercase() || b == b'_');
    if !first || text.len() > 32 || !text.bytes().all(plain) {
        problems.add(item.value.span(), format!("`{text}` is no user's name"), expected);
        return None;
    }
    Some(text.to_owned())
}

fn parse_cwd(item: &Item<'_>, problems: &mut Problems<'_>) -> Option<AbsPath> {
    let expected = "an absolute path";
    let text = problems.string(item, expected)?;
    match AbsPath::parse(text) {
        Ok(path) => Some(path),
        Err(error) => {
            problems.add(item.value.span(), error.to_string(), expected);
            None
        }
    }
}

fn parse_env(item: &Item<'_>, problems: &mut Problems<'_>) -> BTreeMap<String, String> {
    let mut env = BTreeMap::new();
    let expected = "a table of variables, as { LANG = \"C.UTF-8\" }";
    let Some(table) = problems.table(item, expected) else { return env };
    for entry in items(table) {
        let Some(value) = problems.string(&entry, "a string") else { continue };
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        let digit = entry.key.bytes().next().is_none_or(|b| b.is_ascii_digit());
        if digit || !entry.key.bytes().all(plain) {
            let message = format!("`{}` is no variable's name", entry.key);
            problems.add(entry.key_span, message, "letters, digits and `_`");
        } else if value.len() > limits::ARGUMENT_BYTES || value.contains('\0') {
            let expected = format!("at most {} bytes, no NUL", limits::ARGUMENT_BYTES);
            problems.add(entry.value.span(), format!("`{}` is too long", entry.key), &expected);
        } else if entry.key.starts_with("LD_") || entry.key == "GCONV_PATH" {
            let message = format!("`{}` would load code behind the manifest's back", entry.key);
            problems.add(entry.key_span, message, "a variable that the loader does not read");
        } else {
            env.insert(entry.key, value.to_owned());
        }
    }
    if env.len() > limits::ARGUMENTS {
        let message = format!("`env` has {} variables", env.len());
        problems.add(item.key_span.clone(), message, &format!("at most {}", limits::ARGUMENTS));
    }
    env
}

/// One of two words; the first where there is none or a wrong one.
fn parse_choice<T: Copy>(
    item: &Item<'_>,
    choices: [(&str, T); 2],
    wrong: &str,
    problems: &mut Problems<'_>,
) -> T {
    let [first, second] = choices;
    let expected = format!("\"{}\" or \"{}\"", first.0, second.0);
    let Some(word) = problems.string(item, &expected) else { return first.1 };
    if let Some((_, value)) = choices.into_iter().find(|(name, _)| *name == word) {
        return value;
    }
    problems.add(item.value.span(), format!("`{word}` is nothing that {wrong}"), &expected);
    first.1
}

fn parse_children(item: &Item<'_>, problems: &mut Problems<'_>) -> Children {
    let choices = [Children::End, Children::Reparent].map(|choice| (choice.name(), choice));
    parse_choice(item, choices, "can happen to children", problems)
}

fn parse_namespaces(item: &Item<'_>, problems: &mut Problems<'_>) -> Namespaces {
    let choices = [Namespaces::Own, Namespaces::Shared].map(|choice| (choice.name(), choice));
    parse_choice(item, choices, "namespaces can be", problems)
}

fn parse_exec(item: &Item<'_>, problems: &mut Problems<'_>) -> Exec {
    let choices = [Exec::Readable, Exec::Strict].map(|choice| (choice.name(), choice));
    parse_choice(item, choices, "code can be held to", problems)
}

/// A folder of a common tmpfs has no size of its own: what lies there counts as the agent's memory.
fn check_limit(agent: &Agent, memory: &Memory, section: Span, problems: &mut Problems<'_>) {
    if agent.namespaces == Namespaces::Shared && memory.ram.is_none() {
        let message = "namespaces = \"shared\" without a limit of memory, which is its /tmp's too";
        problems.add(section, message.to_owned(), "[memory] with ram = \"512MiB\"");
    }
}

fn parse_digest(item: &Item<'_>, problems: &mut Problems<'_>) -> Option<crate::Digest> {
    let expected = "the program's SHA-256: 64 hex digits, as `sha256sum FILE` prints";
    let text = problems.string(item, expected)?;
    let digest = text.parse().ok();
    if digest.is_none() {
        problems.add(item.value.span(), "`digest` is no SHA-256".to_owned(), expected);
    }
    digest
}

fn parse_lane(table: &DeTable<'_>, problems: &mut Problems<'_>) -> u32 {
    let mut weight = None;
    for item in items(table) {
        match item.key.as_str() {
            "weight" => weight = problems.number(&item, 1, u64::from(limits::WEIGHT)),
            _ => problems.unknown_key(&item, "key in [lane]", &["weight"]),
        }
    }
    weight.and_then(|w| u32::try_from(w).ok()).unwrap_or(100)
}

fn parse_denials(
    table: &DeTable<'_>,
    section: Span,
    problems: &mut Problems<'_>,
) -> Option<DenialLimit> {
    let (mut count, mut then) = (None, Consequence::Quarantine);
    let list = items(table);
    for item in &list {
        match item.key.as_str() {
            "limit" => count = problems.number(item, 1, limits::DENIALS),
            "then" => {
                let choices = [Consequence::Quarantine, Consequence::End];
                let choices = choices.map(|choice| (choice.name(), choice));
                then = parse_choice(item, choices, "denials can lead to", problems);
            }
            _ => problems.unknown_key(item, "key in [denials]", &["limit", "then"]),
        }
    }
    if !list.iter().any(|item| item.key == "limit") {
        problems.add(section, "[denials] has no `limit`".to_owned(), "limit = 100");
    }
    Some(DenialLimit { count: count?, then })
}

fn parse_memory(table: &DeTable<'_>, problems: &mut Problems<'_>) -> Memory {
    let mut memory = Memory::default();
    for item in items(table) {
        let tier = match item.key.as_str() {
            "hbm" => &mut memory.hbm,
            "ram" => &mut memory.ram,
            "ssd" => &mut memory.ssd,
            _ => {
                problems.unknown_key(&item, "key in [memory]", &["hbm", "ram", "ssd"]);
                continue;
            }
        };
        let expected = "a size as \"512MiB\" or \"2GiB\"";
        let Some(text) = problems.string(&item, expected) else { continue };
        match units::parse_size(text) {
            Some(bytes) => *tier = Some(bytes),
            None => problems.add(item.value.span(), format!("`{text}` is no size"), expected),
        }
    }
    memory
}

#[cfg(test)]
mod documented {
    use super::*;
    use crate::kinds::KINDS;

    const TEXT: &str = include_str!("../../../docs/manifest.md");

    fn examples() -> Vec<&'static str> {
        TEXT.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect()
    }

    #[test]
    fn every_example_is_a_manifest() {
        assert!(examples().len() >= 4);
        for text in examples() {
            Manifest::parse("docs/manifest.md", text).unwrap_or_else(|error| panic!("{error}"));
        }
    }

    #[test]
    fn every_key_is_explained_and_shown() {
        let kinds = KINDS.map(|kind| kind.capability.name());
        let entries =
            ["expires", "uses", "models", "tokens_per_minute", "concurrency", "context", "count"];
        let rest = ["weight", "hbm", "ram", "ssd", "path", "host", "limit", "then"];
        let keys = AGENT_KEYS.iter().chain(&kinds).chain(&entries).chain(&rest);
        let examples = examples().concat();
        for key in keys {
            assert!(TEXT.contains(&format!("`{key}`")), "`{key}` is not explained");
            let shown = [format!("{key} = "), format!("\"{key}\" = ")];
            assert!(shown.iter().any(|shown| examples.contains(shown)), "`{key}` is in no example");
        }
        for section in SECTIONS {
            assert!(examples.contains(&format!("[{section}]")), "[{section}] is in no example");
        }
    }
}
