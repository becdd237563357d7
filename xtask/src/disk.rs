//! The disk that boots as a user's machine does: systemd-boot, a signed UKI, an erofs root guarded by dm-verity. From the same root tree.

use crate::context::Context;
use crate::key::{Key, Stamp};
use crate::tools::Tools;
use crate::tree::{Tree, mkosi};
use crate::ui::Ui;
use crate::vm;
use anyhow::Result;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

/// The disk image.
#[derive(Debug, Clone)]
pub struct Disk {
    /// A raw disk with a GPT.
    pub file: PathBuf,
}

impl Disk {
    /// Builds it if the tree changed.
    pub fn prepare(cx: &Context, ui: &Ui, tools: &Tools, tree: &Tree) -> Result<Self> {
        let step = ui.step("disk-uefi", "image: UEFI disk, UKI, verity");
        let disk = Self { file: cx.image().join("coconut.raw") };
        let mut key = Key::new("disk-1");
        key.text(&tree.key).path(&cx.path("image/disk"))?.path(&cx.path("image/initrd"))?;
        key.path(&cx.path("image/cmdline"))?;
        let stamp = Stamp::new(cx, "disk", &key);
        if stamp.is_fresh(&[&disk.file]) {
            step.skip();
            return Ok(disk);
        }
        stamp.clear();
        let hint = "./x clean && ./x image starts from nothing";
        let mut initrd = mkosi(cx, tools, "initrd")?;
        initrd.args(["-f", "build"]);
        step.run(&mut initrd.command(), hint)?;
        boot_key(cx, tools, &step)?;
        let mut mkosi = mkosi(cx, tools, "disk")?;
        let keys = cx.path("target/keys");
        mkosi.read_only(&keys);
        mkosi.arg("--base-tree").arg(&tree.root);
        mkosi.arg("--initrd").arg(cx.image().join("initrd"));
        for (flag, file) in [
            ("--secure-boot-key", "image-boot.key"),
            ("--secure-boot-certificate", "image-boot.crt"),
            ("--verity-key", "image-boot.key"),
            ("--verity-certificate", "image-boot.crt"),
        ] {
            mkosi.arg(flag).arg(keys.join(file));
        }
        let options = format!("{} console=ttyS0 systemd.volatile=state ro", vm::command_line(cx)?);
        mkosi.args(["--kernel-command-line", &options, "-f", "build"]);
        step.run(&mut mkosi.command(), hint)?;
        stamp.set()?;
        step.done(&format!("{} MiB", fs::metadata(&disk.file)?.len() >> 20));
        Ok(disk)
    }
}

/// The key that signs this build's boot files; made once for a checkout.
fn boot_key(cx: &Context, tools: &Tools, step: &crate::ui::Step<'_>) -> Result<()> {
    let keys = cx.path("target/keys");
    let secret = keys.join("image-boot.key");
    if secret.exists() {
        return Ok(());
    }
    fs::create_dir_all(&keys)?;
    fs::set_permissions(&keys, fs::Permissions::from_mode(0o700))?;
    let mut openssl = tools.sandbox(cx, "openssl");
    openssl.writable(&keys).dir(&keys).no_network().args([
        "req",
        "-new",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "3650",
        "-subj",
        "/CN=Coconut OS image build",
        "-keyout",
        "image-boot.key",
        "-out",
        "image-boot.crt",
    ]);
    step.run(&mut openssl.command(), "")?;
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600))?;
    Ok(())
}
