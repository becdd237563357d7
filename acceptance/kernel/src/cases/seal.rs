//! The seal: root outside every agent can no longer touch policy, daemon or agents.

use crate::world::{Actor, World, await_that, on};
use abi::Capability::FsRead;
use abi::event::{EVENT_SEAL, Hook};
use anyhow::Result;
use libc::{EACCES, EPERM};
use std::fs;

const PIN: &str = "/sys/fs/bpf/coconut/file_open";

pub fn run(w: &World) -> Result<()> {
    let me = std::process::id();
    let root = w.outsider()?;
    let a = w.agent(&[on(FsRead, "/data/ok")])?;
    let slice = "/sys/fs/cgroup/coconut.slice";
    let uuid = uuid::Uuid::from_u128(a.aid.unwrap_or_default().slot().into());
    // The control: before the seal, root may do each of these.
    for line in ["bpf".to_owned(), format!("kill {me} 0"), format!("nice {me}")] {
        w.allowed(&root, &line);
    }
    w.check(
        "before the seal a pin can be had",
        root.tell(&format!("bpf-get {PIN}")) > 2,
        String::new,
    );
    w.allowed(&root, &format!("put {slice}/cpu.weight 100"));
    w.allowed(&root, &format!("clone-into {slice}/test/{uuid}"));
    let environ = [me, a.pid].map(|pid| format!("get /proc/{pid}/environ"));
    for line in &environ {
        w.allowed(&root, line);
    }
    for dir in ["/data/tracing", "/data/v1", "/data/v1-later", "/data/sys/inner"] {
        fs::create_dir_all(dir)?;
    }
    w.allowed(&root, "mount-type tracefs /data/tracing");
    for line in [
        "perf",
        &format!("perf-of {me} -1"),
        &format!("perf-of {} -1", a.pid),
        "perf-of -1 0",
        "mount-v1 /data/v1",
        "mount /data/sys/inner",
        "remount /sys/fs/bpf",
        "open /proc/kcore 0",
        "open /data/tracing/trace 0",
        "kprobe /data/tracing/kprobe_events",
        &format!("put /proc/{me}/oom_score_adj 0"),
    ] {
        w.allowed(&root, line);
    }
    fs::write("/data/secret", "secret")?;
    w.kernel.keep_secret(fs::File::open("/data/secret")?.into())?;
    w.allowed(&root, "open /data/secret 0");
    let own = own(w, &root)?;
    w.allowed(&root, "getfd 1");
    let image = w.allowed(&root, "open /data/ok/f 0");
    w.same(
        "another kernel is looked at",
        &root.tell(&format!("kexec {image}")),
        &-i64::from(libc::ENOEXEC),
    );
    // The control of a signal that the kernel sends: another process stops.
    let victim = w.outsider()?;
    w.allowed(&victim, "getpid");
    w.allowed(&root, &format!("sigio {} {}", victim.pid, libc::SIGSTOP));
    let state = || fs::read_to_string(format!("/proc/{}/stat", victim.pid)).unwrap_or_default();
    w.check("the kernel stops a process for root", await_that(|| state().contains(") T ")), state);
    w.allowed(&root, &format!("kill {} {}", victim.pid, libc::SIGCONT));
    let early = w.allowed(&root, &format!("open {slice}/cgroup.freeze 1"));
    w.kernel.seal()?;
    let forbidden = [
        "bpf".to_owned(),
        format!("bpf-get {PIN}"),
        format!("unlink {PIN}"),
        format!("rename {PIN} /sys/fs/bpf/coconut/other"),
        "umount /sys/fs/bpf".to_owned(),
        "mount /sys/fs/bpf".to_owned(),
        "mount /sys/fs/bpf/coconut".to_owned(),
        format!("mount {slice}"),
        format!("kill {me} 9"),
        format!("kill {me} 15"),
        format!("ptrace {me}"),
        format!("vm-read {me}"),
        format!("getfd {me}"),
        format!("nice {me}"),
        format!("rlimit {me}"),
        format!("ptrace {}", a.pid),
        format!("vm-read {}", a.pid),
        format!("put {slice}/cpu.weight 100"),
        format!("put {slice}/test/{uuid}/cgroup.procs 0"),
        format!("put {slice}/test/{uuid}/cgroup.kill 1"),
        format!("mkdir {slice}/mine"),
        format!("rmdir {slice}/test"),
        format!("write {early}"),
        "put /proc/sysrq-trigger x".to_owned(),
        format!("clone-into {slice}/test/{uuid}"),
        format!("perf-of {me} -1"),
        format!("perf-of {} -1", a.pid),
        "perf-of -1 0".to_owned(),
        "remount /sys/fs/bpf".to_owned(),
        "remount /sys/fs/cgroup".to_owned(),
        "mount-v1 /data/v1-later".to_owned(),
        "mount /proc".to_owned(),
        "umount /proc".to_owned(),
        format!("mount /proc/{me}"),
        "open /proc/kcore 0".to_owned(),
        "open /data/tracing/trace 0".to_owned(),
        "kprobe /data/tracing/kprobe_events".to_owned(),
        format!("put /proc/{me}/oom_score_adj 1000"),
        format!("kexec {image}"),
        "open /data/secret 0".to_owned(),
        "open /data/secret 1".to_owned(),
        "open /data/again 0".to_owned(),
        "getfd 1".to_owned(),
        "vm-read 1".to_owned(),
    ];
    w.allowed(&root, "link /data/secret /data/again");
    for line in forbidden.iter().chain(&own) {
        w.sealed(&root, line, EPERM);
    }
    // Reading is free, and so is what lies beside.
    w.allowed(&root, "get /data/mine/own/f");
    w.allowed(&root, "list /data/mine/own");
    // Whether a mount spreads is everybody's own affair, the root's as well.
    w.allowed(&root, "spread /");
    for line in changes("/data/mine/beside") {
        w.allowed(&root, &line);
    }
    // The signal is not sent, whoever writes; the call that would have sent it knows nothing of that.
    for signal in [libc::SIGSTOP, libc::SIGKILL, libc::SIGIO] {
        w.drain();
        let sent = |e: &abi::event::Event| e.kind == EVENT_SEAL && e.hook == Hook::FileSigio as u32;
        let before = w.count(sent);
        w.allowed(&root, &format!("sigio {me} {signal}"));
        w.same(
            "the kernel's own signal is refused, and that is recorded",
            &w.await_more(before, sent),
            &1,
        );
    }
    // While programs hang on functions, the kernel does not let go of them.
    let switch = "/proc/sys/kernel/ftrace_enabled";
    let off = root.tell(&format!("put {switch} 0"));
    let is_on = fs::read_to_string(switch)?.trim() == "1";
    w.check("tracing stays on", off < 0 && is_on, || crate::world::show(off));
    // Without an event: process viewers read everybody's all the time.
    for line in &environ {
        let result = root.tell(line);
        let refused = result == -i64::from(EPERM) || result == -i64::from(EACCES);
        w.check(&format!("the seal keeps root from {line}"), refused, || {
            crate::world::show(result)
        });
    }
    // What has nothing to do with Coconut goes on.
    for line in
        ["perf", "mount /data/out", "umount /data/out", "put /sys/fs/cgroup/mine/cpu.weight 50"]
    {
        w.allowed(&root, line);
    }
    w.allowed(&root, &format!("kill {} 0", root.pid));
    // It holds what it uses: what is covered or made read-only is so for others.
    w.allowed(&root, &format!("close {early}"));
    w.allowed(&root, "read-only /sys/fs/cgroup");
    w.allowed(&root, "mount /sys/fs");
    let covered = !std::path::Path::new(slice).exists();
    w.check("others find no control groups", covered, String::new);
    still_at_work(w, &a)?;
    w.allowed(&root, "umount /sys/fs");
    let refused = root.tell("mkdir /sys/fs/cgroup/other");
    w.same("others cannot write there", &refused, &-i64::from(libc::EROFS));
    w.allowed(&root, "writable /sys/fs/cgroup");
    moved_out(w, &root)?;
    w.end(&a)
}

