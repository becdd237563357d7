//! One VM run: put QEMU's command together, boot, stream the command's output, pass its status on, never hang.

use crate::accel::Accel;
use crate::channels::{Channels, Outcome, Watch};
use crate::context::Context;
use crate::life::{Life, Patience};
use crate::sandbox::Sandbox;
use crate::tools::Tools;
use anyhow::{Context as _, Result, bail};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

/// What to boot.
#[derive(Debug, Clone)]
pub enum Boot {
    /// Straight from the kernel, ext4 root on emulated NVMe: seconds.
    Direct { vmlinuz: PathBuf, disk: PathBuf },
    /// As a user's machine does: OVMF, systemd-boot, UKI, verity root.
    Uefi { disk: PathBuf },
}

/// Every boot is of the same fresh disk: nothing was updated that caches and users would have to be made anew for, and
/// there are no snapshots that a check of ext4 could have left.
const NOTHING_NEW: [&str; 2] =
    ["systemd.condition_needs_update=no", "systemd.mask=e2scrub_reap.service"];

/// A VM to run.
#[derive(Debug, Clone)]
pub struct Vm {
    pub boot: Boot,
    pub accel: Accel,
    pub cpus: u32,
    pub memory_mib: u32,
    /// Read-only at `/mnt/share`.
    pub share: Option<PathBuf>,
    /// Writable at `/mnt/out`.
    pub out: Option<PathBuf>,
    /// More of the kernel's command line (direct boot only).
    pub append: String,
    /// More QEMU options.
    pub qemu: Vec<String>,
    /// When it is given up.
    pub patience: Patience,
}

impl Vm {
    /// Runs a command as root in the VM. Its output goes to `watch`, its status comes back.
    pub fn run(
        &self,
        cx: &Context,
        tools: &Tools,
        command: &[String],
        watch: Watch,
    ) -> Result<i32> {
        let run = RunDir::new()?;
        let channels = Channels::listen(&run.0)?;
        let helpers = self.start_virtiofsd(cx, tools, &run.0)?;
        let console = cx.work.join("logs/console.log");
        let mut qemu = self.qemu(cx, tools, &run.0)?;
        for name in ["stdout", "stderr", "status"] {
            qemu.args([
                "-chardev".to_owned(),
                format!("socket,id={name},path=/run/vm/{name}.sock"),
            ]);
            qemu.args([
                "-device".to_owned(),
                format!("virtserialport,chardev={name},name=coconut.{name}"),
            ]);
        }
        fs::write(run.0.join("command"), nul_separated(command))?;
        qemu.args(["-fw_cfg", "name=opt/io.systemd.credentials/coconut.run,file=/run/vm/command"]);
        qemu.args(["-serial", "file:/run/vm/console.log"]);
        File::create(&console)?;
        qemu.writable_at(&console, "/run/vm/console.log");
        let errors = File::create(cx.work.join("logs/qemu.log"))?;
        let child = qemu
            .command()
            .stdin(Stdio::null())
            .stdout(errors.try_clone()?)
            .stderr(errors)
            .spawn()
            .context("cannot start qemu")?;
        let mut guard = Running { qemu: child, helpers };
        let life = Life::new(guard.qemu.id(), &console, self.patience);
        let outcome = channels.watch(&mut guard.qemu, watch, life)?;
        drop(guard);
        match outcome {
            Outcome::Exit(status) => Ok(status),
            Outcome::Failed(why) => bail!(explain(cx, &why, &console)),
        }
    }

    /// A root console on this terminal, until the VM is switched off.
    pub fn console(&self, cx: &Context, tools: &Tools) -> Result<i32> {
        let run = RunDir::new()?;
        let helpers = self.start_virtiofsd(cx, tools, &run.0)?;
        let mut qemu = self.qemu(cx, tools, &run.0)?;
        let log = cx.work.join("logs/console.log");
        File::create(&log)?;
        qemu.writable_at(&log, "/run/vm/console.log").args(["-serial", "file:/run/vm/console.log"]);
        qemu.args([
            "-chardev",
            "stdio,id=terminal,signal=off",
            "-device",
            "virtconsole,chardev=terminal",
        ]);
        for (name, value) in [("agetty.autologin", "root"), ("login.noauth", "yes")] {
            qemu.args([
                "-smbios".to_owned(),
                format!("type=11,value=io.systemd.credential:{name}={value}"),
            ]);
        }
        let child = qemu.command().spawn().context("cannot start qemu")?;
        let mut guard = Running { qemu: child, helpers };
        let status = guard.qemu.wait()?;
        Ok(status.code().unwrap_or(1))
    }

