//! What the running kernel supports, as a typed value: every downgrade is visible to the caller.

use std::fs;
use std::path::Path;

/// How far the kernel is locked down against root.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lockdown {
    /// The kernel has no lockdown LSM.
    Absent,
    /// Compiled in, not switched on.
    None,
    /// Root cannot change the running kernel.
    Integrity,
    /// Root cannot read kernel memory either; kernel programs do not load.
    Confidentiality,
}

/// What this kernel can do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Features {
    /// As `uname -r`.
    pub release: String,
    /// Names of the active LSMs, in order.
    pub lsms: Vec<String>,
    /// `bpf` is among them: without it nothing can be enforced.
    pub bpf_lsm: bool,
    /// The kernel describes its own types, so that programs fit it.
    pub btf: bool,
    /// Cgroup v2 is mounted at `/sys/fs/cgroup`.
    pub cgroup2: bool,
    /// Controllers that the root of the hierarchy offers.
    pub controllers: Vec<String>,
    /// Lockdown level.
    pub lockdown: Lockdown,
    /// The kernel has sched_ext.
    pub sched_ext: bool,
    /// Landlock's ABI version, 0 for none.
    pub landlock_abi: u32,
    /// Agents can share namespaces (Linux 6.15).
    pub shared_namespaces: bool,
    /// Limits that all agents of one user share, and that one of them could use up.
    pub low_limits: Vec<&'static str>,
}

impl Features {
    /// Reads everything from the running kernel; never fails: what cannot be read is absent.
    pub fn probe() -> Features {
        let lsms: Vec<String> = read("/sys/kernel/security/lsm")
            .trim()
            .split(',')
            .filter(|s| !s.is_empty())
            .map(str::to_owned)
            .collect();
        Features {
            release: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            bpf_lsm: lsms.iter().any(|l| l == "bpf"),
            lsms,
            btf: Path::new("/sys/kernel/btf/vmlinux").exists(),
            cgroup2: Path::new("/sys/fs/cgroup/cgroup.controllers").exists(),
            controllers: read("/sys/fs/cgroup/cgroup.controllers")
                .split_whitespace()
                .map(str::to_owned)
                .collect(),
            lockdown: lockdown(&read("/sys/kernel/security/lockdown")),
            sched_ext: Path::new("/sys/kernel/sched_ext").exists(),
            landlock_abi: crate::sys::landlock_abi(),
            shared_namespaces: crate::commons::supported(),
            low_limits: low_limits(|name| read(&format!("/proc/sys/{name}"))),
        }
    }

    /// What is missing for agents to be enforced at all, or nothing.
    pub fn missing(&self) -> Vec<&'static str> {
        let mut missing = Vec::new();
        if !self.bpf_lsm {
            missing.push("the BPF LSM is not active (boot parameter lsm=)");
        }
        if !self.btf {
            missing.push("the kernel has no BTF (CONFIG_DEBUG_INFO_BTF)");
        }
        if !self.cgroup2 {
            missing.push("cgroup v2 is not mounted at /sys/fs/cgroup");
        }
        if self.lockdown == Lockdown::Confidentiality {
            missing.push("lockdown=confidentiality keeps kernel programs from loading");
        }
        missing
    }
}

/// What is counted by user, and from where on nobody reaches it before the memory that it takes; 0 is none.
const BY_USER: [(&str, u64); 4] = [
    ("fs/inotify/max_user_instances", 1 << 20),
    ("fs/inotify/max_user_watches", 1 << 20),
    ("fs/pipe-user-pages-soft", 0),
    ("fs/epoll/max_user_watches", 1 << 20),
];

/// A limit that this kernel does not have is none.
fn low_limits(read: impl Fn(&str) -> String) -> Vec<&'static str> {
    let low = |(name, least): &(&str, u64)| match read(name).trim().parse::<u64>() {
        Ok(now) if *least == 0 => now != 0,
        Ok(now) => now < *least,
        Err(_) => false,
    };
    BY_USER.iter().filter(|limit| low(limit)).map(|(name, _)| *name).collect()
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// The active level stands in brackets: `none [integrity] confidentiality`.
fn lockdown(text: &str) -> Lockdown {
    match text.split('[').nth(1).and_then(|t| t.split(']').next()) {
        Some("integrity") => Lockdown::Integrity,
        Some("confidentiality") => Lockdown::Confidentiality,
        Some(_) => Lockdown::None,
        None => Lockdown::Absent,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bracketed_lockdown_level_is_the_active_one() {
        assert_eq!(lockdown("none [integrity] confidentiality\n"), Lockdown::Integrity);
        assert_eq!(lockdown("[none] integrity confidentiality\n"), Lockdown::None);
        assert_eq!(lockdown(""), Lockdown::Absent);
    }

    #[test]
    fn limits_that_one_agent_can_reach_are_named() {
        let all = |value: &'static str| low_limits(move |_| value.to_owned());
        assert_eq!(
            all("0\n"),
            [
                "fs/inotify/max_user_instances",
                "fs/inotify/max_user_watches",
                "fs/epoll/max_user_watches"
            ]
        );
        assert_eq!(all("1073741824\n"), ["fs/pipe-user-pages-soft"]);
        assert_eq!(all(""), [""; 0]);
    }
}
