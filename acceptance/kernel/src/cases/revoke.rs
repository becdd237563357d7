//! Revocation bites on what is open, mapped, copied, queued or connected.

use crate::world::{Actor, Given, World, await_that, net, on};
use abi::Capability::{FsRead, FsWrite, NetConnect};
use abi::event::Hook;
use anyhow::Result;
use libc::EACCES;
use std::net::TcpListener;

pub fn run(w: &World) -> Result<()> {
    open_files(w)?;
    sockets(w)?;
    expiry(w)?;
    one_of_two(w)?;
    never_without(w)?;
    followed(w)
}

fn open_files(w: &World) -> Result<()> {
    let a = w.agent(&[on(FsRead, "/data/ok"), on(FsWrite, "/data/ok")])?;
    let b = w.outsider()?;
    let fd = w.allowed(&a, "open /data/ok/f 2");
    let copy = w.allowed(&a, &format!("dup {fd}"));
    let control = w.allowed(&b, "open /data/ok/f 2");
    let shared = w.allowed(&a, &format!("mmap {fd} 3 1"));
    let read_only = w.allowed(&a, &format!("mmap {fd} 1 1"));
    for line in [format!("pread {fd}"), format!("pwrite {fd}"), format!("uring {fd} 0")] {
        w.allowed(&a, &line);
    }
    w.allowed(&a, &format!("uring {fd} 1"));
    let aid = a.aid.unwrap_or_default();
    let mapped = || -> Result<Vec<kernel::Mapping>> {
        let all = w.kernel.live_mappings(aid)?;
        Ok(all.into_iter().filter(|m| m.path.starts_with("/data")).collect())
    };
    let mappings = mapped()?;
    w.same("its two mappings are found", &mappings.len(), &2);
    w.check("as shared", mappings.iter().all(|m| m.shared), || format!("{mappings:?}"));
    w.apply(&a, &[])?;
    let used = [
        (format!("pread {fd}"), Hook::FilePermission),
        (format!("pwrite {fd}"), Hook::FilePermission),
        (format!("pread {copy}"), Hook::FilePermission),
        (format!("sendfile 1 {fd}"), Hook::FilePermission),
        (format!("ftruncate {fd}"), Hook::FileTruncate),
        (format!("uring {fd} 0"), Hook::FilePermission),
        (format!("uring {fd} 1"), Hook::FilePermission),
        (format!("mmap {fd} 1 1"), Hook::MmapFile),
        (format!("mprotect {read_only} 3"), Hook::FileMprotect),
        (format!("fstat {fd}"), Hook::InodeGetattr),
        (format!("open /proc/self/fd/{fd} 0"), Hook::FileOpen),
    ];
    for (line, hook) in used {
        w.denied(&a, &line, EACCES, hook);
    }
    for line in [format!("pread {control}"), format!("ftruncate {control}")] {
        w.allowed(&b, &line);
    }
    // The kernel is not asked about memory that is mapped: the daemon must look and end the agent.
    w.same("a mapping outlives the right", &(a.tell(&format!("read-shared {shared}")) >= 0), &true);
    w.kernel.freeze(aid)?;
    w.same("a frozen agent's are found", &mapped()?.len(), &2);
    w.kernel.thaw(aid)?;
    w.end(&a)
}

fn sockets(w: &World) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:1101")?;
    let a = w.agent(&[net(NetConnect, "127.0.0.1", 32, 1101)])?;
    let b = w.outsider()?;
    let control = w.allowed(&b, "connect 127.0.0.1 1101");
    let s = w.allowed(&a, "connect 127.0.0.1 1101");
    w.allowed(&a, &format!("send {s}"));
    let mut peers = [listener.accept()?.0, listener.accept()?.0];
    for peer in &mut peers {
        std::io::Write::write_all(peer, b"hello")?;
    }
    w.allowed(&a, &format!("recv {s}"));
    w.apply(&a, &[])?;
    w.denied(&a, &format!("send {s}"), EACCES, Hook::SocketSendmsg);
    w.denied(&a, &format!("write {s}"), EACCES, Hook::SocketSendmsg);
    w.denied(&a, &format!("recv {s}"), EACCES, Hook::SocketRecvmsg);
    w.allowed(&b, &format!("send {control}"));
    w.end(&a)
}

fn expiring(path: &str, expires_ns: u64) -> Given {
    Given { expires_ns, ..on(FsRead, path) }
}

