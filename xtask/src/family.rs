//! A process and all that it has started: what it has computed, what it is doing, its end.

use std::fs;
use std::process::Command;
use std::time::Duration;

/// Processor time of a process and its children, as far as they live.
pub fn worked(pid: u32) -> Duration {
    let ticks = members(pid).iter().map(|one| one.ticks).sum::<u64>();
    // `/proc` counts in hundredths of a second on every Linux that Rust knows.
    Duration::from_millis(ticks * 10)
}

/// Who is there and has no children, with the names of its threads: a test's thread has the test's name.
pub fn doing(pid: u32) -> String {
    let all = members(pid);
    let leaves = all.iter().filter(|one| all.iter().all(|other| other.parent != one.pid));
    let told: Vec<String> = leaves.map(|one| format!("{} {}", one.pid, one.told())).collect();
    told.join("; ")
}

/// Ends all of them, parents first so that none starts another.
pub fn end(pid: u32) {
    let pids: Vec<String> = members(pid).iter().map(|one| one.pid.to_string()).collect();
    // The shell's own: a small machine may have no other. Who is gone already needs no end.
    let _ = Command::new("sh").args(["-c", "kill -KILL \"$@\"", "kill"]).args(pids).output();
}

fn members(pid: u32) -> Vec<Stat> {
    let mut rest: Vec<Stat> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(Stat::of)
        .collect();
    let mut family: Vec<Stat> = rest.extract_if(.., |one| one.pid == pid).collect();
    let mut at = 0;
    while let Some(parent) = family.get(at).map(|one| one.pid) {
        family.extend(rest.extract_if(.., |one| one.parent == parent));
        at += 1;
    }
    family
}

struct Stat {
    pid: u32,
    parent: u32,
    ticks: u64,
}

impl Stat {
    fn of(pid: u32) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // After the name, which may hold anything.
        let fields: Vec<&str> = text.rsplit(')').next()?.split_whitespace().collect();
        let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
        // utime and stime, and those of children that have ended.
        let ticks = (11..15).filter_map(number).sum();
        Some(Self { pid, parent: u32::try_from(number(1)?).ok()?, ticks })
    }

    fn told(&self) -> String {
        let command = fs::read(format!("/proc/{}/cmdline", self.pid)).unwrap_or_default();
        let program = command.split(|b| *b == 0).next().unwrap_or_default();
        let mut threads: Vec<String> = fs::read_dir(format!("/proc/{}/task", self.pid))
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|task| fs::read_to_string(task.path().join("comm")).ok())
            .map(|name| name.trim().to_owned())
            .collect();
        threads.sort();
        threads.dedup();
        format!("{} ({})", String::from_utf8_lossy(program), threads.join(", "))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::process::Child;

    fn family() -> Child {
        let busy = "while :; do :; done & wait";
        Command::new("sh").args(["-c", busy]).spawn().unwrap()
    }

    #[test]
    fn the_work_of_children_counts_and_all_of_them_end() {
        let mut child = family();
        while worked(child.id()) < Duration::from_millis(200) {
            std::thread::sleep(Duration::from_millis(20));
        }
        let all: Vec<u32> = members(child.id()).iter().map(|one| one.pid).collect();
        assert_eq!(all.len(), 2);
        let told = doing(child.id());
        assert!(told.starts_with(&format!("{} sh (sh)", all[1])), "{told}");
        end(child.id());
        child.wait().unwrap();
        assert!(gone(all[1]));
    }

    /// Whether it has ended, or does so within a minute. Nobody may have waited for it: then it is a zombie.
    pub(crate) fn gone(pid: u32) -> bool {
        (0..600).any(|_| {
            let state = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let gone = state.is_empty() || state.contains(") Z ") || state.contains(") X ");
            if !gone {
                std::thread::sleep(Duration::from_millis(100));
            }
            gone
        })
    }
}