/// The daemon itself can do everything that it could.
fn still_at_work(w: &World, a: &crate::world::Actor) -> Result<()> {
    w.allowed(a, "open /data/ok/f 0");
    w.denied(a, "open /data/no/f 0", EACCES, Hook::FileOpen);
    w.apply(a, &[])?;
    w.denied(a, "open /data/ok/f 0", EACCES, Hook::FileOpen);
    let b = w.agent(&[])?;
    w.allowed(&b, "getpid");
    w.end(&b)?;
    w.same("the daemon makes and ends agents", &b.hear(), &i64::MIN);
    Ok(())
}

/// A process that is moved out of its agent would be free; it is ended instead. The move itself is
/// no failure: what did not come about would prove nothing.
fn moved_out(w: &World, root: &crate::world::Actor) -> Result<()> {
    let other = w.outsider()?;
    w.allowed(&other, "getpid");
    w.allowed(root, &format!("put /sys/fs/cgroup/mine/cgroup.procs {}", other.pid));
    w.allowed(root, &format!("put /sys/fs/cgroup/cgroup.procs {}", other.pid));
    w.allowed(&other, "getpid");
    let a = w.agent(&[])?;
    w.allowed(&a, "getpid");
    w.drain();
    let before = w.count(|e| e.kind == EVENT_SEAL && e.hook == Hook::CgroupMove as u32);
    w.allowed(root, &format!("put /sys/fs/cgroup/cgroup.procs {}", a.pid));
    let state = || fs::read_to_string(format!("/proc/{}/stat", a.pid)).unwrap_or_default();
    let ended = await_that(|| state().is_empty() || state().contains(") Z "));
    w.check("a process that root moves out of its agent ends", ended, state);
    let moved = |e: &abi::event::Event| e.kind == EVENT_SEAL && e.hook == Hook::CgroupMove as u32;
    let events = w.await_more(before, moved);
    w.same("and that is recorded", &events, &1);
    w.end(&a)
}

