//! What every program finds under the same name is an agent's own: shared memory, terminals, `/proc`, its limits.

use crate::world::{Actor, World};
use abi::event::Hook;
use anyhow::{Context as _, Result};
use libc::{EACCES, ENOENT, O_CREAT, O_RDWR};
use std::fs;

/// Of one agent (`max=` of its devpts).
const TERMINALS: i64 = 64;

pub fn run(w: &World) -> Result<()> {
    let (a, b, out) = (w.agent(&[])?, w.agent(&[])?, w.outsider()?);
    let (one, two) = (w.sharer(&[])?, w.sharer(&[])?);
    memory(w, [(&a, &b), (&one, &two)], &out)?;
    terminals(w, &a, &b, &out)?;
    for actor in [&a, &one] {
        machine(w, actor, &out);
        limits(w, actor)?;
    }
    for actor in [&a, &b, &one, &two] {
        w.end(actor)?;
    }
    Ok(())
}

fn memory(w: &World, pairs: [(&Actor, &Actor); 2], out: &Actor) -> Result<()> {
    let make = format!("open /dev/shm/mine {}", O_CREAT | O_RDWR);
    for (a, b) in pairs {
        w.allowed(a, &make);
        for other in [b, out] {
            w.same(
                "another has no such memory",
                &other.tell("open /dev/shm/mine 0"),
                &-i64::from(ENOENT),
            );
        }
        w.allowed(b, &make);
        w.allowed(a, "unlink /dev/shm/mine");
        w.allowed(b, "open /dev/shm/mine 0");
    }
    // The control: non-agents have one.
    w.allowed(out, &make);
    w.allowed(&w.outsider()?, "unlink /dev/shm/mine");
    Ok(())
}

fn terminals(w: &World, a: &Actor, b: &Actor, out: &Actor) -> Result<()> {
    w.allowed(a, "terminal");
    w.same("another does not find it", &b.tell("open /dev/pts/0 2"), &-i64::from(ENOENT));
    w.allowed(b, "terminal");
    w.same("nobody has more than his part", &a.tell("terminals"), &(TERMINALS - 1));
    w.allowed(b, "terminal");
    // The control: non-agents have one set of them.
    let ours = w.outsider()?;
    w.allowed(&ours, "terminal");
    w.check("a non-agent opens another's", out.tell("open /dev/pts/0 258") >= 0, String::new);
    Ok(())
}

/// Of all that the machine is, how large it is may be asked; who else is connected to whom may not.
fn machine(w: &World, a: &Actor, out: &Actor) {
    for name in
        ["meminfo", "loadavg", "cpuinfo", "stat", "uptime", "sys/kernel/osrelease", "net/dev"]
    {
        w.allowed(a, &format!("get /proc/{name}"));
    }
    for name in [
        "net/tcp",
        "net/unix",
        "self/net/udp",
        "thread-self/net/tcp6",
        "net/netlink",
        "keys",
        "locks",
        "kallsyms",
    ] {
        let line = format!("get /proc/{name}");
        w.denied(a, &line, EACCES, Hook::ProcRead);
        w.allowed(out, &line);
    }
    let line = "put /proc/sys/kernel/sysctl_writes_strict 1";
    w.denied(a, line, EACCES, Hook::ProcRead);
    w.allowed(out, line);
    // Who runs as root may do neither more: change what everybody sees, or read what only root may.
    w.denied(a, "chmod /proc/swaps", EACCES, Hook::ProcRead);
    w.denied(a, "chmod /proc/net/arp", EACCES, Hook::ProcRead);
    w.allowed(out, "chmod /proc/swaps");
    let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o444);
    w.check("it is as it was", fs::set_permissions("/proc/swaps", everybody).is_ok(), String::new);
    w.denied(a, "get /proc/sys/kernel/cad_pid", EACCES, Hook::ProcRead);
    w.allowed(out, "get /proc/sys/kernel/cad_pid");
}

/// Where programs look for how much they may use.
fn limits(w: &World, a: &Actor) -> Result<()> {
    let group = fs::read_to_string(format!("/proc/{}/cgroup", a.pid))?;
    let group = group.trim().strip_prefix("0::").context("no control group")?;
    w.allowed(a, &format!("get /sys/fs/cgroup{group}/memory.max"));
    w.denied(a, "get /sys/fs/cgroup/coconut.slice/cgroup.procs", EACCES, Hook::FileOpen);
    let line = format!("put /sys/fs/cgroup{group}/memory.max max");
    w.denied(a, &line, EACCES, Hook::CgroupWrite);
    Ok(())
}
