//! A disk that goes wrong: changes bytes of files behind the file system and everybody's permissions.
//!
//! From the seal on nobody opens the disk beneath the log for writing, so this program runs before it, as a unit that
//! the machine's owner asks for at boot ([`REQUESTS`] exists then). It is what a rotten sector does to a log, and what
//! somebody who holds the disk open since before the seal may do.

use anyhow::{Context as _, Result, ensure};
use rustix::fs::{Mode, OFlags};
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A pipe by name; each line is a byte's offset, a space and a path: the lowest bit of that byte is changed.
const REQUESTS: &str = "/run/coconut-faulty-disk";

/// Changes a bit of a file on the disk beneath it. Done twice, the file is whole again.
pub fn flip(path: &Path, offset: u64) -> Result<()> {
    let before = fs::read(path)?;
    let requests = OpenOptions::new().write(true).open(REQUESTS);
    let refused = || format!("{REQUESTS}: this machine was not booted with a faulty disk");
    writeln!(requests.with_context(refused)?, "{offset} {}", path.display())?;
    for _ in 0..600 {
        if fs::read(path)? != before {
            return Ok(());
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    anyhow::bail!("byte {offset} of {} is what it was", path.display())
}

/// Opens the disk beneath a folder, tells PID 1 that it has, and does what it is asked for, for ever.
pub fn serve(folder: &Path) -> Result<()> {
    let device = beneath(folder)?;
    let disk = OpenOptions::new().read(true).write(true).open(&device);
    let disk = disk.with_context(|| format!("cannot open {}", device.display()))?;
    rustix::fs::mknodat(
        rustix::fs::CWD,
        REQUESTS,
        rustix::fs::FileType::Fifo,
        Mode::RUSR | Mode::WUSR,
        0,
    )?;
    ready()?;
    // Both ends, so that it does not end with its first client.
    let both = rustix::fs::open(REQUESTS, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    for line in BufReader::new(File::from(both)).lines() {
        let line = line?;
        match turn(&disk, &line) {
            Ok(()) => println!("changed a bit of byte {line}"),
            Err(error) => eprintln!("{line}: {error:#}"),
        }
    }
    Ok(())
}

fn turn(disk: &File, line: &str) -> Result<()> {
    let (offset, path) = line.split_once(' ').context("not `OFFSET PATH`")?;
    let at = place(path, offset.parse()?)?;
    let mut byte = [0];
    disk.read_exact_at(&mut byte, at)?;
    disk.write_all_at(&[byte[0] ^ 1], at)?;
    disk.sync_all()?;
    // What is remembered of the file is not what is on the disk any more.
    Ok(fs::write("/proc/sys/vm/drop_caches", "3")?)
}

/// The device node of the disk, or its partition, that a folder lies on.
fn beneath(folder: &Path) -> Result<PathBuf> {
    let dev = fs::metadata(folder)?.dev();
    let number = format!("{}:{}", rustix::fs::major(dev), rustix::fs::minor(dev));
    let at = fs::canonicalize(format!("/sys/dev/block/{number}"))
        .with_context(|| format!("{} lies on no disk", folder.display()))?;
    Ok(Path::new("/dev").join(at.file_name().context("a device without a name")?))
}

/// Where on its device a byte of a file is, after what is still to be written is.
fn place(path: &str, offset: u64) -> Result<u64> {
    let out = Command::new("filefrag").args(["-s", "-v", "-b1", path]).output()?;
    ensure!(out.status.success(), "filefrag: {}", String::from_utf8_lossy(&out.stderr));
    let text = String::from_utf8(out.stdout)?;
    let extents = text.lines().filter_map(extent);
    let within = |(first, last, at): (u64, u64, u64)| {
        (first..=last).contains(&offset).then(|| at + (offset - first))
    };
    extents.filter_map(within).next().with_context(|| format!("{path} has no place: {text}"))
}

/// `ext: first.. last: physical.. last: length: flags`, in bytes.
fn extent(line: &str) -> Option<(u64, u64, u64)> {
    let mut parts = line.split(':').map(str::trim);
    parts.next()?.parse::<u64>().ok()?;
    let mut range = parts.next()?.split("..").map(|n| n.trim().parse::<u64>());
    let (first, last) = (range.next()?.ok()?, range.next()?.ok()?);
    let at = parts.next()?.split("..").next()?.trim().parse().ok()?;
    Some((first, last, at))
}

/// `READY=1` (sd_notify(3)).
fn ready() -> Result<()> {
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET") else { return Ok(()) };
    UnixDatagram::unbound()?.send_to(b"READY=1", Path::new(&socket))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_extent_is_read_and_what_is_around_it_is_not() {
        let line = "   1:     4096..    8191:  139264..    143359:   4096:   147456: last,eof";
        assert_eq!(extent(line), Some((4096, 8191, 139_264)));
        for other in [
            "Filesystem type is: ef53",
            "File size of /a is 8000 (8192 blocks of 1 bytes)",
            " ext:     logical_offset:        physical_offset: length:   expected: flags:",
            "/a: 2 extents found",
        ] {
            assert_eq!(extent(other), None, "{other}");
        }
    }
}
