//! Writes a manifest as TOML: for `manifest init`, `manifest learn` and ad-hoc runs.

use crate::kinds::{self, Form};
use crate::rule::{InferScope, Rule, Scope};
use crate::types::{Children, Exec, Manifest, Namespaces};
use crate::units::{print_duration, print_size};
use std::collections::BTreeMap;
use std::fmt::Write;

/// A basic TOML string.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04X}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn list<'a>(words: impl Iterator<Item = &'a str>) -> String {
    format!("[{}]", words.map(quoted).collect::<Vec<_>>().join(", "))
}

impl Manifest {
    /// The manifest as TOML; reading it gives the same manifest but for the places of the lines.
    pub fn to_toml(&self) -> String {
        let mut text = self.print_agent();
        text.push_str("\n[capabilities]\n");
        text.push_str(&self.print_capabilities());
        let _ = write!(text, "\n[lane]\nweight = {}\n", self.weight);
        let tiers = [("hbm", self.memory.hbm), ("ram", self.memory.ram), ("ssd", self.memory.ssd)];
        if tiers.iter().any(|(_, bytes)| bytes.is_some()) {
            text.push_str("\n[memory]\n");
        }
        for (tier, bytes) in tiers {
            if let Some(bytes) = bytes {
                let _ = writeln!(text, "{tier} = \"{}\"", print_size(bytes));
            }
        }
        if let Some(limit) = &self.denials {
            let then = quoted(limit.then.name());
            let _ = write!(text, "\n[denials]\nlimit = {}\nthen = {then}\n", limit.count);
        }
        text
    }

    fn print_agent(&self) -> String {
        let agent = &self.agent;
        let mut text = format!(
            "[agent]\nname    = {}\ntenant  = {}\ncommand = {}\n",
            quoted(&agent.name),
            quoted(&agent.tenant),
            list(agent.command.iter().map(String::as_str))
        );
        if let Some(user) = &agent.user {
            let _ = writeln!(text, "user = {}", quoted(user));
        }
        if let Some(cwd) = &agent.cwd {
            let _ = writeln!(text, "cwd = {}", quoted(cwd.as_str()));
        }
        if !agent.env.is_empty() {
            let variables = agent.env.iter().map(|(k, v)| format!("{k} = {}", quoted(v)));
            let _ = writeln!(text, "env = {{ {} }}", variables.collect::<Vec<_>>().join(", "));
        }
        if agent.children != Children::End {
            let _ = writeln!(text, "children = {}", quoted(agent.children.name()));
        }
        if agent.namespaces != Namespaces::Own {
            let _ = writeln!(text, "namespaces = {}", quoted(agent.namespaces.name()));
        }
        if agent.exec != Exec::Readable {
            let _ = writeln!(text, "exec = {}", quoted(agent.exec.name()));
        }
        if let Some(digest) = &agent.digest {
            let _ = writeln!(text, "digest = \"{digest}\"");
        }
        text
    }

    fn print_capabilities(&self) -> String {
        let mut lists: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        let mut text = String::new();
        for declared in &self.rules {
            let rule = &declared.rule;
            match kinds::of(rule.capability()).form {
                Form::Files | Form::List => {
                    lists.entry(rule.capability().name()).or_default().push(quoted(&rule.value()));
                }
                _ => {
                    let _ = writeln!(text, "{}", rule.manifest_line());
                }
            }
        }
        if !self.profiles.is_empty() {
            let names = self.profiles.iter().map(|p| quoted(&format!("@{}", p.name)));
            lists.entry("fs.read").or_default().extend(names);
        }
        for (capability, entries) in lists {
            let _ = writeln!(text, "\"{capability}\" = [{}]", entries.join(", "));
        }
        text
    }
}

impl Rule {
    /// The rule as a line of `[capabilities]`.
    pub fn manifest_line(&self) -> String {
        let name = self.capability().name();
        let key = if name.contains('.') { format!("\"{name}\"") } else { name.to_owned() };
        let value = match (kinds::of(self.capability()).form, &self.scope) {
            (Form::Flag, _) => "true".to_owned(),
            (Form::Word, _) => quoted(&self.value()),
            (Form::Table, Scope::Infer(infer)) => self.table(&print_infer(infer)),
            (Form::Table, Scope::Spawn { count }) => self.table(&format!("count = {count}")),
            _ => format!("[{}]", quoted(&self.value())),
        };
        format!("{key} = {value}")
    }

    fn table(&self, inside: &str) -> String {
        let expires = self.expires.map(|span| format!(", expires = \"{}\"", print_duration(span)));
        format!("{{ {inside}{} }}", expires.unwrap_or_default())
    }
}

fn print_infer(infer: &InferScope) -> String {
    let mut text = format!("models = {}", list(infer.models.iter().map(String::as_str)));
    let limits = [
        ("tokens_per_minute", infer.tokens_per_minute),
        ("concurrency", infer.concurrency.map(u64::from)),
        ("context", infer.context.map(u64::from)),
    ];
    for (name, limit) in limits {
        if let Some(limit) = limit {
            let _ = write!(text, ", {name} = {limit}");
        }
    }
    text
}
