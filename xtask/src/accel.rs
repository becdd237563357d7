//! Whether KVM really runs our kernel here. `/dev/kvm` alone says little: nested or restricted hosts have it and still boot nothing.

use crate::context::Context;
use crate::tools::Tools;
use crate::ui::Ui;
use anyhow::{Result, bail};
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

/// How the VM's processor is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accel {
    /// By the host's processor.
    Kvm,
    /// By emulation, several threads.
    Tcg,
}

/// How long the kernel may be silent under KVM, where it boots in a second.
const PATIENCE: Duration = Duration::from_secs(60);

impl Accel {
    /// Whether time in the VM is not the machine's.
    pub fn is_slow(self) -> bool {
        self == Self::Tcg
    }

    /// QEMU's options.
    pub fn options(self) -> [&'static str; 4] {
        match self {
            Self::Kvm => ["-accel", "kvm", "-cpu", "host"],
            Self::Tcg => ["-accel", "tcg,thread=multi,tb-size=512", "-cpu", "max"],
        }
    }

    /// What `COCONUT_ACCEL` says, else what a trial boot says (remembered until the next boot of this machine).
    pub fn find(cx: &Context, ui: &Ui, tools: &Tools, vmlinuz: &Path) -> Result<Self> {
        match std::env::var("COCONUT_ACCEL").as_deref() {
            Ok("kvm") => return Ok(Self::Kvm),
            Ok("tcg") => return Ok(Self::Tcg),
            Ok("") | Err(_) => {}
            Ok(other) => bail!("COCONUT_ACCEL={other}: neither kvm nor tcg"),
        }
        if File::options().read(true).write(true).open("/dev/kvm").is_err() {
            return Ok(Self::Tcg);
        }
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let memory = cx.work.join("accel");
        match fs::read_to_string(&memory).unwrap_or_default().strip_prefix(boot.trim()) {
            Some(" kvm") => return Ok(Self::Kvm),
            Some(" tcg") => return Ok(Self::Tcg),
            _ => {}
        }
        let step = ui.step("accel", "does KVM run our kernel here?");
        let works = trial(cx, tools, vmlinuz, step.log())?;
        let (accel, word) = if works { (Self::Kvm, "kvm") } else { (Self::Tcg, "tcg") };
        fs::write(memory, format!("{} {word}", boot.trim()))?;
        step.done(if works { "yes" } else { "no: emulating (slower)" });
        Ok(accel)
    }
}

/// Boots the kernel with nothing else; it works if the kernel gets as far as missing its root.
fn trial(cx: &Context, tools: &Tools, vmlinuz: &Path, log: &Path) -> Result<bool> {
    let mut qemu = tools.sandbox(cx, "qemu-system-x86_64");
    qemu.device("/dev/kvm").read_only(vmlinuz).args(Accel::Kvm.options()).args([
        "-nodefaults",
        "-display",
        "none",
        "-no-reboot",
        "-m",
        "256",
        "-serial",
        "stdio",
        "-append",
        "console=ttyS0 panic=-1 root=/dev/none",
        "-kernel",
    ]);
    qemu.arg(vmlinuz);
    let mut child =
        qemu.command().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    let Some(mut output) = child.stdout.take() else { bail!("no output of qemu") };
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = [0_u8; 4096];
        while let Ok(n @ 1..) = output.read(&mut bytes) {
            if sender.send(bytes[..n].to_vec()).is_err() {
                return;
            }
        }
    });
    let (mut text, mut log, mut works) = (Vec::new(), File::create(log)?, false);
    while let Ok(bytes) = receiver.recv_timeout(PATIENCE) {
        log.write_all(&bytes)?;
        text.extend(bytes);
        if String::from_utf8_lossy(&text).contains("Unable to mount root") {
            works = true;
            break;
        }
    }
    // It may have ended by itself.
    let _ = child.kill();
    child.wait()?;
    Ok(works)
}
