//! What refuses the attacks of the demonstration.

use super::By;
use super::kernel::ROOTS;
use super::processes::{ELSEWHERE, NOBODY};

/// Those that Linux refuses before the policy is asked.
const LINUX: &[(&str, &str)] = &[
    ("see-others", "its /proc has its own processes only"),
    ("signal", NOBODY),
    ("pidfd-signal", NOBODY),
    ("ptrace", NOBODY),
    ("vm-read", NOBODY),
    ("proc-mem", NOBODY),
    ("proc-environ", NOBODY),
    ("proc-fd", NOBODY),
    ("proc-root", NOBODY),
    ("pidfd-getfd", NOBODY),
    ("prlimit", NOBODY),
    ("leaked-signal", ELSEWHERE),
    ("cgroup-join", ROOTS),
    ("cgroup-write", ROOTS),
    ("sysctl", ROOTS),
    ("sysfs", ROOTS),
    ("setuid-program", "no_new_privs: a set-user-id program is as any other"),
    ("setuid-root", "becoming another needs CAP_SETUID"),
    ("capset", "capabilities are not taken that are not permitted"),
    ("realtime", "a realtime class needs CAP_SYS_NICE"),
    ("renice", "a better nice value needs CAP_SYS_NICE"),
    ("proc1-environ", "process 1 of its namespace is its own"),
    ("proc1-root", "process 1 of its namespace is its own"),
];

/// Those that take a privilege.
const PRIVILEGED: &[&str] =
    &["chroot", "mount-new-api", "perf", "dmesg", "fanotify", "sethostname", "kexec"];

/// What refuses this attack.
pub fn refuser(attempt: &str) -> By {
    if PRIVILEGED.contains(&attempt) {
        return By::Privilege;
    }
    let found = LINUX.iter().find(|(name, _)| *name == attempt);
    found.map_or(By::Policy, |(_, why)| By::Linux(why))
}
