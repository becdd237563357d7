//! What cargo builds for the image, and what is made with it: the toy model, the signatures of the image's own workloads.

use crate::context::Context;
use crate::key::{Key, Stamp};
use crate::ui::Ui;
use anyhow::{Context as _, Result, ensure};
use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::Command;

/// Manifests that are signed with the image's own key: where they come from, where they are laid for the package.
const SIGNED: [(&str, &str); 1] =
    [("workloads/dream-team/coordinator.toml", "target/signed/dream-team/coordinator.toml")];

/// The name of the key that signs the image's own workloads.
const SIGNER: &str = "image-workloads";

const MODEL: &str = "target/model/coconut-tiny-bigram.gguf";

/// Builds the binaries.
pub fn binaries(cx: &Context, ui: &Ui) -> Result<()> {
    if std::env::var_os("COCONUT_PARTIAL").is_some() {
        return Ok(());
    }
    let step = ui.step("build", "Rust, BPF and llama.cpp");
    // Always the whole workspace, as clippy and the tests do: another selection of crates is another selection of
    // features, and llama.cpp would be compiled again.
    let mut cargo = cargo(cx, &["build", "--release", "--workspace"]);
    step.run(&mut cargo, "")?;
    step.done("");
    Ok(())
}

/// cargo in the checkout; the lock file decides what is used.
pub fn cargo(cx: &Context, args: &[&str]) -> Command {
    let mut cargo = Command::new("cargo");
    cargo.args(args).arg("--locked").current_dir(&cx.root);
    cargo
}

/// Writes the toy model that the image ships.
pub fn model(cx: &Context, ui: &Ui) -> Result<()> {
    let step = ui.step("model", "toy model");
    let out = cx.path(MODEL);
    let mut key = Key::new("model-1");
    key.path(&cx.binary("coconut-model"))?;
    let stamp = Stamp::new(cx, "model", &key);
    if stamp.is_fresh(&[&out]) {
        step.skip();
        return Ok(());
    }
    stamp.clear();
    fs::create_dir_all(out.parent().context("no parent folder")?)?;
    step.run(Command::new(cx.binary("coconut-model")).arg(&out), "")?;
    stamp.set()?;
    step.done("coconut-tiny-bigram");
    Ok(())
}

/// Makes the key pair of this build (once) and signs the shipped manifests with it.
pub fn sign(cx: &Context, ui: &Ui) -> Result<()> {
    let step = ui.step("sign", "signed manifests");
    let (keys, trust) = (cx.path("target/keys"), cx.path("target/trust"));
    let coconut = cx.binary("coconut");
    let secret = keys.join(format!("{SIGNER}.key"));
    if !secret.exists() {
        private_folder(&keys)?;
        let mut new = Command::new(&coconut);
        step.run(new.args(["key", "new", SIGNER, "--dir"]).arg(&keys), "")?;
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o600))?;
    }
    let mut key = Key::new("sign-2");
    // What the key may grant is a decision and stands in the tree; the key itself never does.
    let rights = cx.path(&format!("image/trust/{SIGNER}.toml"));
    key.path(&secret)?.path(&coconut)?.path(&rights)?;
    let signed: Vec<_> = SIGNED.iter().map(|(from, to)| (cx.path(from), cx.path(to))).collect();
    for (manifest, _) in &signed {
        key.path(manifest)?;
    }
    let stamp = Stamp::new(cx, "sign", &key);
    let outputs: Vec<&Path> = signed.iter().map(|(_, to)| to.as_path()).collect();
    if stamp.is_fresh(&outputs) {
        step.skip();
        return Ok(());
    }
    stamp.clear();
    fs::create_dir_all(&trust)?;
    let public = format!("{SIGNER}.pub");
    fs::copy(keys.join(&public), trust.join(&public)).with_context(|| format!("no {public}"))?;
    fs::copy(&rights, trust.join(format!("{SIGNER}.toml")))
        .with_context(|| format!("no {}", rights.display()))?;
    for (manifest, to) in &signed {
        fs::create_dir_all(to.parent().context("no parent folder")?)?;
        fs::copy(manifest, to)?;
        let mut sign = Command::new(&coconut);
        step.run(sign.args(["manifest", "sign"]).arg(to).arg("--key").arg(&secret), "")?;
    }
    stamp.set()?;
    step.done(SIGNER);
    Ok(())
}

/// What the command line prints of itself, under the names that `install` files know.
const MANUAL: [(&str, &[&str]); 4] = [
    ("coconut.1", &["man"]),
    ("bash", &["completions", "bash"]),
    ("zsh", &["completions", "zsh"]),
    ("fish", &["completions", "fish"]),
];

/// Writes the man page and the shells' completions.
pub fn manual(cx: &Context, ui: &Ui) -> Result<()> {
    let step = ui.step("manual", "man page and completions");
    let folder = cx.work.join("manual");
    fs::create_dir_all(&folder)?;
    for (name, words) in MANUAL {
        let mut coconut = Command::new(cx.binary("coconut"));
        let done = coconut.args(words).output().context("cannot start coconut")?;
        let said = String::from_utf8_lossy(&done.stderr);
        ensure!(done.status.success(), "coconut {}: {}", words.join(" "), said.trim());
        fs::write(folder.join(name), done.stdout)?;
    }
    step.done("");
    Ok(())
}

fn private_folder(dir: &Path) -> Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(dir.parent().context("no parent folder")?)?;
    Ok(fs::DirBuilder::new().mode(0o700).create(dir)?)
}

#[cfg(test)]
mod tests {
    use super::MANUAL;

    #[test]
    fn what_the_package_installs_of_the_manual_is_written() {
        let install = include_str!("../../image/packages/coconut/install");
        let words = install.lines().filter(|line| !line.starts_with('#'));
        let mut installed: Vec<&str> = words
            .flat_map(str::split_whitespace)
            .filter_map(|word| word.strip_prefix("manual/"))
            .collect();
        let mut written = MANUAL.map(|(name, _)| name);
        installed.sort_unstable();
        written.sort_unstable();
        assert_eq!(installed, written);
    }
}
