//! File systems on which an inode's number is no identity, and those that give it out again.

use super::rights::{mended, save, writes};
use super::{Case, lent};
use crate::mounted::{Mounted, ran};
use crate::world::World;
use anyhow::{Result, ensure};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

/// The table.
pub const CASES: &[Case] = &[
    Case {
        name: "isolation.overlay",
        promise: "files of an overlay carry rights of their own, whatever numbers its layers give them, and keep them when they are copied up",
        run: overlay,
    },
    Case {
        name: "isolation.subvolumes",
        promise: "files of two btrfs subvolumes that have one number are two files",
        run: subvolumes,
    },
    Case {
        name: "lent.filesystems",
        promise: "on tmpfs, xfs and btrfs, too, a right ends with its file",
        run: numbers,
    },
];

fn read(path: &Path) -> String {
    format!("fs.read={}", path.display())
}

/// One may be read by a right on it, the other not, although both have one number.
fn told_apart(world: &World, one: &Path, other: &Path) -> Result<()> {
    let numbers = [one, other].map(|path| fs::metadata(path).map(|found| found.ino()));
    let [first, second] = numbers;
    ensure!(first? == second?, "the control: {} has another number", other.display());
    // Without Coconut the same user reads it.
    let mut shell = Command::new("setpriv");
    let user = ["--reuid", "coconut-agent", "--clear-groups", "--", "/usr/bin/cat"];
    ran(shell.args(user).arg(other))?;
    let allowed = world.attempt(&[&read(one)], &format!("open={}", one.display()))?;
    ensure!(allowed.ok, "{}: {}", one.display(), allowed.evidence);
    let refused = world.attempt(&[&read(one)], &format!("open={}", other.display()))?;
    ensure!(refused.errno.as_deref() == Some("EACCES"), "by a number: {}", refused.evidence);
    Ok(())
}

fn overlay(world: &World) -> Result<String> {
    let base = world.ctx.work.join(world.ctx.unique("overlay"));
    // Two layers on file systems of their own, filled alike: their files have the same numbers.
    let layers = [Mounted::tmpfs(&base.join("a"))?, Mounted::tmpfs(&base.join("b"))?];
    for (layer, name) in layers.iter().zip(["one", "two"]) {
        fs::write(layer.root().join(name), format!("from {name}\n"))?;
        let folder = layer.root().join(format!("folder-{name}"));
        fs::create_dir(&folder)?;
        fs::write(folder.join("inside"), "from inside\n")?;
    }
    let merged = Mounted::overlay(&base.join("merged"), &layers.each_ref().map(Mounted::root))?;
    let at = |name: &str| merged.root().join(name);

    covered_from_above(world, &base, &at("one"))?;
    told_apart(world, &at("one"), &at("two"))?;
    told_apart(world, &at("folder-one/inside"), &at("folder-two/inside"))?;
    let below = world.attempt(
        &[&read(&at("folder-one"))],
        &format!("open={}", at("folder-two/inside").display()),
    )?;
    ensure!(!below.ok, "a right on a folder reaches another: {}", below.evidence);
    lasting(world, &at("one"), &at("folder-one"))?;
    programs(world, &at("folder-two"))?;
    Ok(String::new())
}

/// Programs and scripts that lie there run, write there, and reach nothing else.
fn programs(world: &World, folder: &Path) -> Result<()> {
    let at = |name: &str| folder.join(name).display().to_string();
    fs::copy("/usr/bin/dash", at("shell"))?;
    let words = format!(
        "#!{}\necho mine >>{}; while read line; do echo $line; done <{}; read line <{} || echo refused\n",
        at("shell"),
        at("inside"),
        at("inside"),
        at("../one")
    );
    fs::write(at("script"), words)?;
    for (name, mode) in [("script", 0o755), ("inside", 0o666)] {
        fs::set_permissions(at(name), fs::Permissions::from_mode(mode))?;
    }
    let rights = ["fs.exec", "fs.read", "fs.write"].map(|kind| format!("{kind}={}", at("")));
    let script = at("script");
    let mut command = vec!["run"];
    command.extend(rights.iter().flat_map(|right| ["--cap", right.trim_end_matches('/')]));
    command.extend(["--", &script]);
    let said = world.expect(0, &command)?.stdout;
    let wanted = "from inside\nmine\nrefused\n";
    ensure!(said == wanted, "a script of an overlay said {said:?}");
    // The control: the same outside of every agent reads the other file, too.
    let control = Command::new("setpriv")
        .args(["--reuid", "coconut-agent", "--clear-groups", "--", &script])
        .output()?;
    let said = String::from_utf8_lossy(&control.stdout);
    ensure!(!said.contains("refused"), "the control: {said}");
    Ok(())
}

