//! The exit codes that scripts rely on, each produced for real.

use super::Case;
use crate::world::World;
use anyhow::{Result, ensure};
use demo::audit::{Kept, verify};
use demo::tamper;

/// The table.
pub const CASES: &[Case] = &[
    Case {
        name: "exit.0-done",
        promise: "0: done",
        run: |w| w.expect(0, &["ps"]).map(|_| String::new()),
    },
    Case { name: "exit.1-failed", promise: "1: the check or program failed", run: failed },
    Case { name: "exit.2-usage", promise: "2: usage", run: usage },
    Case { name: "exit.3-denied", promise: "3: denied", run: denied },
    Case { name: "exit.4-not-found", promise: "4: not found", run: not_found },
    Case { name: "exit.5-unavailable", promise: "5: the daemon is not there", run: unavailable },
    Case { name: "exit.6-integrity", promise: "6: integrity violated", run: integrity },
];

fn failed(world: &World) -> Result<String> {
    let name = world.ctx.unique("failing");
    let manifest = world.manifest(&name, &["exit", "9"], "")?;
    world.expect(0, &["spawn", "--allow-unsigned", &manifest])?;
    world.expect(1, &["wait", &name])?;
    Ok(String::new())
}

fn usage(world: &World) -> Result<String> {
    world.expect(2, &["frobnicate"])?;
    world.expect(2, &["lane", "set", "nobody", "0"])?;
    let ran = world.expect(2, &["run", "--cap", "fs.fly=/", "--", "/usr/bin/true"])?;
    ensure!(ran.stderr.contains("hint:"), "no hint: {}", ran.stderr);
    Ok(String::new())
}

fn denied(world: &World) -> Result<String> {
    let manifest = world.manifest(&world.ctx.unique("unsigned"), &["exit", "0"], "")?;
    let ran = world.expect(3, &["spawn", &manifest])?;
    ensure!(ran.stderr.contains("hint:"), "no hint: {}", ran.stderr);
    Ok(String::new())
}

fn not_found(world: &World) -> Result<String> {
    for command in ["show", "logs", "wait", "explain"] {
        world.expect(4, &[command, "no-such-agent"])?;
    }
    Ok(String::new())
}

fn unavailable(world: &World) -> Result<String> {
    let ran = world.expect(5, &["--socket", "/run/no-such.sock", "ps"])?;
    ensure!(ran.stderr.contains("hint:"), "no hint: {}", ran.stderr);
    Ok(String::new())
}

fn integrity(world: &World) -> Result<String> {
    let kept = Kept::take(&world.ctx, "exit-six")?;
    tamper::truncate(&kept.log)?;
    let ran = verify(&world.ctx, &kept.log, &[])?;
    ensure!(ran.code == 6, "{}", ran.summary());
    Ok(String::new())
}
