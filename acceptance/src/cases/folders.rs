//! The daemon's own folders, and the disk beneath them, against root outside.

use crate::world::World;
use anyhow::{Context as _, Result, bail, ensure};
use std::path::{Path, PathBuf};

/// `TMPFS_MAGIC` (linux/magic.h).
const TMPFS_MAGIC: i64 = 0x0102_1994;

const PERM: i32 = rustix::io::Errno::PERM.raw_os_error();

/// Each is refused to root with EPERM.
fn none_of(what: &str, tried: Vec<(&str, std::io::Result<()>)>) -> Result<()> {
    for (how, done) in tried {
        match done {
            Err(error) if error.raw_os_error() == Some(PERM) => {}
            Err(error) => bail!("{what}: {how}: {error}"),
            Ok(()) => bail!("{what}: root could {how}"),
        }
    }
    Ok(())
}

fn opened(path: &Path) -> std::io::Result<()> {
    std::fs::OpenOptions::new().append(true).open(path).map(drop)
}

/// What changes a file and its folder, and leaves both as they were if it may.
fn changes(file: &Path) -> Vec<(&'static str, std::io::Result<()>)> {
    let (aside, new) = (file.with_extension("aside"), file.with_extension("new"));
    let mode = || Ok(std::fs::metadata(file)?.permissions());
    vec![
        ("open it for writing", opened(file)),
        ("set its mode", mode().and_then(|mode| std::fs::set_permissions(file, mode))),
        ("link it", std::fs::hard_link(file, &new).and_then(|()| std::fs::remove_file(&new))),
        ("move it", std::fs::rename(file, &aside).and_then(|()| std::fs::rename(&aside, file))),
        ("make another", std::fs::write(&new, "x").and_then(|()| std::fs::remove_file(&new))),
    ]
}

fn first_file(folder: &Path) -> Result<PathBuf> {
    let files = std::fs::read_dir(folder)?.flatten().map(|entry| entry.path());
    files.into_iter().find(|path| path.is_file()).with_context(|| format!("no file in {folder:?}"))
}

/// The case.
pub fn folders(world: &World) -> Result<String> {
    // Somebody's output has to be there.
    let name = world.ctx.unique("writer");
    let manifest = world.manifest(&name, &["whoami"], "")?;
    world.expect(0, &["spawn", "--allow-unsigned", &manifest])?;
    world.expect(0, &["wait", &name])?;
    let keys = Path::new("/var/lib/coconut/keys");
    let own = [api::audit::LOG_DIRECTORY, "/var/log/coconut/agents", "/run/coconut/registry"];
    for folder in own.iter().map(Path::new).chain([keys]) {
        let file = first_file(folder)?;
        none_of(&file.display().to_string(), changes(&file))?;
        // Linux moves no place where something is mounted.
        let dev =
            |path: &Path| std::fs::metadata(path).map(|m| std::os::unix::fs::MetadataExt::dev(&m));
        if dev(folder)? == dev(folder.parent().context("a folder above")?)? {
            let moved = std::fs::rename(folder, folder.with_extension("aside"));
            none_of(&folder.display().to_string(), vec![("move it", moved)])?;
        }
    }
    let above = Path::new("/var/lib/coconut");
    none_of("the folder above", vec![("move it", std::fs::rename(above, "/var/lib/aside"))])?;
    // The control: beside them root changes what it likes, on the same file system.
    let beside = above.join("beside");
    std::fs::create_dir(&beside)?;
    let file = beside.join("file");
    std::fs::write(&file, "x")?;
    let failed = changes(&file).into_iter().find(|(_, done)| done.is_err());
    std::fs::remove_dir_all(&beside)?;
    ensure!(failed.is_none(), "the control: {failed:?}");
    ensure!(std::fs::read(Path::new(own[0]).join("checkpoint")).is_ok(), "the log may be read");
    disk(above)
}

