//! What an agent's processes have mapped: a shared mapping cannot be asked again by the kernel.

use crate::{Mapping, Result};
use std::path::PathBuf;

/// File mappings of a process; one that has ended has none.
///
/// The first thread may have gone while others live: then they show the same memory.
pub(crate) fn of(pid: u32) -> Result<Vec<Mapping>> {
    let mut maps = std::fs::read(format!("/proc/{pid}/maps")).unwrap_or_default();
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    for task in tasks {
        if !maps.is_empty() {
            break;
        }
        maps = std::fs::read(task.path().join("maps")).unwrap_or_default();
    }
    let text = String::from_utf8_lossy(&maps);
    Ok(text.lines().filter_map(|line| parse(pid, line)).collect())
}

/// `7f0-7f1 rw-s 00000000 00:2a 1234   /srv/data`, a removed file's name with ` (deleted)` behind.
fn parse(pid: u32, line: &str) -> Option<Mapping> {
    let mut words = line.splitn(6, ' ');
    let modes = words.nth(1)?.as_bytes().to_vec();
    let (major, minor) = words.nth(1)?.split_once(':')?;
    let ino = words.next()?.parse().ok()?;
    let number = |text| u64::from_str_radix(text, 16).ok();
    let dev = number(major)? << 20 | number(minor)?;
    let path = words.next()?.trim_start();
    if !path.starts_with('/') || modes.len() < 4 {
        return None;
    }
    let path = path.strip_suffix(" (deleted)").unwrap_or(path);
    Some(Mapping {
        pid,
        dev,
        ino,
        path: PathBuf::from(path.replace("\\012", "\n")),
        shared: modes[3] == b's',
        writable: modes[1] == b'w',
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_maps_tells_path_and_modes() {
        let m =
            parse(7, "7f00-7f01 rw-s 00000000 00:2a 1234                       /srv/a b (deleted)");
        let m = m.expect("a file mapping");
        assert_eq!((m.dev, m.ino), (0x2a, 1234));
        assert_eq!((m.path, m.shared, m.writable), (PathBuf::from("/srv/a b"), true, true));
    }

    #[test]
    fn memory_without_a_file_is_no_mapping() {
        assert_eq!(parse(7, "7f00-7f01 rw-p 00000000 00:00 0                [heap]"), None);
        assert_eq!(parse(7, "7f00-7f01 rw-p 00000000 00:00 0 "), None);
    }
}
