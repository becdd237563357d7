//! Other processes: signals, tracing, scheduling, and the cgroup that nobody leaves.

use crate::world::{World, on, rule};
use abi::Capability::{AgentSignal, FsRead, FsWrite};
use abi::event::Hook;
use anyhow::Result;
use kernel::KernelScope;
use libc::{EACCES, EPERM};

pub fn run(w: &World) -> Result<()> {
    signals(w)?;
    identity(w)
}

/// An agent sees no foreign process in its own PID namespace, so the kernel is asked by the only
/// way that is left: ids of the outer namespace mean nothing inside.
fn signals(w: &World) -> Result<()> {
    let a = w.agent(&[])?;
    let b = w.outsider()?;
    let c = w.agent(&[])?;
    w.allowed(&a, "fork-kill");
    w.same("foreign ids mean nothing inside", &a.tell(&format!("kill {} 0", c.pid)), &-3);
    w.allowed(&b, &format!("kill {} 0", c.pid));
    // Nothing may lie at that place of its memory; that it is looked for there is the harm.
    let line = format!("vm-read {}", c.pid);
    let result = b.tell(&line);
    let read = result >= 0 || result == -i64::from(libc::EFAULT);
    w.check(&format!("before the seal a non-agent may {line}"), read, || {
        crate::world::show(result)
    });
    w.end(&c)?;
    // An agent in the outer namespace: a process that was put into the cgroup before its checks.
    let d = w.agent(&[rule(AgentSignal, KernelScope::Everything)])?;
    let inner = enter(w, &d)?;
    w.denied(&inner, &format!("kill {} 0", a.pid), EPERM, Hook::TaskKill);
    let aids = [a.aid.unwrap_or_default(), d.aid.unwrap_or_default()];
    w.kernel.set_parent(aids[0], aids[1])?;
    let me = std::process::id();
    w.denied(&inner, &format!("kill {me} 15"), EPERM, Hook::TaskKill);
    w.denied(&inner, &format!("ptrace {me}"), EPERM, Hook::PtraceAccess);
    w.denied(&inner, &format!("vm-read {me}"), EPERM, Hook::PtraceAccess);
    w.denied(&inner, &format!("getfd {me}"), EPERM, Hook::PtraceAccess);
    w.denied(&inner, &format!("ptrace {}", a.pid), EPERM, Hook::PtraceAccess);
    w.denied(&inner, &format!("nice {me}"), EPERM, Hook::TaskControl);
    w.denied(&inner, &format!("rlimit {}", b.pid), EPERM, Hook::TaskControl);
    w.allowed(&inner, &format!("kill {} 0", a.pid));
    w.apply(&d, &[])?;
    w.denied(&inner, &format!("kill {} 0", a.pid), EPERM, Hook::TaskKill);
    w.allowed(&b, &format!("kill {} 0", a.pid));
    w.end(&a)?;
    w.kernel.kill(d.aid.unwrap_or_default())?;
    w.end(&d)
}

/// Moves a non-agent into an agent's cgroup, which the daemon alone may do.
fn enter(w: &World, agent: &crate::world::Actor) -> Result<crate::world::Actor> {
    let mut actor = w.outsider()?;
    // It must have started: what its loader opens is not covered.
    actor.tell("getpid");
    let uuid = uuid::Uuid::from_u128(agent.aid.unwrap_or_default().slot().into());
    let procs = format!("/sys/fs/cgroup/coconut.slice/test/{uuid}/self/cgroup.procs");
    std::fs::write(procs, actor.pid.to_string())?;
    actor.aid = agent.aid;
    Ok(actor)
}

fn identity(w: &World) -> Result<()> {
    let rules = [on(FsRead, "/sys/fs/cgroup"), on(FsWrite, "/sys/fs/cgroup")];
    let a = w.agent(&rules)?;
    let b = w.outsider()?;
    let root = "/sys/fs/cgroup";
    w.denied(&a, &format!("put {root}/cgroup.procs 1"), EACCES, Hook::CgroupWrite);
    w.denied(&a, &format!("mkdir {root}/mine"), EACCES, Hook::CgroupWrite);
    w.denied(&a, &format!("clone-into {root}"), EPERM, Hook::CgroupMove);
    w.allowed(&b, &format!("mkdir {root}/mine"));
    w.allowed(&b, &format!("clone-into {root}/mine"));
    // Who it is, is asked by pidfd.
    let pidfd = |pid: u32| -> Result<std::os::fd::OwnedFd> {
        let path = format!("{pid}");
        Ok(open_pidfd(path.parse()?)?)
    };
    use std::os::fd::AsFd;
    w.same("a pidfd tells the agent", &w.kernel.agent_of_pidfd(pidfd(a.pid)?.as_fd())?, &a.aid);
    w.same("a non-agent is nobody", &w.kernel.agent_of_pidfd(pidfd(b.pid)?.as_fd())?, &None);
    w.end(&a)
}

#[allow(unsafe_code)]
fn open_pidfd(pid: i32) -> std::io::Result<std::os::fd::OwnedFd> {
    use std::os::fd::FromRawFd;
    // SAFETY: plain numbers; the descriptor is fresh and ours alone.
    unsafe {
        match libc::syscall(libc::SYS_pidfd_open, pid, 0) {
            ..0 => Err(std::io::Error::last_os_error()),
            fd => Ok(std::os::fd::OwnedFd::from_raw_fd(fd as i32)),
        }
    }
}
