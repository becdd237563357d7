//! Delegation: a child holds no more than its parent, and no longer.

use super::Case;
use crate::world::{PATIENCE, World};
use anyhow::{Context as _, Result, ensure};
use demo::agent::{Agent, Spec};
use probe::{Held, Outcome};

/// The table.
pub const CASES: &[Case] = &[
    Case {
        name: "delegation.within",
        promise: "an agent may start a child with rights that it holds itself",
        run: within,
    },
    Case {
        name: "delegation.beyond",
        promise: "a child can hold only what its parent holds",
        run: beyond,
    },
    Case {
        name: "delegation.not-granted",
        promise: "an agent without `agent.spawn` starts nobody",
        run: not_granted,
    },
    Case {
        name: "delegation.revoke-cascades",
        promise: "what is revoked from a parent is revoked from its descendants",
        run: cascades,
    },
    Case {
        name: "delegation.parent-ends",
        promise: "killing a parent ends its children",
        run: parent_ends,
    },
];

/// A parent whose program is `coconut` itself: it runs a child with `caps` and `words`.
fn family(
    world: &World,
    may_spawn: bool,
    held: &str,
    caps: &[&str],
    words: &[&str],
) -> Result<(Agent, String)> {
    let (parent, child) = (world.ctx.unique("parent"), world.ctx.unique("child"));
    let spawn = if may_spawn { "\"agent.spawn\" = { count = 4 }\n" } else { "" };
    let probe = world.ctx.probe_arg();
    let text = format!(
        "[agent]\nname = \"{parent}\"\ntenant = \"maya\"\ncommand = [\"/usr/bin/coconut\"]\n\n[capabilities]\n\
         \"fs.read\" = [\"{held}\"]\n\"fs.exec\" = [\"{probe}\"]\n\"ipc.unix\" = [\"/run/coconut/api.sock\", \"/run/coconut/stdio.sock\"]\n{spawn}"
    );
    let manifest = world.file(&format!("{parent}.toml"), &text)?;
    let mut command: Vec<String> =
        ["run", "--name", &child, "--tenant", "maya"].map(str::to_owned).into();
    for cap in caps {
        command.extend(["--cap".to_owned(), (*cap).to_owned()]);
    }
    command.extend(["--".to_owned(), probe]);
    command.extend(words.iter().map(|w| (*w).to_owned()));
    let spec = Spec { name: parent, manifest: Some(manifest.into()), command, ..Spec::default() };
    Ok((Agent::start(&world.ctx.coconut, spec)?, child))
}

fn within(world: &World) -> Result<String> {
    let file = world.file("delegated.txt", "handed on\n")?;
    let (parent, child) = family(
        world,
        true,
        &file,
        &[&format!("fs.read={file}")],
        &["try", &format!("open={file}")],
    )?;
    let seen: Outcome = parent.json(PATIENCE).with_context(|| parent.complaints())?;
    ensure!(seen.ok, "the child cannot read what it was given: {}", seen.evidence);
    let detail = world.ctx.coconut.show(&child)?;
    let parent = world.ctx.coconut.show(&parent.name)?;
    ensure!(
        detail.agent.parent == Some(parent.agent.aid),
        "its parent is {:?}",
        detail.agent.parent
    );
    Ok(String::new())
}

fn beyond(world: &World) -> Result<String> {
    let (held, other) =
        (world.file("held.txt", "mine\n")?, world.file("not-held.txt", "theirs\n")?);
    let cap = format!("fs.read={other}");
    let attempt = format!("open={other}");
    let (parent, _) = family(world, true, &held, &[&cap], &["try", &attempt])?;
    let ran = parent.end(PATIENCE)?;
    ensure!(ran.code == 3, "wanted exit 3, got {} {}", ran.summary(), ran.stdout);
    // The control: for whoever holds it, the same is fine.
    let seen = world.attempt(&[&cap], &attempt)?;
    ensure!(seen.ok, "the control was refused: {}", seen.evidence);
    Ok(ran.summary())
}

fn not_granted(world: &World) -> Result<String> {
    let file = world.file("delegated.txt", "handed on\n")?;
    let (parent, _) = family(world, false, &file, &[], &["exit", "0"])?;
    let ran = parent.end(PATIENCE)?;
    ensure!(ran.code == 3, "wanted exit 3, got {}", ran.summary());
    Ok(ran.summary())
}

fn cascades(world: &World) -> Result<String> {
    let file = world.file("cascade.txt", "while it lasts\n")?;
    let cap = format!("fs.read={file}");
    let (parent, child) = family(world, true, &file, &[&cap], &["hold", "--file", &file])?;
    let _: Held = parent.json(PATIENCE).with_context(|| parent.complaints())?;
    let report = world.ctx.coconut.revoke(&parent.name, &cap)?;
    let held: Held = parent.json(PATIENCE).context("the child was not refused")?;
    ensure!(held.event == "refused", "the child {}", held.event);
    let child = world.ctx.coconut.show(&child)?;
    ensure!(report.changed.contains(&child.agent.aid), "the report does not name the child");
    ensure!(!child.capabilities.iter().any(|c| c.capability == cap), "the child still holds it");
    Ok(held.errno.unwrap_or_default())
}

fn parent_ends(world: &World) -> Result<String> {
    let file = world.file("delegated.txt", "handed on\n")?;
    let (parent, child) = family(world, true, &file, &[], &["sleep"])?;
    parent.lines.next(PATIENCE)?.with_context(|| parent.complaints())?;
    world.expect(0, &["kill", &parent.name])?;
    world.until("the child's end", || {
        Ok(world.ctx.coconut.show(&child)?.agent.state.is_terminal())
    })?;
    Ok(String::new())
}