/// A right that runs out needs nobody to take it away.
fn expiry(w: &World) -> Result<()> {
    let a = w.agent(&[on(FsRead, "/data/ro")])?;
    let (mut lasts, mut soon, mut fd) = (600_000_000, 0, 0);
    // A machine that is busy elsewhere may not use the right before it has run out: then a longer one.
    let used = await_that(|| {
        soon = boottime() + lasts;
        lasts *= 2;
        let given = w.apply(&a, &[expiring("/data/ok", soon), on(FsRead, "/data/ro")]);
        fd = a.tell("open /data/ok/f 0");
        given.is_ok() && fd >= 0 && a.tell(&format!("pread {fd}")) >= 0
    });
    w.check("a right that runs out is one until then", used, || format!("{fd}"));
    while boottime() <= soon {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    w.denied(&a, &format!("pread {fd}"), EACCES, Hook::FilePermission);
    w.denied(&a, "open /data/ok/g 0", EACCES, Hook::FileOpen);
    w.allowed(&a, "open /data/ro/f 0");
    // Of two rights on one directory the one that lasts stays.
    w.apply(&a, &[expiring("/data/ok", 1), on(FsWrite, "/data/ok")])?;
    w.allowed(&a, "open /data/ok/f 1");
    w.denied(&a, "open /data/ok/f 0", EACCES, Hook::FileOpen);
    w.end(&a)
}

/// Taking one right away leaves the other, and names its rule.
fn one_of_two(w: &World) -> Result<()> {
    let both = [on(FsRead, "/data/ok"), on(FsWrite, "/data/ok")];
    let a = w.agent(&both)?;
    w.same("reading is by the reading rule", &rule_of_open(w, &a, 0), &Some(1));
    w.same("writing is by the writing rule", &rule_of_open(w, &a, 1), &Some(2));
    w.apply(&a, &both[..1])?;
    w.allowed(&a, "open /data/ok/f 0");
    w.denied(&a, "open /data/ok/f 1", EACCES, Hook::FileOpen);
    w.end(&a)
}

/// However often other rights are changed, one that stays is there at every moment.
fn never_without(w: &World) -> Result<()> {
    let a = w.agent(&[on(FsRead, "/data/ok")])?;
    let fd = w.allowed(&a, "open /data/ok/f 0");
    w.noisy(&a);
    a.start(&format!("spin-open /data/ok/f {fd}"));
    for i in 0..200 {
        let other = if i % 2 == 0 { "/data/ro" } else { "/data/no" };
        w.apply(&a, &[on(FsRead, "/data/ok"), on(FsWrite, other)])?;
    }
    w.drain();
    let denials = w.kernel.counters(a.aid.unwrap_or_default())?.denials;
    w.same("no moment was without the right that stays", &denials, &0);
    w.apply(&a, &[])?;
    w.check("it ends when that goes too", a.hear() > 0, String::new);
    w.end(&a)?;
    // Nothing stays of any of the two hundred changes, nor of agents before: only what every actor needs.
    await_that(|| w.kernel.sets() == 1);
    w.same("sets that nobody holds are forgotten", &w.kernel.sets(), &1);
    Ok(())
}

/// A set of the system's follows its name to another file, without a gap, for all who hold it.
fn followed(w: &World) -> Result<()> {
    use std::sync::Arc;
    for (name, text) in [("old", "old"), ("new", "new")] {
        std::fs::write(format!("/data/ro/{name}"), text)?;
    }
    let old = Arc::new(w.handle("/data/ro/old")?);
    let new = Arc::new(w.handle("/data/ro/new")?);
    let file = |handle: &Arc<kernel::Handle>| kernel::KernelScope::File(Arc::clone(handle));
    let rules = [(FsRead, file(&old)), (FsRead, file(&new)), (FsWrite, file(&old))];
    let rules = rules.map(|(capability, scope)| kernel::KernelRule {
        capability,
        scope,
        expires_ns: 0,
        code: false,
        uses: None,
    });
    let set = w.kernel.make_set(&[rules[0].clone(), rules[2].clone()])?;
    let a = w.agent(&[])?;
    let aid = a.aid.unwrap_or_default();
    w.kernel.assign(aid, &[set, w.base()?])?;
    let fd = w.allowed(&a, "open /data/ro/old 2");
    w.allowed(&a, &format!("pread {fd}"));
    w.denied(&a, "open /data/ro/new 0", EACCES, Hook::FileOpen);
    w.kernel.follow(set, 1, Some(&old), Some(&new))?;
    w.allowed(&a, "open /data/ro/new 0");
    w.denied(&a, &format!("pread {fd}"), EACCES, Hook::FilePermission);
    w.allowed(&a, &format!("pwrite {fd}"));
    w.denied(&a, "open /data/ro/new 1", EACCES, Hook::FileOpen);
    w.kernel.follow(set, 1, Some(&new), Some(&old))?;
    w.allowed(&a, &format!("pread {fd}"));
    w.denied(&a, "open /data/ro/new 0", EACCES, Hook::FileOpen);
    w.kernel.follow(set, 1, Some(&old), None)?;
    w.denied(&a, &format!("pread {fd}"), EACCES, Hook::FilePermission);
    w.allowed(&a, &format!("pwrite {fd}"));
    w.end(&a)?;
    w.kernel.drop_set(set)?;
    Ok(())
}

fn rule_of_open(w: &World, a: &Actor, flags: i32) -> Option<u32> {
    w.allowed(a, &format!("open /data/ok/f {flags}"));
    w.drain();
    let seen = w.seen.lock().ok()?;
    let mine = seen.iter().rev().find(|e| Some(abi::AgentId(e.aid)) == a.aid);
    mine.map(|e| e.rule)
}

#[allow(unsafe_code)]
pub(super) fn boottime() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the answer goes into a live local variable.
    unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}
