//! From clone to program: what the agent is left with, and what is left of a failure.

use crate::world::{OWN, World, await_that, explain, on, rule};
use abi::Capability::{AgentSignal, FsRead};
use abi::event::{EVENT_EXEC, EVENT_USE, Hook};
use abi::{AgentId, AgentState};
use anyhow::{Result, anyhow};
use kernel::{KernelScope, Launch, NewAgent, SpawnStep, Waiting};
use libc::{EACCES, O_APPEND, O_WRONLY};
use std::ffi::OsString;
use std::fs;
use std::os::fd::{AsFd as _, OwnedFd};

pub fn run(w: &World) -> Result<()> {
    alone(w)?;
    table(w)?;
    failures(w)?;
    waiting(w)?;
    standard_files(w)?;
    children(w)?;
    room(w)?;
    no_room(w)?;
    quarantine(w)
}

/// No privileges, own namespaces, nothing of the daemon's.
fn alone(w: &World) -> Result<()> {
    let a = w.agent(&[on(FsRead, "/data/ok")])?;
    w.same("it is process 1 of its own", &a.tell("getpid"), &1);
    let status = fs::read_to_string(format!("/proc/{}/status", a.pid))?;
    let line = |name: &str| status.lines().find(|l| l.starts_with(name)).unwrap_or("").to_owned();
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        w.same(set, &line(set), &format!("{set}:\t0000000000000000"));
    }
    w.same("no_new_privs", &line("NoNewPrivs"), &"NoNewPrivs:\t1".to_owned());
    for name in ["mnt", "pid", "ipc", "uts"] {
        let of = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/{name}"));
        let own = of(&a.pid.to_string())? != of("self")?;
        w.check(&format!("a {name} namespace of its own"), own, String::new);
    }
    let open = fs::read_dir(format!("/proc/{}/fd", a.pid))?.count();
    w.same("only the three standard descriptors are open", &open, &3);
    w.same("nobody else is in its /proc", &a.tell("get /proc/2/status"), &-2);
    let aid = a.aid.unwrap_or_default();
    w.same("its process is in the cgroup", &w.kernel.processes(aid)?, &vec![a.pid]);
    w.kernel.set_weight(aid, 250)?;
    let weight = fs::read_to_string(cgroup(aid) + "/cpu.weight")?;
    w.same("its weight", &weight.trim(), &"250");
    w.end(&a)?;
    w.check("nothing is left of it", !std::path::Path::new(&cgroup(aid)).exists(), String::new);
    Ok(())
}

/// However many descriptors the daemon has open, an agent's table has room for its own.
fn table(w: &World) -> Result<()> {
    let high = rustix::io::fcntl_dupfd_cloexec(fs::File::open("/dev/null")?, 1000)?;
    let size = |pid: &str| -> Result<u32> {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status.lines().find_map(|l| l.strip_prefix("FDSize:")).unwrap_or_default();
        Ok(line.trim().parse()?)
    };
    let a = w.agent(&[])?;
    let (own, daemon) = (size(&a.pid.to_string())?, size("self")?);
    w.check("its table of descriptors is small", own <= 256, || own.to_string());
    w.check("the daemon's, the control, is not", daemon > 1000, || daemon.to_string());
    drop(high);
    w.end(&a)
}

fn cgroup(aid: AgentId) -> String {
    format!("/sys/fs/cgroup/coconut.slice/test/{}", uuid::Uuid::from_u128(aid.slot().into()))
}

/// Each failure names its step and leaves no process.
fn failures(w: &World) -> Result<()> {
    let cases = [
        ("/data/no/busybox", "/", SpawnStep::Exec),
        ("/coconut-kernel-tests", "/nowhere", SpawnStep::Chdir),
    ];
    for (n, (program, cwd, want)) in (500u32..).zip(cases) {
        let aid = AgentId::new(n, 1);
        w.kernel.create_agent(&new(aid), &[]).map_err(explain)?;
        w.kernel.set_state(aid, AgentState::Active)?;
        let result = w.kernel.prepare(aid, launch(program, cwd)?).and_then(Waiting::go);
        let step = match &result {
            Err(kernel::Error::Spawn { step, .. }) => Some(*step),
            _ => None,
        };
        w.same(&format!("{program} in {cwd} fails as"), &step, &Some(want));
        w.same("and leaves no process", &w.kernel.processes(aid)?, &vec![]);
        w.kernel.remove_agent(aid).map_err(explain)?;
    }
    Ok(())
}

