//! The tools tree: a Debian 13 with mkosi, QEMU, OVMF and the file system makers, so that every host builds with the same tools.

use crate::context::Context;
use crate::host::{self, Mirror};
use crate::key::Key;
use crate::sandbox::{Sandbox, as_root, remove_tree};
use crate::ui::Ui;
use anyhow::{Context as _, Result, bail};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The tree, ready for use.
#[derive(Debug, Clone)]
pub struct Tools {
    /// Where it lies (in the shared cache).
    pub tree: PathBuf,
}

impl Tools {
    /// Makes the tree unless one from the same package list is in the cache.
    pub fn prepare(cx: &Context, ui: &Ui) -> Result<Self> {
        let step = ui.step("tools", "tools tree (Debian 13)");
        may_make_namespaces()?;
        let list = fs::read_to_string(cx.path("image/tools.packages"))?;
        let packages: Vec<&str> =
            list.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#')).collect();
        let mut key = Key::new("tools-1");
        key.text(&packages.join(","));
        let owner = if host::is_root() { "root" } else { "user" };
        let tree = cx.cache.join(format!("tools-{owner}-{}", key.finish()));
        if tree.is_dir() {
            step.skip();
            return Ok(Self { tree });
        }
        // Built beside and renamed: a build that breaks off never looks like a tree.
        let part = cx.cache.join(format!("tools.part-{}", std::process::id()));
        remove_tree(&part)?;
        let built = step.run(&mut mmdebstrap(&packages, &part), HINT);
        if let Err(error) = built {
            remove_tree(&part)?;
            return Err(error);
        }
        fs::rename(&part, &tree).context("cannot put the tools tree in its place")?;
        step.done(&format!("{} packages and what they need", packages.len()));
        Ok(Self { tree })
    }

    /// The Debian mirror that the tree came from and the image is made from.
    pub fn mirror(&self) -> Result<Mirror> {
        match Mirror::find() {
            Some(mirror) => Ok(mirror),
            None => Mirror::of_tree(&self.tree),
        }
    }

    /// The apt sources for the image.
    pub fn sources(&self) -> Result<String> {
        Ok(self.mirror()?.sources(KEYRING))
    }

    /// A program of the tree.
    pub fn sandbox(&self, cx: &Context, program: &str) -> Sandbox {
        Sandbox::new(cx, &self.tree, program)
    }
}

const HINT: &str = "is the Debian mirror reachable? COCONUT_MIRROR=URL names another one";

fn mmdebstrap(packages: &[&str], target: &std::path::Path) -> Command {
    // As root it must not touch this machine's mounts: a mount namespace of its own.
    let mut command = as_root("unshare");
    command.args(["--mount", "--propagation", "private", "--", "mmdebstrap", "--variant=apt"]);
    if !host::is_root() {
        // Already root of a user namespace: no second one.
        command.arg("--mode=root").arg("--skip=check/qemu");
    }
    for option in [
        "Acquire::Languages \"none\"",
        "Acquire::Retries \"5\"",
        "APT::Install-Recommends \"false\"",
    ] {
        command.arg(format!("--aptopt={option}"));
    }
    for path in ["/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*"] {
        command.arg(format!("--dpkgopt=path-exclude={path}"));
    }
    // A mount point for the host's own resolv.conf; programs that are run in the tree find it there.
    command.arg("--customize-hook=rm -f \"$1/etc/resolv.conf\"; : > \"$1/etc/resolv.conf\"");
    command.arg(format!("--include={}", packages.join(","))).arg("trixie").arg(target);
    if let Some(mirror) = Mirror::find() {
        for suite in ["trixie", "trixie-updates"] {
            command.arg(format!("deb [signed-by={KEYRING}] {} {suite} main", mirror.main));
        }
    }
    command
}

/// Says clearly what is missing where an unprivileged user cannot make the namespaces that the tools need.
fn may_make_namespaces() -> Result<()> {
    if host::is_root() {
        return Ok(());
    }
    let output = as_root("true").output().context("cannot start unshare (util-linux)")?;
    if output.status.success() {
        return Ok(());
    }
    bail!(
        "cannot make a user namespace with subordinate ids: {}\n\
         hint: uidmap must be installed and /etc/subuid, /etc/subgid must give you a range \
         (sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 $USER); where the \
         system forbids user namespaces (Ubuntu 24.04: sudo sysctl \
         kernel.apparmor_restrict_unprivileged_userns=0), run: sudo -E env PATH=$PATH ./x …",
        String::from_utf8_lossy(&output.stderr).trim()
    )
}
