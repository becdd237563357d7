//! Manifests: a wrong one is explained, an unsigned or changed one is refused.

use super::Case;
use crate::world::World;
use anyhow::{Context as _, Result, ensure};
use std::path::Path;

/// The table.
pub const CASES: &[Case] = &[
    Case {
        name: "manifest.wrong",
        promise: "a wrong manifest is refused with line, column and what was expected",
        run: wrong,
    },
    Case {
        name: "manifest.unsigned",
        promise: "an unsigned manifest is refused; `--allow-unsigned` is on record as `degraded`",
        run: unsigned,
    },
    Case {
        name: "manifest.shipped",
        promise: "the image's own manifests are signed by a trusted key",
        run: shipped,
    },
    Case {
        name: "manifest.tampered",
        promise: "a signed manifest that was changed is refused",
        run: tampered,
    },
    Case {
        name: "manifest.foreign-key",
        promise: "a signature of a key that nobody trusts is refused",
        run: foreign,
    },
    Case {
        name: "manifest.exact",
        promise: "an agent starts with what its manifest says and nothing else",
        run: exact,
    },
];

const SHIPPED: &str = "/usr/share/coconut/workloads/dream-team/coordinator.toml";

fn wrong(world: &World) -> Result<String> {
    let text = "[agent]\nname = \"wrong\"\ntenant = \"maya\"\ncommand = [\"/usr/bin/true\"]\n\n[capabilities]\n\"fs.raed\" = [\"/srv\"]\n";
    let manifest = world.file("wrong.toml", text)?;
    let check = world.expect(1, &["manifest", "check", &manifest])?;
    ensure!(check.stdout.contains("wrong.toml:7:1"), "no line 7, column 1: {}", check.stdout);
    ensure!(
        check.stdout.contains("fs.read"),
        "it does not say what was expected: {}",
        check.stdout
    );
    let spawn = world.expect(2, &["spawn", "--allow-unsigned", &manifest])?;
    ensure!(spawn.stderr.contains("wrong.toml:7:1"), "spawn does not say where: {}", spawn.stderr);
    let right = world.file("right.toml", &text.replace("raed", "read"))?;
    world.expect(0, &["manifest", "check", &right])?;
    Ok("line 7, column 1".to_owned())
}

fn unsigned(world: &World) -> Result<String> {
    let name = world.ctx.unique("unsigned");
    let manifest = world.manifest(&name, &["exit", "0"], "")?;
    let refused = world.expect(3, &["spawn", &manifest])?;
    ensure!(refused.stderr.contains("not signed"), "{}", refused.stderr);
    world.expect(0, &["spawn", "--allow-unsigned", &manifest])?;
    let detail = world.ctx.coconut.show(&name)?;
    ensure!(!detail.origin.signed, "`show` says that it was signed");
    let aid = detail.agent.aid.to_string();
    world.until("the record", || {
        Ok(!world.ctx.coconut.records(&["--agent", &aid, "--kind", "degraded"])?.is_empty())
    })?;
    Ok(String::new())
}

fn shipped(world: &World) -> Result<String> {
    let ran = world.expect(0, &["manifest", "verify", SHIPPED])?;
    Ok(ran.stdout.lines().next().unwrap_or_default().to_owned())
}

/// A copy of a shipped manifest and its signature, below the work directory.
fn copied(world: &World, name: &str) -> Result<String> {
    let copy = world.ctx.work.join(name);
    for (from, to) in [
        (SHIPPED.to_owned(), copy.clone()),
        (format!("{SHIPPED}.sig"), Path::new(&format!("{}.sig", copy.display())).to_owned()),
    ] {
        std::fs::copy(&from, to).with_context(|| from)?;
    }
    Ok(copy.display().to_string())
}

fn tampered(world: &World) -> Result<String> {
    let manifest = copied(world, "tampered.toml")?;
    // The control: the copy as it is, is good.
    world.expect(0, &["manifest", "verify", &manifest])?;
    let text = std::fs::read_to_string(&manifest)?;
    let changed = text.replacen("[capabilities]\n", "[capabilities]\n\"net.raw\" = true\n", 1);
    ensure!(text != changed, "{SHIPPED} has no [capabilities] section");
    std::fs::write(&manifest, changed)?;
    let ran = world.call(&["spawn", &manifest])?;
    ensure!([3, 6].contains(&ran.code), "spawn of a changed manifest: {}", ran.summary());
    let ran = world.call(&["spawn", "--allow-unsigned", &manifest])?;
    ensure!(
        [3, 6].contains(&ran.code),
        "--allow-unsigned lets a broken signature pass: {}",
        ran.summary()
    );
    Ok(ran.summary())
}

fn foreign(world: &World) -> Result<String> {
    let dir = world.ctx.work.display().to_string();
    world.expect(0, &["key", "new", "stranger", "--dir", &dir])?;
    let manifest = world.manifest(&world.ctx.unique("foreign"), &["exit", "0"], "")?;
    world.expect(0, &["manifest", "sign", &manifest, "--key", &format!("{dir}/stranger.key")])?;
    let ran = world.expect(3, &["spawn", &manifest])?;
    // The control: where the key is trusted and may grant it, the same signature is good.
    std::fs::write(format!("{dir}/stranger.toml"), "grants = [\"*\"]\ntenants = [\"*\"]\n")?;
    world.expect(0, &["manifest", "verify", &manifest, "--trust", &dir])?;
    Ok(ran.summary())
}

fn exact(world: &World) -> Result<String> {
    let name = world.ctx.unique("exact");
    let file = world.file("exact.txt", "text\n")?;
    let manifest = world.manifest(&name, &["sleep"], &format!("\"fs.read\" = [\"{file}\"]"))?;
    world.expect(0, &["spawn", "--allow-unsigned", &manifest])?;
    let detail = world.ctx.coconut.show(&name)?;
    world.expect(0, &["kill", &name])?;
    let odd: Vec<String> = detail
        .capabilities
        .iter()
        .filter(|c| !["@base", "command", "launch"].contains(&c.source.as_str()))
        .filter(|c| c.capability != format!("fs.read={file}"))
        .map(|c| format!("{} ({})", c.capability, c.source))
        .collect();
    ensure!(odd.is_empty(), "it also holds {}", odd.join(", "));
    let from = detail.capabilities.iter().find(|c| c.capability == format!("fs.read={file}"));
    let from = from.map(|c| c.source.as_str());
    ensure!(from == Some("line 7"), "the manifest's own right is from {from:?}");
    Ok(format!("{} rights", detail.capabilities.len()))
}
