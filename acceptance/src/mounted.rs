//! File systems that a case makes for itself, gone again when it ends.

use anyhow::{Context as _, Result, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A mounted file system.
#[derive(Debug)]
pub struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        // An agent that has just ended may keep it for a moment.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

impl Mounted {
    /// Its root.
    pub fn root(&self) -> &Path {
        &self.0
    }

    /// A file system in memory.
    ///
    /// # Errors
    /// When it cannot be mounted.
    pub fn tmpfs(at: &Path) -> Result<Mounted> {
        Mounted::mount(at, &["-t", "tmpfs", "-o", "mode=755", "tmpfs"])
    }

    /// An overlay of these layers, the topmost first, with an upper one beside `at`.
    ///
    /// # Errors
    /// When it cannot be mounted.
    pub fn overlay(at: &Path, lower: &[&Path]) -> Result<Mounted> {
        let (upper, work) = (at.with_extension("upper"), at.with_extension("work"));
        for folder in [&upper, &work] {
            std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        }
        let lower: Vec<_> = lower.iter().map(|layer| layer.display().to_string()).collect();
        let options = format!(
            "lowerdir={},upperdir={},workdir={},xino=off",
            lower.join(":"),
            upper.display(),
            work.display()
        );
        Mounted::mount(at, &["-t", "overlay", "-o", &options, "overlay"])
    }

    /// A new file system of this kind in a file beside `at`.
    ///
    /// # Errors
    /// When it cannot be made or mounted.
    pub fn made(kind: &str, at: &Path) -> Result<Mounted> {
        let disk = at.with_extension(kind);
        // The smallest that mkfs.xfs makes is 300 MB; nearly all of it stays a hole.
        std::fs::File::create(&disk)?.set_len(320 << 20)?;
        let disk = disk.display().to_string();
        ran(Command::new(format!("mkfs.{kind}")).args(["-q", &disk]))?;
        Mounted::mount(at, &["-t", kind, "-o", "loop", &disk])
    }

    fn mount(at: &Path, arguments: &[&str]) -> Result<Mounted> {
        std::fs::create_dir_all(at).with_context(|| at.display().to_string())?;
        ran(Command::new("mount").args(arguments).arg(at))?;
        Ok(Mounted(at.to_owned()))
    }
}

/// Runs it, with what it said in the error.
pub fn ran(command: &mut Command) -> Result<()> {
    let done = command.output().with_context(|| format!("{command:?}"))?;
    let said = String::from_utf8_lossy(&done.stderr);
    ensure!(done.status.success(), "{command:?}: {}: {}", done.status, said.trim());
    Ok(())
}
