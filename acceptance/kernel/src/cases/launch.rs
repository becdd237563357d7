//! From clone to program: what the agent is left with, and what is left of a failure.

use crate::world::{World, explain, on};
use abi::Capability::FsRead;
use abi::{AgentId, AgentState};
use anyhow::Result;
use kernel::{Launch, NewAgent, SpawnStep};
use std::ffi::OsString;
use std::fs;
use std::os::fd::OwnedFd;

pub fn run(w: &World) -> Result<()> {
    alone(w)?;
    failures(w)?;
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

fn cgroup(aid: AgentId) -> String {
    format!("/sys/fs/cgroup/coconut.slice/test/{}", uuid::Uuid::from_u128(aid.slot().into()))
}

/// Each failure names its step and leaves no process.
fn failures(w: &World) -> Result<()> {
    let cases = [
        ("/data/nowhere", "/", SpawnStep::Exec),
        ("/data/no/busybox", "/", SpawnStep::Exec),
        ("/coconut-kernel-tests", "/nowhere", SpawnStep::Chdir),
    ];
    for (n, (program, cwd, want)) in (500u32..).zip(cases) {
        let aid = AgentId::new(n, 1);
        w.kernel.create_agent(&new(aid)).map_err(explain)?;
        w.kernel.set_state(aid, AgentState::Active)?;
        let result = w.kernel.launch(aid, launch(program, cwd)?);
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
    }
}

fn launch(program: &str, cwd: &str) -> Result<Launch> {
    let null = || -> Result<OwnedFd> {
        Ok(fs::OpenOptions::new().read(true).write(true).open("/dev/null")?.into())
    };
    Ok(Launch {
        argv: vec![OsString::from(program)],
        env: vec![(OsString::from("A"), OsString::from("b"))],
        cwd: cwd.into(),
        uid: 65534,
        gid: 65534,
        groups: vec![65534],
        stdio: [null()?, null()?, null()?],
        tmp_size: 1 << 20,
    })
}

/// A quarantined agent is refused everything, even what it holds.
fn quarantine(w: &World) -> Result<()> {
    let a = w.agent(&[on(FsRead, "/data/ok")])?;
    let aid = a.aid.unwrap_or_default();
    w.allowed(&a, "open /data/ok/f 0");
    w.kernel.set_state(aid, AgentState::Quarantined)?;
    w.kernel.freeze(aid)?;
    a.start("open /data/ok/f 0");
    std::thread::sleep(std::time::Duration::from_millis(30));
    w.kernel.thaw(aid)?;
    // Its answer cannot leave either: reading the next command and writing are refused.
    let quarantine = abi::event::Hook::Quarantine as u32;
    let events = w.await_more(0, |e| e.aid == aid.0 && e.hook == quarantine);
    w.check("a quarantined agent is refused everything", events >= 1, || format!("{events}"));
    w.end(&a)
}
