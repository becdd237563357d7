//! Agents that share what costs others: one `/proc`, one tmpfs, one IPC namespace. Nothing of one
//! reaches another.

use crate::world::{Actor, World, await_that, on};
use abi::Capability::FsRead;
use abi::event::Hook;
use anyhow::Result;
use libc::{EACCES, ENOENT, ENOSPC, EPERM, O_CREAT, O_RDWR};
use std::fs;

pub fn run(w: &World) -> Result<()> {
    w.same("the kernel is seen to support it", &kernel::Kernel::probe().shared_namespaces, &true);
    let (a, b) = (w.sharer(&[on(FsRead, "/data/ok")])?, w.sharer(&[])?);
    // The controls: an agent with its own, and a non-agent.
    let (own, out) = (w.agent(&[])?, w.outsider()?);
    superblocks(w, [&a, &b, &own])?;
    processes(w, [&a, &b, &own, &out]);
    files(w, [&a, &b, &own, &out])?;
    queues(w, [&a, &own]);
    w.allowed(&a, "open /data/ok/f 0");
    w.denied(&b, "open /data/ok/f 0", EACCES, Hook::FileOpen);
    for actor in [&a, &b, &own] {
        w.end(actor)?;
    }
    afterwards(w)
}

/// Why they share at all: a superblock is a burden on every memory cgroup.
fn superblocks(w: &World, [a, b, own]: [&Actor; 3]) -> Result<()> {
    for at in ["/proc", "/tmp"] {
        let device = |actor: &Actor| device_of(actor.pid, at);
        w.check(&format!("{at} is on one device"), device(a)? == device(b)?, String::new);
        w.check(&format!("another has its own {at}"), device(a)? != device(own)?, String::new);
    }
    for (name, one) in [("ipc", true), ("pid", false), ("mnt", false), ("uts", false)] {
        let of = |pid: u32| fs::read_link(format!("/proc/{pid}/ns/{name}"));
        let text = format!("{name}: {}", if one { "one for both" } else { "one each" });
        w.same(&text, &(of(a.pid)? == of(b.pid)?), &one);
        w.check("and not the machine's", of(a.pid)? != of(std::process::id())?, String::new);
    }
    Ok(())
}

/// Major and minor number of what is mounted last at a place.
fn device_of(pid: u32, at: &str) -> Result<Option<String>> {
    let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo"))?;
    let mut found = mounts.lines().filter(|line| line.split(' ').nth(4) == Some(at));
    Ok(found.next_back().and_then(|line| line.split(' ').nth(2)).map(str::to_owned))
}

/// `/proc/self` is there, the list of all and what is another's are not.
fn processes(w: &World, [a, b, own, out]: [&Actor; 4]) {
    w.same("it is process 1 of its own", &a.tell("getpid"), &1);
    for line in ["get /proc/self/status", "put /proc/self/oom_score_adj 10"] {
        w.allowed(a, line);
    }
    w.allowed(a, "list /proc/self/task");
    w.denied(a, "list /proc", EPERM, Hook::FileOpen);
    let names = w.allowed(own, "list /proc");
    w.check("with its own it lists itself", names > 0, String::new);
    let status = format!("get /proc/{}/status", b.pid);
    w.denied(a, &status, ENOENT, Hook::PtraceAccess);
    w.denied(a, &format!("list /proc/{}/fd", b.pid), ENOENT, Hook::PtraceAccess);
    w.same("it finds itself by that number", &(a.tell(&own_status(a)) > 0), &true);
    w.same("nor the machine's", &a.tell("get /proc/1/status"), &-i64::from(ENOENT));
    w.allowed(out, &status);
    w.same("numbers of others mean nothing", &a.tell(&format!("kill {} 0", b.pid)), &-3);
}

fn own_status(a: &Actor) -> String {
    format!("get /proc/{}/status", a.pid)
}

/// One folder each, which nobody else comes to.
fn files(w: &World, [a, b, own, out]: [&Actor; 4]) -> Result<()> {
    let make = format!("open /tmp/mine {}", O_CREAT | O_RDWR);
    let fd = w.allowed(a, &make);
    w.allowed(a, &format!("write {fd}"));
    for line in ["mkdir /tmp/d", "rename /tmp/mine /tmp/d/mine", "open /tmp/d/mine 2"] {
        w.allowed(a, line);
    }
    let missing = -i64::from(ENOENT);
    for other in [b, own, out] {
        w.same("another does not see it", &other.tell("open /tmp/d/mine 0"), &missing);
    }
    // Where the mount ends, so does the way up.
    w.same("above it lies the machine's root", &a.tell("stat /tmp/../tmp/d/mine"), &0);
    w.allowed(b, &make);
    w.same("what another makes is its own", &a.tell("open /tmp/mine 0"), &missing);
    let shown = fs::read_dir(format!("/proc/{}/root/tmp", b.pid))?.count();
    w.same("one file is in its folder", &shown, &1);
    // The control: non-agents have one /tmp.
    let other = w.outsider()?;
    w.allowed(out, &make);
    w.allowed(&other, "open /tmp/mine 0");
    w.allowed(&other, "unlink /tmp/mine");
    Ok(())
}

/// Nobody can make what another would find, or use up what there is for all.
fn queues(w: &World, [a, own]: [&Actor; 2]) {
    for line in ["shm", "msg", "sem", "mq"] {
        w.same(&format!("{line} of all who share"), &a.tell(line), &-i64::from(ENOSPC));
        w.allowed(own, line);
    }
}

/// What lay in its `/tmp` does not outlive it, however deep.
fn afterwards(w: &World) -> Result<()> {
    let a = w.sharer(&[])?;
    let root = fs::File::open(format!("/proc/{}/root/tmp", a.pid))?;
    let here = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&root));
    fs::create_dir_all(format!("{here}/a/b/c"))?;
    fs::write(format!("{here}/a/b/file"), "x")?;
    w.same("it is there", &fs::read_dir(&here)?.count(), &1);
    w.end(&a)?;
    let gone = await_that(|| fs::read_dir(&here).is_ok_and(|all| all.count() == 0));
    w.check("its files go with it", gone, String::new);
    Ok(())
}
