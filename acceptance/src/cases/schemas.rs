//! `--json`: every answer names its schema and fits the documented type.

use super::Case;
use crate::world::{PATIENCE, World};
use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

/// The table.
pub const CASES: &[Case] = &[
    Case {
        name: "json.schemas",
        promise: "every `--json` answer is one document that names its schema",
        run: schemas,
    },
    Case {
        name: "json.errors",
        promise: "an error is a document too, with code and hint",
        run: errors,
    },
];

fn schemas(world: &World) -> Result<String> {
    let agent = world.probe("maya", &[], &["sleep"])?;
    agent.lines.next(PATIENCE)?.with_context(|| agent.complaints())?;
    let who = agent.name.as_str();
    let commands: &[(&str, &[&str])] = &[
        ("coconut.ps/1", &["ps"]),
        ("coconut.ps/1", &["ps", "--all"]),
        ("coconut.show/1", &["show", who]),
        ("coconut.tree/1", &["tree"]),
        ("coconut.cap-ls/1", &["cap", "ls", who]),
        ("coconut.explain/1", &["explain", who]),
        ("coconut.lane-ls/1", &["lane", "ls"]),
        ("coconut.audit-head/1", &["audit", "head"]),
        ("coconut.audit-verify/1", &["audit", "verify"]),
        ("coconut.doctor/1", &["doctor"]),
    ];
    for (schema, args) in commands {
        let all = [&["--json"], *args].concat();
        let ran = world.call(&all)?;
        let value: Value = serde_json::from_str(&ran.stdout).with_context(|| {
            format!("`coconut {}` printed {:?} {}", all.join(" "), ran.stdout, ran.stderr)
        })?;
        ensure!(value["schema"] == *schema, "`{}` says {}", all.join(" "), value["schema"]);
    }
    let records = world.expect(0, &["--json", "audit", "tail", "-n", "3"])?;
    for line in records.stdout.lines() {
        let value: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
        ensure!(value["schema"] == "coconut.record/1", "{line}");
    }
    Ok(format!("{} commands", commands.len() + 1))
}

fn errors(world: &World) -> Result<String> {
    let ran = world.expect(4, &["--json", "show", "no-such-agent"])?;
    let value: Value = serde_json::from_str(&ran.stderr).with_context(|| ran.stderr.clone())?;
    ensure!(value["schema"] == "coconut.error/1", "{value}");
    ensure!(value["code"] == "not-found" && value["error"].is_string(), "{value}");
    Ok(String::new())
}
