//! Techniques on the machine itself.

use super::{Technique, privileged, root, user};

/// Its mode lets root alone: an agent of another user is refused before a security module is asked.
pub const ROOTS: &str = "the file is root's, by its mode";

pub const TECHNIQUES: &[Technique] = &[
    user("proc-read", "/proc/net/tcp", "read everybody's connections"),
    user("proc-read", "/proc/net/unix", "read everybody's sockets"),
    user("proc-read", "/proc/keys", "read of keys"),
    user("proc-read", "/proc/locks", "read who locks what"),
    user("proc-read", "/proc/modules", "read what is loaded"),
    user("proc-read", "/proc/kallsyms", "read the kernel's names"),
    user("proc-read", "/proc/interrupts", "count others' keystrokes"),
    user("proc-read", "/proc/diskstats", "count others' reads"),
    root("proc-read", "/proc/timer_list", "read everybody's timers").linux(ROOTS),
    root("proc-read", "/proc/slabinfo", "read the kernel's memory use").linux(ROOTS),
    root("proc-write", "/proc/sys/kernel/core_pattern", "say what becomes of crashes").linux(ROOTS),
    root("proc-write", "/proc/sys/kernel/randomize_va_space", "make addresses guessable")
        .linux(ROOTS),
    root("proc-write", "/proc/sys/kernel/modprobe", "say what loads modules").linux(ROOTS),
    root("oom-score", "", "be the last to be ended").linux("a lower score needs CAP_SYS_RESOURCE"),
    root("device", "/dev/nvme0n1", "read the disk").linux(ROOTS),
    root("device", "/dev/kmsg", "read the kernel's log"),
    root("device", "/dev/loop-control", "make a disk of a file").linux(ROOTS),
    root("device", "/dev/rtc0", "hold the clock").linux(ROOTS),
    user("device", "/dev/fuse", "be a file system"),
    user("device", "/dev/net/tun", "be a network"),
    privileged("unshare", "mount", "have a namespace of mounts"),
    privileged("unshare", "network", "… of networks"),
    privileged("unshare", "ipc", "… of IPC"),
    privileged("unshare", "pid", "… of processes"),
    privileged("unshare", "uts", "… of names"),
    privileged("unshare", "cgroup", "… of cgroups"),
    privileged("unshare", "time", "… of clocks"),
    privileged("pivot-root", "{own}", "have another root"),
    privileged("mount-setattr", "", "make all read-only"),
    privileged("fspick", "", "configure a mount"),
    root("mknod-device", "{own}", "make a disk's node"),
    privileged("swapon", "{own}/swap", "have memory written to a file of its own"),
    root("acct", "{own}/account", "be told what everybody runs")
        .linux("accounting needs CAP_SYS_PACCT"),
    privileged("settime", "", "set the clock"),
    privileged("adjtime", "", "make the clock slow"),
    privileged("reboot-keys", "", "say what keys do"),
    privileged("domainname", "", "rename the domain"),
    root("userfaultfd", "", "stop the kernel where it reads its memory")
        .linux("stopping the kernel needs CAP_SYS_PTRACE"),
    privileged("ioprio-first", "", "read before everybody"),
    root("limit-raise", "", "lift a limit").linux("a higher limit needs CAP_SYS_RESOURCE"),
    root("groups", "", "join root's group").linux("groups are changed by who has CAP_SETGID"),
    user("key-add", "", "leave a key to its user"),
    user("key-session", "coconut-probe", "share a session of keys"),
    user("key-request", "{key}", "ask for a key of its user"),
    root("clone-into", "{cgroup}", "have a child in another's cgroup").linux(ROOTS),
    user("open", "{cgroup}/cgroup.procs", "list who is in another's cgroup"),
];
