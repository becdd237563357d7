//! The log: sound as it is, found out when it was changed, complete.

use super::Case;
use crate::world::{PATIENCE, World};
use anyhow::{Context as _, Result, ensure};
use demo::isolation::settled;

/// The table.
pub const CASES: &[Case] = &[
    Case {
        name: "audit.verify",
        promise: "the log as it is verifies, without the daemon",
        run: sound,
    },
    Case {
        name: "audit.tampering",
        promise: "edited, deleted, reordered, truncated, rolled back, signed anew: each is found and named",
        run: tampering,
    },
    Case {
        name: "audit.exactly-one",
        promise: "denials counted by the kernel equal denial records in the log",
        run: exactly_one,
    },
    Case {
        name: "audit.lifecycle",
        promise: "spawn, every state, and the end of an agent are on record",
        run: lifecycle,
    },
    Case { name: "audit.grants", promise: "grants and revocations are on record", run: grants },
    Case {
        name: "audit.prompt",
        promise: "a denial comes under a signed checkpoint by itself, without anything else on record",
        run: prompt,
    },
    Case { name: "audit.no-gap", promise: "no event was lost", run: no_gap },
    Case {
        name: "audit.private",
        promise: "an agent without `audit.read` cannot read the log",
        run: private,
    },
];

fn sound(world: &World) -> Result<String> {
    let kept = demo::audit::Kept::take(&world.ctx, "sound")?;
    let ran = demo::audit::verify(&world.ctx, &kept.log, &[("--key", &kept.key)])?;
    ensure!(ran.code == 0, "{}", ran.summary());
    ensure!(!ran.stdout.trim().is_empty(), "it says nothing");
    Ok(String::new())
}

fn tampering(world: &World) -> Result<String> {
    let shown = demo::audit::run(&world.ctx);
    if let Some(error) = shown.error {
        anyhow::bail!(error);
    }
    let failed: Vec<String> = shown
        .checks
        .iter()
        .filter(|c| !c.passed)
        .map(|c| format!("{} [{}] control {:?}", c.name, c.observed, c.control))
        .collect();
    ensure!(failed.is_empty(), "{}", failed.join("; "));
    Ok(format!("({} forgeries)", shown.checks.len() - 1))
}

fn exactly_one(world: &World) -> Result<String> {
    let mut words = vec!["try".to_owned()];
    // Everybody may read it as far as modes go: only the policy stands in the way.
    let file = world.file("two-hundred-times.txt", "no\n")?;
    words.extend((0..200).map(|_| format!("open={file}")));
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let agent = world.probe("mallory", &[], &words)?;
    let name = agent.name.clone();
    agent.end(PATIENCE)?;
    let aid = world.ctx.coconut.show(&name)?.agent.aid.to_string();
    let (detail, records) = settled(&world.ctx, &aid)?;
    let c = &detail.counters;
    ensure!(c.kernel_denials >= 200, "the kernel counted {} of 200", c.kernel_denials);
    ensure!(
        c.kernel_denials == c.log_kernel_denials
            && records as u64 == c.kernel_denials + c.log_daemon_denials,
        "kernel {}, log {}, records {records}",
        c.kernel_denials,
        c.log_kernel_denials
    );
    Ok(format!("({records} = {})", c.kernel_denials))
}

fn lifecycle(world: &World) -> Result<String> {
    let agent = world.probe("maya", &[], &["exit", "0"])?;
    let name = agent.name.clone();
    agent.end(PATIENCE)?;
    let aid = world.ctx.coconut.show(&name)?.agent.aid.to_string();
    world.until("the records", || {
        let kinds: Vec<String> = world
            .ctx
            .coconut
            .records(&["--agent", &aid])?
            .iter()
            .map(|r| r.kind.to_string())
            .collect();
        Ok(["spawn", "state", "exec", "exit"].iter().all(|k| kinds.iter().any(|kind| kind == k)))
    })?;
    let records = world.ctx.coconut.records(&["--agent", &aid, "--kind", "state"])?;
    let states: Vec<&str> = records.iter().map(|r| r.object.as_str()).collect();
    for state in ["attested", "active", "terminated-clean"] {
        ensure!(states.iter().any(|s| s.contains(state)), "no record of {state}: {states:?}");
    }
    Ok(format!("({})", states.join(" → ")))
}

fn grants(world: &World) -> Result<String> {
    let file = world.file("granted.txt", "for a while\n")?;
    let cap = format!("fs.read={file}");
    let agent = world.probe("maya", &[], &["sleep"])?;
    agent.lines.next(PATIENCE)?.with_context(|| agent.complaints())?;
    world.expect(0, &["cap", "grant", &agent.name, &cap])?;
    let held = world.expect(0, &["cap", "ls", &agent.name, "--wide"])?;
    ensure!(held.stdout.contains(&file), "`cap ls` does not show it: {}", held.stdout);
    world.expect(0, &["cap", "revoke", &agent.name, &cap])?;
    let aid = world.ctx.coconut.show(&agent.name)?.agent.aid.to_string();
    for kind in ["grant", "revoke"] {
        world.until(kind, || {
            let records = world.ctx.coconut.records(&["--agent", &aid, "--kind", kind])?;
            Ok(records.iter().any(|r| format!("{} {}", r.object, r.detail).contains(&file)))
        })?;
    }
    Ok(String::new())
}

fn prompt(world: &World) -> Result<String> {
    let object = world.file("prompt.txt", "refused\n")?;
    world.attempt(&[], &format!("open={object}"))?;
    let mut number = 0;
    // What lies in the directory and verifies is under a checkpoint: no daemon is asked.
    world.until("the record", || {
        number += 1;
        let kept = demo::audit::Kept::take(&world.ctx, &format!("prompt-{number}"))?;
        let dir = kept.log.display().to_string();
        let found = world.ctx.coconut.records(&["--dir", &dir, "--object", &object])?;
        std::fs::remove_dir_all(&kept.log)?;
        Ok(!found.is_empty())
    })?;
    Ok(String::new())
}

fn no_gap(world: &World) -> Result<String> {
    let gaps = world.ctx.coconut.records(&["--kind", "gap"])?;
    ensure!(gaps.is_empty(), "{} gaps, the first: {:?}", gaps.len(), gaps[0]);
    // The control: asked the same way, other kinds are found.
    world.attempt(&[], "list=/root")?;
    world.until("a denial on record", || {
        Ok(!world.ctx.coconut.records(&["--kind", "denial"])?.is_empty())
    })?;
    Ok(String::new())
}

fn private(world: &World) -> Result<String> {
    let log = api::audit::LOG_DIRECTORY;
    let seen = world.attempt(&[], &format!("open={log}/checkpoint"))?;
    ensure!(seen.refused(), "it read {}", seen.evidence);
    // The control: root outside reads it.
    std::fs::read(format!("{log}/checkpoint")).context("the control cannot read it")?;
    Ok(seen.short())
}