/// Until it is told to go nothing of the agent's runs, and whoever is never told leaves nothing.
fn waiting(w: &World) -> Result<()> {
    let aid = AgentId::new(510, 1);
    w.kernel.create_agent(&new(aid), &[]).map_err(explain)?;
    w.kernel.set_state(aid, AgentState::Active)?;
    let prepared = w.kernel.prepare(aid, launch("/data/exe/busybox", "/")?).map_err(explain)?;
    let there = w.kernel.processes(aid)?;
    w.same("it is there before its program", &there.len(), &1);
    let runs = std::fs::read_link(format!("/proc/{}/exe", there[0]))?;
    w.same("and runs nothing of the agent's", &runs, &std::env::current_exe()?);
    drop(prepared);
    w.same("nobody is left who was never told to go", &w.kernel.processes(aid)?, &vec![]);
    w.kernel.remove_agent(aid).map_err(explain)?;
    let aid = AgentId::new(511, 1);
    w.kernel.create_agent(&new(aid), &[]).map_err(explain)?;
    w.kernel.set_state(aid, AgentState::Active)?;
    let prepared = w.kernel.prepare(aid, launch("/data/exe/busybox", "/")?).map_err(explain)?;
    w.kernel.kill(aid).map_err(explain)?;
    let ended = await_that(|| w.kernel.processes(aid).is_ok_and(|all| all.is_empty()));
    w.same("one that waits can be ended", &ended, &true);
    // Refused, or taken for one that was killed as soon as it ran: its pipes close a little later.
    let _ = prepared.go();
    w.drain();
    let started = w.count(|e| e.kind == EVENT_EXEC && e.aid == aid.0);
    w.same("and its program never runs", &started, &0);
    let others = w.count(|e| e.kind == EVENT_EXEC);
    w.check("as others' do", others > 0, String::new);
    w.kernel.remove_agent(aid).map_err(explain)?;
    Ok(())
}

fn new(aid: AgentId) -> NewAgent {
    NewAgent {
        aid,
        agent: uuid::Uuid::from_u128(aid.slot().into()),
        parent: AgentId::NOBODY,
        tenant: "test".to_owned(),
        weight: 100,
        ram_max: None,
        swap_max: None,
        pids_max: None,
        may_spawn: false,
        strict: false,
        namespaces: OWN,
    }
}

fn launch(program: &str, cwd: &str) -> Result<Launch> {
    let null = || -> Result<OwnedFd> {
        Ok(fs::OpenOptions::new().read(true).write(true).open("/dev/null")?.into())
    };
    Ok(Launch {
        program: fs::File::open(program)?.into(),
        interpreter: None,
        argv: vec![OsString::from(program)],
        env: vec![(OsString::from("A"), OsString::from("b"))],
        cwd: cwd.into(),
        uid: 65534,
        gid: 65534,
        groups: vec![65534],
        stdio: [null()?, null()?, null()?],
    })
}