/// What changes a folder's content, each once.
fn changes(folder: &str) -> Vec<String> {
    let lines = [
        "open DIR/f 1",
        "put DIR/f x",
        "put DIR/new x",
        "truncate DIR/f",
        "chmod DIR/f",
        "chown DIR/f",
        "utimes DIR/f",
        "setxattr DIR/f",
        "mkdir DIR/dir/new",
        "mkfifo DIR/fifo",
        "symlink /data DIR/way",
        "link DIR/f /data/OUT",
        "rename DIR/g DIR/h",
        "rename DIR/h /data/OUT-h",
        "rename /data/OUT-h DIR/h",
        "unlink DIR/h",
        "rmdir DIR/empty",
        "mount DIR/dir",
        "rename DIR /data/OUT-dir",
    ];
    let out = folder.rsplit('/').next().unwrap_or_default();
    lines.map(|line| line.replace("DIR", folder).replace("OUT", out)).into()
}

/// The daemon's own folder, and what nobody else does with it once the seal is closed.
fn own(w: &World, root: &Actor) -> Result<Vec<String>> {
    for folder in ["own", "beside", "before"] {
        for dir in ["dir", "empty"] {
            fs::create_dir_all(format!("/data/mine/{folder}/{dir}"))?;
        }
        for file in ["f", "g"] {
            fs::write(format!("/data/mine/{folder}/{file}"), "hello")?;
        }
    }
    w.kernel.keep_folders(vec![fs::File::open("/data/mine/own")?.into()])?;
    for line in changes("/data/mine/before") {
        w.allowed(root, &line);
    }
    for line in ["put /data/mine/own/f early", "mkdir /data/elsewhere"] {
        w.allowed(root, line);
    }
    fs::write("/data/out-h", "hello")?;
    let above = ["mount /data/mine", "rename /data/mine /data/moved", "mount /data/mine/own"];
    let replaced = "rename /data/elsewhere /data/mine/own";
    // There it never gets so far that there is an `h`.
    let possible = |line: &String| !line.contains("/data/own-h") && !line.starts_with("unlink");
    let changes = changes("/data/mine/own").into_iter().filter(possible);
    let more = [replaced, "rename /data/out-h /data/mine/own/h", "unlink /data/mine/own/g"];
    Ok(changes.chain(above.into_iter().chain(more).map(str::to_owned)).collect())
}
