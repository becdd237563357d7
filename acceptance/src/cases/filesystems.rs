//! File systems stacked on others: what lies below a granted folder is read through, and no right is
//! bound to a file that does not keep its identity.

use super::Case;
use crate::world::World;
use anyhow::{Context as _, Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The table.
pub const CASES: &[Case] = &[Case {
    name: "isolation.overlay",
    promise: "an overlay is covered by the folder that it lies in, and carries no right itself",
    run,
}];

/// Unmounts again, however the case ends.
struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        // Left behind it would only be in the way of removing the folder.
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

fn run(world: &World) -> Result<String> {
    let base = world.ctx.work.join("overlay");
    let overlay = mount(&base)?;
    let file = overlay.0.join("file").display().to_string();
    ensure!(fs::read_to_string(&file)? == "from below", "the control cannot read {file}");

    let open = format!("open={file}");
    let without = world.attempt(&[], &open)?;
    ensure!(without.errno.as_deref() == Some("EACCES"), "ungranted: {}", without.evidence);
    let granted = format!("fs.read={}", base.display());
    let with = world.attempt(&[&granted], &open)?;
    ensure!(with.ok && with.evidence.contains("from below"), "granted above: {}", with.evidence);

    let cap = format!("fs.read={}", overlay.0.display());
    let ran = world.call(&["run", "--cap", &cap, "--", "/usr/bin/true"])?;
    ensure!(ran.code != 0, "a right was bound to a file of an overlay");
    ensure!(
        ran.stderr.contains("overlayfs") && ran.stderr.contains("hint:"),
        "the refusal does not say why: {}",
        ran.stderr
    );
    Ok(String::new())
}

fn mount(base: &Path) -> Result<Mounted> {
    for part in ["lower", "upper", "work", "merged"] {
        fs::create_dir_all(base.join(part)).with_context(|| base.display().to_string())?;
    }
    fs::write(base.join("lower/file"), "from below")?;
    let path = |part: &str| base.join(part).display().to_string();
    let options =
        format!("lowerdir={},upperdir={},workdir={}", path("lower"), path("upper"), path("work"));
    let status = Command::new("mount")
        .args(["-t", "overlay", "overlay", "-o", &options])
        .arg(base.join("merged"))
        .status()
        .context("mount")?;
    ensure!(status.success(), "an overlay cannot be mounted here: {status}");
    Ok(Mounted(base.join("merged")))
}