/// What was opened for appending can be appended to, and nothing else.
fn standard_files(w: &World) -> Result<()> {
    fs::write("/data/log", "earlier")?;
    let log = fs::OpenOptions::new().append(true).open("/data/log")?;
    let a = w.agent_with(&[], AgentId::NOBODY, log.into())?;
    let b = w.outsider()?;
    w.allowed(&a, "write 1");
    w.same("it is appended", &fs::read_to_string("/data/log")?.as_str(), &"earlierhi");
    let refused = [
        ("open /proc/self/fd/1 0", Hook::FileOpen),
        ("open /proc/self/fd/1 1", Hook::FileOpen),
        ("open /data/log 0", Hook::FileOpen),
        ("ftruncate 1", Hook::FileTruncate),
        ("punch 1", Hook::FilePermission),
        ("overwrite 1", Hook::FilePermission),
    ];
    for (line, hook) in refused {
        w.denied(&a, line, EACCES, hook);
    }
    w.allowed(&a, &format!("open /proc/self/fd/1 {}", O_WRONLY | O_APPEND));
    w.allowed(&a, "no-append 1");
    w.denied(&a, "write 1", EACCES, Hook::FilePermission);
    w.allowed(&a, "append 1");
    w.allowed(&a, "write 1");
    let whole = fs::read_to_string("/data/log")?;
    w.same("nothing was cut or overwritten", &whole.as_str(), &"earlierhihi");
    // The control: without a policy the same descriptor does all of it.
    let fd = w.allowed(&b, &format!("open /data/log {}", O_WRONLY | O_APPEND));
    for line in ["overwrite", "ftruncate", "punch"] {
        w.allowed(&b, &format!("{line} {fd}"));
    }
    w.end(&a)?;
    fs::write("/data/lent", "original")?;
    let lent = fs::File::open("/data/lent")?;
    let a = w.agent_with(&[], AgentId::NOBODY, lent.into())?;
    w.allowed(&a, "open /proc/self/fd/1 0");
    w.denied(&a, "open /proc/self/fd/1 1", EACCES, Hook::FileOpen);
    w.denied(&a, "open /proc/self/fd/1 2", EACCES, Hook::FileOpen);
    w.end(&a)
}

/// A child lies below its parent, whose limits hold for both; each is an agent of its own.
fn children(w: &World) -> Result<()> {
    let p = w.agent(&[rule(AgentSignal, KernelScope::Everything), on(FsRead, "/data/ok")])?;
    let parent = p.aid.unwrap_or_default();
    let null = || fs::OpenOptions::new().write(true).open("/dev/null");
    let rules = [rule(AgentSignal, KernelScope::Everything), on(FsRead, "/data/ro")];
    let c = w.agent_with(&rules, parent, null()?.into())?;
    let child = c.aid.unwrap_or_default();
    let g = w.agent_with(&[on(FsRead, "/data/no")], child, null()?.into())?;
    let dirs = [parent, child, g.aid.unwrap_or_default()].map(name);
    let deep = format!("/sys/fs/cgroup/coconut.slice/test/{}", dirs.join("/"));
    w.check("the grandchild lies below both", std::path::Path::new(&deep).exists(), || {
        deep.clone()
    });
    for (actor, own, other) in [
        (&p, "/data/ok/f", "/data/ro/f"),
        (&c, "/data/ro/f", "/data/ok/f"),
        (&g, "/data/no/f", "/data/ro/f"),
    ] {
        w.allowed(actor, &format!("open {own} 0"));
        w.denied(actor, &format!("open {other} 0"), EACCES, Hook::FileOpen);
    }
    w.kernel.freeze(parent)?;
    w.allowed(&c, "open /data/ro/f 0");
    w.kernel.thaw(parent)?;
    let top = w.agent(&[])?;
    let none = w.agent_with(&[], top.aid.unwrap_or_default(), null()?.into());
    w.check("one without the right to has no children", none.is_err(), String::new);
    w.end(&top)?;
    // The parent goes first: what lies below stays until it is empty.
    w.end(&p)?;
    w.allowed(&g, "open /data/no/f 0");
    w.end(&g)?;
    w.end(&c)?;
    let gone = !std::path::Path::new(&cgroup(parent)).exists();
    w.check("nothing is left when the last has ended", gone, String::new);
    Ok(())
}

