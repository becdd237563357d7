//! The daemon's own folders: in them nobody else changes anything once the seal is closed, by whatever way.

use crate::maps::Maps;
use crate::{Error, Result, handle};
use abi::caps::FileKey;
use abi::control::{OWN_ABOVE, OWN_DEVICES, OWN_DISKS, OWN_FOLDERS, OWN_PASSTHROUGH, Policy};
use rustix::fs::{FileType, major, minor};
use std::collections::BTreeSet;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use zerocopy::FromZeros;

/// Tells the kernel which these are; the descriptors keep their numbers theirs.
///
/// # Errors
/// When there are too many, or one cannot be looked at.
pub(crate) fn publish(maps: &Maps, folders: Vec<OwnedFd>) -> Result<Vec<handle::Handle>> {
    let mut own = Policy::new_zeroed();
    let (mut above, mut devices, mut disks) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    let mut kept = Vec::new();
    for folder in folders {
        disks.extend(disks_beneath(&folder)?);
        let folder = handle::handle(maps, folder)?;
        above.extend(folder.above().iter().map(|node| (node.dev, node.ino)));
        devices.extend(folder.above().iter().map(|node| node.dev as u32));
        devices.insert(folder.node().dev as u32);
        kept.push(folder);
    }
    let nodes = kept.iter().map(|folder| folder.node().key());
    fill("the daemon's folders", OWN_FOLDERS, &mut own.own, nodes)?;
    let keys = above.into_iter().map(|(dev, ino)| FileKey { dev, ino });
    fill("folders above them", OWN_ABOVE, &mut own.own_above, keys)?;
    fill("file systems beneath them", OWN_DEVICES, &mut own.own_devices, devices.into_iter())?;
    let passthrough: BTreeSet<u32> = disks.iter().copied().flat_map(passthrough).collect();
    fill("disks beneath them", OWN_DISKS, &mut own.own_disks, disks.into_iter())?;
    let (what, most) = ("devices that hand those commands", OWN_PASSTHROUGH);
    fill(what, most, &mut own.own_passthrough, passthrough.into_iter())?;
    maps.policy.set_own(&own);
    Ok(kept)
}

fn fill<T>(
    what: &str,
    most: usize,
    into: &mut [T],
    all: impl ExactSizeIterator<Item = T>,
) -> Result<()> {
    if all.len() > most {
        return Err(Error::Invalid(format!("{what} are more than {most}")));
    }
    into.iter_mut().zip(all).for_each(|(slot, one)| *slot = one);
    Ok(())
}

/// Block devices that a file lies on, as the kernel counts them: its partition, the whole disk, and what either is
/// put together from (dm, md).
fn disks_beneath(folder: &OwnedFd) -> Result<BTreeSet<u32>> {
    let failed = |source| Error::File { action: "find the disk of", path: PathBuf::new(), source };
    let stat = rustix::fs::fstat(folder.as_fd()).map_err(|e| failed(e.into()))?;
    let mut found = BTreeSet::new();
    beneath(stat.st_dev, &mut found);
    // btrfs and others have numbers that are no disk's: the mount says which it is.
    if found.is_empty()
        && let Some(dev) = source_of(folder)
    {
        beneath(dev, &mut found);
    }
    Ok(found)
}

/// Such a device and all beneath it; nothing for a file system without one.
fn beneath(dev: u64, found: &mut BTreeSet<u32>) {
    let (major, minor) = (major(dev), minor(dev));
    let link = format!("/sys/dev/block/{major}:{minor}");
    let Ok(at) = fs::canonicalize(link) else { return };
    if !found.insert(major << 20 | minor) {
        return;
    }
    let whole = at.join("partition").exists().then(|| at.parent().and_then(numbered)).flatten();
    let slaves = fs::read_dir(at.join("slaves")).into_iter().flatten().flatten();
    let slaves = slaves.filter_map(|slave| numbered(&fs::canonicalize(slave.path()).ok()?));
    whole.into_iter().chain(slaves).for_each(|dev| beneath(dev, found));
}

/// Character devices that hand a disk commands as they are: its controller's and namespaces' (NVMe), its own (SCSI: sg,
/// bsg).
fn passthrough(disk: u32) -> BTreeSet<u32> {
    let mut found = BTreeSet::new();
    let device = format!("/sys/dev/block/{}:{}/device", disk >> 20, disk & 0xf_ffff);
    if let Ok(device) = fs::canonicalize(device) {
        of_device(&device, 2, &mut found);
    }
    found
}

/// That of a device and of what belongs to it, so many folders down.
fn of_device(at: &Path, down: u32, found: &mut BTreeSet<u32>) {
    let block = fs::read_link(at.join("subsystem")).is_ok_and(|class| class.ends_with("block"));
    if let (false, Some(dev)) = (block, numbered(at)) {
        found.insert(major(dev) << 20 | minor(dev));
    }
    if down == 0 || block {
        return;
    }
    for entry in fs::read_dir(at).into_iter().flatten().flatten() {
        let kind = entry.file_type();
        // A subsystem of NVMe names its controllers by links; other links lead to what is others'.
        let leads = entry.file_name().to_string_lossy().starts_with("nvme");
        if kind.is_ok_and(|kind| kind.is_dir() || (kind.is_symlink() && leads)) {
            of_device(&entry.path(), down - 1, found);
        }
    }
}

/// The number of a device, by its folder.
fn numbered(folder: &Path) -> Option<u64> {
    let text = fs::read_to_string(folder.join("dev")).ok()?;
    let (major, minor) = text.trim().split_once(':')?;
    Some(rustix::fs::makedev(major.parse().ok()?, minor.parse().ok()?))
}

/// The block device that the mount of a file names.
fn source_of(folder: &OwnedFd) -> Option<u64> {
    let fd = std::os::fd::AsRawFd::as_raw_fd(folder);
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).ok()?;
    let id = info.lines().find_map(|line| line.strip_prefix("mnt_id:"))?.trim().to_owned();
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let mount = mounts.lines().find(|line| line.split(' ').next() == Some(&id))?;
    let source = mount.split_once(" - ")?.1.split(' ').nth(1)?;
    let stat = rustix::fs::stat(source).ok()?;
    let is_disk = FileType::from_raw_mode(stat.st_mode) == FileType::BlockDevice;
    is_disk.then_some(stat.st_rdev)
}
