//! What is done while nothing can be written down for the next daemon.

use super::Case;
use super::restart::{UNIT, again, books_are_true, count, counter, daemon, follower};
use crate::unit::systemctl;
use crate::world::World;
use anyhow::{Context as _, Result, ensure};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// The table.
pub const CASES: &[Case] = &[Case {
    name: "restart.unwritten",
    promise: "a right that was taken while nothing could be written down for the next daemon does not come back with it",
    run: unwritten,
}];

/// Where the daemon writes down what the next one needs to know.
const REGISTRY: &str = "/run/coconut/registry";

/// There is no room in the registry, for so long. Its file system is as large as what is in it: nobody but the daemon
/// puts anything there.
struct Full;

impl Drop for Full {
    fn drop(&mut self) {
        let _ = registry_of("20%");
    }
}

fn registry_of(size: &str) -> Result<()> {
    let words = ["-o", &format!("remount,size={size}"), REGISTRY];
    ensure!(Command::new("mount").args(words).status()?.success(), "no file system of its own");
    Ok(())
}

fn full_registry(world: &World) -> Result<Full> {
    let stat = rustix::fs::statvfs(REGISTRY)?;
    let full = Full;
    registry_of(&((stat.f_blocks - stat.f_bfree) * stat.f_frsize).to_string())?;
    // What the database's own files have room for is used up; a tenant's weight is of no agent.
    let mut weight = 1;
    world.until("the registry to be full", || {
        weight = weight % 100 + 1;
        world.expect(0, &["lane", "set", "--tenant", "nobody", &weight.to_string()])?;
        Ok(world.status()?.registry_stuck.is_some())
    })?;
    Ok(full)
}

/// From three agents a right is taken: from one with room in the registry, which is the control, and from two without.
fn unwritten(world: &World) -> Result<String> {
    let names = ["written", "unwritten", "unwritten-too"].map(|name| world.ctx.unique(name));
    let files = names.iter().map(|name| counter(world, name)).collect::<Result<Vec<_>>>()?;
    let stood = || files.iter().map(|file| count(file)).collect::<Vec<_>>();
    let taken = |at: usize| -> Result<()> {
        let folder = Path::new(&files[at]).parent().context("a folder")?;
        let right = format!("fs.write={}", folder.display());
        world.expect(0, &["cap", "revoke", &names[at], &right]).map(drop)
    };
    taken(0)?;
    // A daemon's journal is short when it begins: it has no room left of what an earlier one needed.
    again(world)?;
    let full = full_registry(world)?;
    taken(1)?;
    taken(2)?;
    // What had begun to be written is.
    std::thread::sleep(Duration::from_secs(1));
    let before = stood();
    let pid = daemon()?;
    systemctl(&["kill", "--signal=TERM", UNIT])?;
    // It comes although it can write nothing, either.
    follower(world, pid)?;
    ensure!(world.status()?.registry_stuck.is_some(), "there was room");
    for name in &names[1..] {
        let mut reason = None;
        world.until("its end", || {
            reason = world.ctx.coconut.show(name)?.agent.exit.and_then(|exit| exit.reason);
            Ok(reason.is_some())
        })?;
        let reason = reason.unwrap_or_default();
        ensure!(reason.contains("could not be written down"), "it ended otherwise: {reason}");
    }
    let shown = world.ctx.coconut.show(&names[0])?;
    ensure!(shown.agent.exit.is_none(), "the control was ended, too");
    std::thread::sleep(Duration::from_secs(2));
    ensure!(stood() == before, "a right came back");
    drop(full);
    world
        .until("everything to be written down", || Ok(world.status()?.registry_stuck.is_none()))?;
    again(world)?;
    let logged = books_are_true(world, &names[0])?;
    Ok(format!("({logged} refusals)"))
}