/// An agent that runs gets room for children: all of it moves a level down, and is what it was.
fn room(w: &World) -> Result<()> {
    let null = || fs::OpenOptions::new().write(true).open("/dev/null");
    let p = w.agent(&[on(FsRead, "/data/ok")])?;
    let parent = p.aid.unwrap_or_default();
    let pidfd = rustix::process::pidfd_open(
        rustix::process::Pid::from_raw(p.pid.cast_signed()).ok_or_else(|| anyhow!("no pid"))?,
        rustix::process::PidfdFlags::empty(),
    )?;
    let open = w.allowed(&p, "open /data/ok/f 0");
    let before = w.kernel.counters(parent)?.denials;
    w.kernel.set_weight(parent, 40)?;
    w.kernel.freeze(parent)?;
    w.kernel.make_room(parent, Some(99)).map_err(explain)?;
    w.kernel.thaw(parent)?;
    let dir = cgroup(parent);
    w.same("its process moved", &w.kernel.processes(parent)?, &vec![p.pid]);
    let own = fs::read_to_string(format!("{dir}/cgroup.procs"))?;
    w.same("nobody is where the limits lie", &own.as_str(), &"");
    let weight = |dir: &str| fs::read_to_string(format!("{dir}/cpu.weight"));
    let inner = format!("{dir}/self");
    w.same("its own work weighs what it does", &weight(&inner)?.trim(), &"40");
    w.kernel.set_weight(parent, 60)?;
    w.same(
        "also with a new weight",
        &[weight(&dir)?, weight(&inner)?],
        &["60\n", "60\n"].map(String::from),
    );
    let limit = fs::read_to_string(format!("{dir}/pids.max"))?;
    w.same("with its new limit", &limit.trim(), &"99");
    w.same("it is known as itself", &w.kernel.agent_of_pidfd(pidfd.as_fd())?, &Some(parent));
    w.allowed(&p, &format!("pread {open}"));
    w.allowed(&p, "open /data/ok/f 0");
    w.denied(&p, "open /data/no/f 0", EACCES, Hook::FileOpen);
    w.check(
        "what it is refused is counted on",
        w.kernel.counters(parent)?.denials > before,
        String::new,
    );
    let c = w.agent_with(&[on(FsRead, "/data/no")], parent, null()?.into())?;
    w.allowed(&c, "open /data/no/f 0");
    w.denied(&c, "open /data/ok/f 0", EACCES, Hook::FileOpen);
    w.kernel.freeze(parent)?;
    w.allowed(&c, "open /data/no/f 0");
    w.kernel.thaw(parent)?;
    w.kernel.make_room(parent, Some(100)).map_err(explain)?;
    w.end(&p)?;
    w.allowed(&c, "open /data/no/f 0");
    w.end(&c)?;
    w.check("nothing is left of both", !std::path::Path::new(&dir).exists(), String::new);
    Ok(())
}

/// A process whose main thread has ended cannot be moved: nothing of the agent is.
fn no_room(w: &World) -> Result<()> {
    let a = w.agent(&[on(FsRead, "/data/ok")])?;
    let aid = a.aid.unwrap_or_default();
    w.allowed(&a, "leaderless");
    let ended = || {
        let all = w.kernel.processes(aid).unwrap_or_default();
        let stat = |pid: &u32| fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        all.len() == 2 && all.iter().any(|pid| stat(pid).contains(") Z "))
    };
    w.check("its other process has lost its main thread", await_that(ended), String::new);
    let before = w.kernel.processes(aid)?;
    w.kernel.freeze(aid)?;
    let refused = w.kernel.make_room(aid, None);
    w.kernel.thaw(aid)?;
    w.check("there is no room then", refused.is_err(), String::new);
    w.same("all are where they were", &w.kernel.processes(aid)?, &before);
    let inner = std::path::Path::new(&cgroup(aid)).join("self");
    w.check("with nothing below", !inner.exists(), String::new);
    w.allowed(&a, "open /data/ok/f 0");
    // Both are found, and end.
    w.end(&a)
}

fn name(aid: AgentId) -> String {
    uuid::Uuid::from_u128(aid.slot().into()).to_string()
}

/// A quarantined agent is refused everything, even what it holds.
fn quarantine(w: &World) -> Result<()> {
    let a = w.agent(&[on(FsRead, "/data/ok")])?;
    let aid = a.aid.unwrap_or_default();
    w.allowed(&a, "open /data/ok/f 0");
    w.kernel.set_state(aid, AgentState::Quarantined)?;
    w.kernel.freeze(aid)?;
    w.drain();
    let uses = || w.count(|e| e.aid == aid.0 && e.kind == EVENT_USE);
    let before = uses();
    a.start("open /data/ok/f 0");
    std::thread::sleep(std::time::Duration::from_millis(30));
    w.kernel.thaw(aid)?;
    // Its answer cannot leave either: reading the next command and writing are refused.
    let quarantine = abi::event::Hook::Quarantine as u32;
    let events = w.await_more(0, |e| e.aid == aid.0 && e.hook == quarantine);
    w.check("a quarantined agent is refused everything", events >= 1, || format!("{events}"));
    w.same("also what it holds", &uses(), &before);
    w.end(&a)
}
