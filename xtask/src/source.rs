//! Coconut's own source tree as an input for the Dream Team: the files git knows, and the history's figures.

use crate::context::Context;
use crate::key::{Key, Stamp};
use crate::ui::Ui;
use anyhow::{Context as _, Result, bail};
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where the history's figures lie in the copied tree.
const CHURN: &str = ".coconut/git-log-numstat.txt";

/// Fills `target/source`.
pub fn prepare(cx: &Context, ui: &Ui) -> Result<()> {
    let step = ui.step("source", "own source tree, for the Dream Team");
    let out = cx.path("target/source");
    let files = tracked(cx)?;
    let churn = history(cx);
    let mut key = Key::new("source-1");
    key.text(&churn);
    for file in &files {
        key.text(&file.to_string_lossy()).path(&cx.root.join(file))?;
    }
    let stamp = Stamp::new(cx, "source", &key);
    if stamp.is_fresh(&[&out]) {
        step.skip();
        return Ok(());
    }
    stamp.clear();
    if out.exists() {
        fs::remove_dir_all(&out)?;
    }
    for file in &files {
        copy(&cx.root.join(file), &out.join(file))?;
    }
    let figures = out.join(CHURN);
    fs::create_dir_all(figures.parent().context("no parent folder")?)?;
    fs::write(figures, churn)?;
    stamp.set()?;
    step.done(&format!("{} files", files.len()));
    Ok(())
}

/// The files that git tracks or would track.
fn tracked(cx: &Context) -> Result<Vec<PathBuf>> {
    let mut git = git(cx);
    let output = git.args(["ls-files", "-co", "--exclude-standard", "-z"]).output()?;
    if !output.status.success() {
        bail!("git ls-files: {}", String::from_utf8_lossy(&output.stderr));
    }
    let names = output.stdout.split(|b| *b == 0).filter(|name| !name.is_empty());
    let files = names.map(|name| PathBuf::from(std::ffi::OsStr::from_bytes(name)));
    // A file that was deleted but not yet committed is still listed.
    Ok(files.filter(|f| cx.root.join(f).symlink_metadata().is_ok_and(|m| !m.is_dir())).collect())
}

/// Who changed how much where; empty in a shallow or exported tree.
fn history(cx: &Context) -> String {
    let mut git = git(cx);
    git.args(["log", "--no-merges", "--numstat", "--format=commit %h %as"]);
    let output = git.output().ok().filter(|o| o.status.success());
    output.map_or_else(String::new, |o| String::from_utf8_lossy(&o.stdout).into_owned())
}

/// git as whoever owns the checkout: `sudo ./x` must not trip over its ownership check.
fn git(cx: &Context) -> Command {
    let mut git = Command::new("git");
    git.arg("-c").arg(format!("safe.directory={}", cx.root.display())).arg("-C").arg(&cx.root);
    git
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to.parent().context("no parent folder")?)?;
    if from.symlink_metadata()?.is_symlink() {
        std::os::unix::fs::symlink(fs::read_link(from)?, to)?;
    } else {
        fs::copy(from, to).with_context(|| format!("cannot copy {}", from.display()))?;
    }
    Ok(())
}