/// A right on the folder that the file system lies in.
fn covered_from_above(world: &World, base: &Path, file: &Path) -> Result<()> {
    let open = format!("open={}", file.display());
    let without = world.attempt(&[], &open)?;
    ensure!(without.errno.as_deref() == Some("EACCES"), "ungranted: {}", without.evidence);
    let with = world.attempt(&[&read(base)], &open)?;
    ensure!(with.ok && with.evidence.contains("from"), "granted above: {}", with.evidence);
    Ok(())
}

/// What a running agent holds stays its own when the file comes to lie in the upper layer and nothing
/// of it is cached; it is not the next file's of that name.
fn lasting(world: &World, file: &Path, folder: &Path) -> Result<()> {
    let name = world.ctx.unique("overlay");
    let inside = folder.join("inside");
    let words = format!("while :; do cat {} {}; sleep 0.2; done", file.display(), inside.display());
    world.background(&name, &["fs.exec=@shell", &read(file), &read(folder)], &words)?;
    writes(world, &name, "from one")?;
    fs::write(file, "copied up\n")?;
    fs::rename(&inside, folder.join("elsewhere"))?;
    fs::write(&inside, "new inside\n")?;
    fs::write("/proc/sys/vm/drop_caches", "3")?;
    writes(world, &name, "copied up")?;
    writes(world, &name, "new inside")?;
    save(file, "another\n")?;
    ensure!(fs::read_to_string(file)? == "another\n", "the control: nothing was replaced");
    mended(world, &name, &file.display().to_string())?;
    writes(world, &name, "another")?;
    world.expect(0, &["kill", &name]).map(|_| ())
}

fn subvolumes(world: &World) -> Result<String> {
    let base = world.ctx.work.join(world.ctx.unique("btrfs"));
    let disk = Mounted::made("btrfs", &base)?;
    for name in ["one", "two"] {
        let volume = disk.root().join(name);
        ran(Command::new("btrfs").args(["subvolume", "create"]).arg(&volume))?;
        fs::write(volume.join("file"), format!("from {name}\n"))?;
    }
    let at = |name: &str| disk.root().join(name);
    told_apart(world, &at("one/file"), &at("two/file"))?;
    covered_from_above(world, disk.root(), &at("one/file"))?;
    let open = format!("open={}", at("two/file").display());
    let below = world.attempt(&[&read(&at("one"))], &open)?;
    ensure!(!below.ok, "a right on a subvolume reaches another: {}", below.evidence);
    let volume = world.attempt(&[&read(&at("two"))], &open)?;
    ensure!(volume.ok, "a right on a subvolume: {}", volume.evidence);
    Ok(String::new())
}

fn numbers(world: &World) -> Result<String> {
    let base = |kind: &str| world.ctx.work.join(world.ctx.unique(kind));
    let disks = [
        Mounted::tmpfs(&base("tmpfs"))?,
        Mounted::made("xfs", &base("xfs"))?,
        Mounted::made("btrfs", &base("btrfs"))?,
    ];
    let mut again = 0;
    for disk in &disks {
        again += u32::from(lent::ends_with_its_file(world, disk.root())?);
    }
    ensure!(again > 0, "the control: none of these gives a number out again");
    Ok(format!("({again} of {} give numbers out again)", disks.len()))
}