/// The disk that a folder lies on, by its partition and as a whole.
fn disk(folder: &Path) -> Result<String> {
    let dev = std::os::unix::fs::MetadataExt::dev(&std::fs::metadata(folder)?);
    let number = format!("{}:{}", rustix::fs::major(dev), rustix::fs::minor(dev));
    let number = Path::new("/sys/dev/block").join(number);
    if !number.exists() {
        let kind = rustix::fs::statfs(folder)?.f_type;
        ensure!(kind == TMPFS_MAGIC, "{folder:?}: {kind:#x} has a disk that nobody looked at");
        return Ok("(a tmpfs: no disk beneath)".to_owned());
    }
    let at = std::fs::canonicalize(number)?;
    let whole = at.parent().filter(|_| at.join("partition").exists());
    let mut names = Vec::new();
    for device in std::iter::once(at.as_path()).chain(whole) {
        let name = device.file_name().context("a device without a name")?;
        let node = Path::new("/dev").join(name);
        none_of(&node.display().to_string(), vec![("write to it", opened(&node))])?;
        std::fs::File::open(&node).with_context(|| format!("{} may be read", node.display()))?;
        let text = node.display().to_string();
        // By a command of the disk's, which asks for no open for writing.
        ensure!(!blockdev("--setrw", &text)?, "root could set {text} writable");
        ensure!(blockdev("--getsize64", &text)?, "what {text} is asked is refused");
        names.push(name.to_string_lossy().into_owned());
    }
    let passed = passthrough(&names)?;
    // The control: another disk takes that command.
    let other = OtherDisk::make(folder)?;
    ensure!(blockdev("--setrw", &other.0)?, "the control: {}", other.0);
    Ok(format!("({}; {})", names.join(", "), passed.join(", ")))
}

/// What hands a disk commands as they are is not even opened for reading.
fn passthrough(disks: &[String]) -> Result<Vec<String>> {
    let kinds = ["nvme", "nvme-generic", "scsi_generic", "bsg"];
    let classes = kinds.iter().flat_map(|kind| std::fs::read_dir(format!("/sys/class/{kind}")));
    let mut names = Vec::new();
    for entry in classes.flatten().flatten() {
        // All disks of the machine that have such are those that the folders lie on.
        let name = entry.file_name().to_string_lossy().into_owned();
        let node = ["/dev", "/dev/bsg"].map(|folder| Path::new(folder).join(&name));
        let Some(node) = node.into_iter().find(|node| node.exists()) else { continue };
        let opened = std::fs::File::open(&node).map(drop);
        none_of(&node.display().to_string(), vec![("open it", opened)])?;
        names.push(name);
    }
    let nvme = disks.iter().any(|disk| disk.starts_with("nvme"));
    ensure!(!nvme || names.len() >= 2, "of {disks:?} only {names:?} hands commands on");
    Ok(names)
}

fn blockdev(what: &str, node: &str) -> Result<bool> {
    let ran = std::process::Command::new("blockdev").args([what, node]).output()?;
    Ok(ran.status.success())
}

/// A file as a disk, as long as this lives.
struct OtherDisk(String);

impl OtherDisk {
    fn make(folder: &Path) -> Result<OtherDisk> {
        let file = folder.join("disk");
        std::fs::write(&file, vec![0; 1 << 20])?;
        let mut losetup = std::process::Command::new("losetup");
        let made = losetup.args(["--find", "--show"]).arg(&file).output()?;
        std::fs::remove_file(&file)?;
        ensure!(made.status.success(), "losetup: {}", String::from_utf8_lossy(&made.stderr));
        Ok(OtherDisk(String::from_utf8_lossy(&made.stdout).trim().to_owned()))
    }
}

impl Drop for OtherDisk {
    fn drop(&mut self) {
        let ended = std::process::Command::new("losetup").args(["--detach", &self.0]).status();
        if !ended.is_ok_and(|status| status.success()) {
            println!("note: {} stays", self.0);
        }
    }
}