    /// The machine itself, without its ports.
    fn qemu(&self, cx: &Context, tools: &Tools, run: &Path) -> Result<Sandbox> {
        let mut qemu = tools.sandbox(cx, "qemu-system-x86_64");
        qemu.no_network().writable_at(run, "/run/vm");
        if self.accel == Accel::Kvm {
            qemu.device("/dev/kvm");
        }
        let size = format!("{}M", self.memory_mib);
        qemu.args([
            "-nodefaults",
            "-display",
            "none",
            "-no-reboot",
            "-machine",
            "q35,sata=off,memory-backend=ram",
        ]);
        qemu.args(self.accel.options());
        qemu.args(["-smp".to_owned(), self.cpus.to_string(), "-m".to_owned(), size.clone()]);
        // Shared memory is what lets virtiofsd see the guest's.
        qemu.args([
            "-object".to_owned(),
            format!("memory-backend-memfd,id=ram,size={size},share=on"),
        ]);
        qemu.args(["-device", "virtio-serial-pci", "-device", "virtio-rng-pci"]);
        match &self.boot {
            Boot::Direct { vmlinuz, disk } => self.direct(cx, &mut qemu, vmlinuz, disk)?,
            Boot::Uefi { disk } => uefi(tools, &mut qemu, disk, run)?,
        }
        for name in self.shares().map(|(name, _)| name) {
            qemu.args([
                "-chardev".to_owned(),
                format!("socket,id=fs-{name},path=/run/vm/fs-{name}.sock"),
            ]);
            qemu.args([
                "-device".to_owned(),
                format!("vhost-user-fs-pci,chardev=fs-{name},tag={name}"),
            ]);
            qemu.args([
                "-smbios".to_owned(),
                format!("type=11,value=io.systemd.credential:coconut.mount-{name}=1"),
            ]);
        }
        qemu.args(&self.qemu);
        Ok(qemu)
    }

    fn direct(&self, cx: &Context, qemu: &mut Sandbox, vmlinuz: &Path, disk: &Path) -> Result<()> {
        qemu.read_only(vmlinuz).read_only(disk);
        let options = format!(
            "{} root=/dev/nvme0n1 rootfstype=ext4 rw rootwait console=ttyS0 systemd.mask=serial-getty@ttyS0.service {} {}",
            command_line(cx)?,
            NOTHING_NEW.join(" "),
            self.append
        );
        qemu.arg("-kernel").arg(vmlinuz).args(["-append", options.trim()]);
        // Written blocks go to a scratch file that is gone with the VM: every boot starts from the same disk.
        let drive =
            format!("file={},format=raw,if=none,id=root,snapshot=on,cache=unsafe", disk.display());
        qemu.args(["-drive", &drive, "-device", "nvme,drive=root,serial=coconut"]);
        Ok(())
    }

    fn shares(&self) -> impl Iterator<Item = (&'static str, &PathBuf)> {
        let pairs = [("share", self.share.as_ref()), ("out", self.out.as_ref())];
        pairs.into_iter().filter_map(|(name, dir)| dir.map(|dir| (name, dir)))
    }

    fn start_virtiofsd(&self, cx: &Context, tools: &Tools, run: &Path) -> Result<Vec<Child>> {
        let mut children = Vec::new();
        for (name, dir) in self.shares() {
            let dir = dir.canonicalize().with_context(|| format!("no folder {}", dir.display()))?;
            let mut daemon = tools.sandbox(cx, "/usr/libexec/virtiofsd");
            daemon.no_network().writable_at(run, "/run/vm");
            // Read-only is kept by the mount, not by the guest's good will.
            let writable = name == "out";
            if writable {
                daemon.writable_at(&dir, "/run/dir")
            } else {
                daemon.read_only_at(&dir, "/run/dir")
            };
            daemon.args([
                "--shared-dir",
                "/run/dir",
                "--sandbox",
                "none",
                "--inode-file-handles=never",
                "--cache=auto",
                "--log-level=error",
            ]);
            daemon.args(["--socket-path".to_owned(), format!("/run/vm/fs-{name}.sock")]);
            let log = File::create(cx.work.join(format!("logs/virtiofsd-{name}.log")))?;
            let mut command = daemon.command();
            command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
            let mut child = command.spawn().context("cannot start virtiofsd")?;
            wait_for(&run.join(format!("fs-{name}.sock")), &mut child)?;
            children.push(child);
        }
        Ok(children)
    }
}

