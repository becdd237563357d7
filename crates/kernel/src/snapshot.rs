//! What an agent's processes are at a moment: for whoever has to find out afterwards.

use std::fs;
use std::path::PathBuf;

/// A process, as `/proc` shows it. What could not be read is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// In the machine's PID namespace.
    pub pid: u32,
    /// Program and arguments.
    pub command: Vec<String>,
    /// The program's file.
    pub program: PathBuf,
    /// Working directory.
    pub cwd: PathBuf,
    /// Open descriptors, and what they are.
    pub open: Vec<(u32, PathBuf)>,
    /// `status` (proc_pid_status(5)).
    pub status: String,
    /// `maps` (proc_pid_maps(5)).
    pub maps: String,
    /// Where each thread waits (`wchan`).
    pub waits_in: Vec<(u32, String)>,
}

/// Of one that has ended there is nothing.
pub(crate) fn of(pid: u32) -> Option<Snapshot> {
    let at = |name: &str| format!("/proc/{pid}/{name}");
    let text = |name: &str| {
        fs::read(at(name))
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    };
    let status = text("status");
    if status.is_empty() {
        return None;
    }
    let numbered = |name: &str| -> Vec<(u32, PathBuf)> {
        let entries = fs::read_dir(at(name)).into_iter().flatten().flatten();
        let mut all: Vec<_> = entries
            .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path())))
            .collect();
        all.sort();
        all
    };
    let link = |path: PathBuf| fs::read_link(path).unwrap_or_default();
    let waits = |(thread, path): (u32, PathBuf)| {
        (thread, fs::read_to_string(path.join("wchan")).unwrap_or_default())
    };
    Some(Snapshot {
        pid,
        command: text("cmdline").split_terminator('\0').map(str::to_owned).collect(),
        program: link(at("exe").into()),
        cwd: link(at("cwd").into()),
        open: numbered("fd").into_iter().map(|(number, path)| (number, link(path))).collect(),
        status,
        maps: text("maps"),
        waits_in: numbered("task").into_iter().map(waits).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_told_as_it_is() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let me = of(std::process::id()).unwrap();
        assert!(me.status.contains(&format!("Pid:\t{}", me.pid)));
        assert!(me.maps.contains("[stack]") && !me.command.is_empty());
        assert_eq!(me.program, std::env::current_exe().unwrap());
        assert!(me.open.iter().any(|(_, target)| target == file.path()));
        assert!(!me.waits_in.is_empty());
        assert_eq!(of(u32::MAX >> 2), None);
    }
}