/// The kernel's command line from `image/cmdline`, on one line.
pub fn command_line(cx: &Context) -> Result<String> {
    let text = fs::read_to_string(cx.path("image/cmdline"))?;
    let options = text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#'));
    Ok(options.collect::<Vec<_>>().join(" "))
}

fn uefi(tools: &Tools, qemu: &mut Sandbox, disk: &Path, run: &Path) -> Result<()> {
    fs::copy(tools.tree.join("usr/share/OVMF/OVMF_VARS_4M.fd"), run.join("vars.fd"))?;
    let flash = "if=pflash,format=raw";
    qemu.read_only(disk);
    qemu.args([
        "-drive",
        &format!("{flash},unit=0,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd"),
    ]);
    qemu.args(["-drive", &format!("{flash},unit=1,file=/run/vm/vars.fd")]);
    let drive =
        format!("file={},format=raw,if=none,id=root,snapshot=on,cache=unsafe", disk.display());
    qemu.args(["-drive", &drive, "-device", "virtio-blk-pci,drive=root,bootindex=1"]);
    Ok(())
}

/// What went wrong, with the console's last lines.
fn explain(cx: &Context, why: &str, console: &Path) -> String {
    let lines = |path: &Path, kept: fn(&str) -> bool, most: usize| {
        let text = fs::read(path).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).replace('\r', "");
        let all: Vec<&str> = text.lines().filter(|l| !l.trim().is_empty() && kept(l)).collect();
        all[all.len().saturating_sub(most)..].join("\n    ")
    };
    // Why a daemon gave up stands far above the end: its end restarts the machine.
    let daemons = lines(console, |l| l.contains(" coconut") && l.contains("]: "), 12);
    let tail = lines(console, |l| !l.contains("systemd-shutdown"), 15);
    let qemu = lines(&cx.work.join("logs/qemu.log"), |_| true, 5);
    format!(
        "the VM failed: {why}\n    {daemons}\n    …\n    {tail}\n    {qemu}\n(all of it: {})",
        console.display()
    )
}

/// It makes its socket or ends: how long that takes is the machine's affair.
fn wait_for(socket: &Path, daemon: &mut Child) -> Result<()> {
    while !socket.exists() {
        if let Some(status) = daemon.try_wait()? {
            bail!("virtiofsd did not start ({status})\nhint: see target/x/logs/virtiofsd-*.log");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// Each argument followed by a NUL: any byte that an argument may hold comes through.
fn nul_separated(command: &[String]) -> Vec<u8> {
    command.iter().flat_map(|arg| arg.bytes().chain([0])).collect()
}

/// A short path for sockets (their names are limited to 108 bytes), removed afterwards.
struct RunDir(PathBuf);

impl RunDir {
    fn new() -> Result<Self> {
        let base = std::env::temp_dir();
        for n in 0..1000 {
            let dir = base.join(format!("coconut-vm-{}-{n}", std::process::id()));
            match fs::create_dir(&dir) {
                Ok(()) => return Ok(Self(dir)),
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(e).with_context(|| format!("cannot make {}", dir.display())),
            }
        }
        bail!("no free name for a folder below {}", base.display())
    }
}

impl Drop for RunDir {
    fn drop(&mut self) {
        // It lies in the temporary folder: left behind, it does no harm.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Ends with the run, however the run ends.
struct Running {
    qemu: Child,
    helpers: Vec<Child>,
}

impl Drop for Running {
    fn drop(&mut self) {
        for child in std::iter::once(&mut self.qemu).chain(&mut self.helpers) {
            // Already gone is fine.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
