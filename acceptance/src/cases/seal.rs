//! The seal: not even root outside every agent can load, unload, blind or end the policy.

use super::Case;
use crate::world::{PATIENCE, World};
use anyhow::{Context as _, Result, bail, ensure};
use demo::control::{Process, User};
use probe::Outcome;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The table.
pub const CASES: &[Case] = &[
    Case { name: "seal.bpf", promise: "root outside may not call `bpf()`", run: bpf },
    Case {
        name: "seal.pins",
        promise: "root outside cannot remove or rename what is pinned",
        run: pins,
    },
    Case { name: "seal.bpffs", promise: "root outside cannot unmount or cover bpffs", run: bpffs },
    Case {
        name: "seal.kill",
        promise: "root outside cannot kill the daemon, by signal or by its cgroup",
        run: kill,
    },
    Case {
        name: "seal.trace",
        promise: "root outside cannot trace the daemon or read its memory",
        run: trace,
    },
    Case {
        name: "seal.cgroups",
        promise: "a process that root moves out of its agent does not live; nobody changes an agent's cgroup",
        run: cgroups,
    },
    Case { name: "seal.stop", promise: "the daemon cannot be stopped by hand", run: stop },
    Case {
        name: "seal.recorded",
        promise: "every attempt on the seal is on record",
        run: recorded,
    },
];

/// One attempt by an ordinary process of root.
fn as_root(world: &World, attempt: &str) -> Result<Outcome> {
    let args = ["try".to_owned(), attempt.to_owned()];
    let process = Process::start(User::ROOT, &world.ctx.probe, &args, None)?;
    process.json(PATIENCE).with_context(|| attempt.to_owned())
}

fn daemon(world: &World) -> Result<u32> {
    let value: serde_json::Value = world.ctx.coconut.json(&["doctor"])?;
    let pid = value["daemon"]["pid"].as_u64().or_else(|| value["status"]["pid"].as_u64());
    if let Some(pid) = pid {
        return Ok(pid as u32);
    }
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let comm = std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        if comm.trim() == "coconutd"
            && let Ok(pid) = entry.file_name().to_string_lossy().parse()
        {
            return Ok(pid);
        }
    }
    bail!("there is no process coconutd")
}

fn alive(world: &World, pid: u32) -> Result<()> {
    ensure!(Path::new(&format!("/proc/{pid}")).exists(), "the daemon is dead");
    world.expect(0, &["ps"])?;
    Ok(())
}

/// A process that stands where the daemon would: the control's victim.
fn bystander(world: &World) -> Result<Process> {
    let process = Process::start(User::ROOT, &world.ctx.probe, &["sleep".to_owned()], None)?;
    process.lines.next(PATIENCE)?.context("the control did not start")?;
    Ok(process)
}

fn bpf(world: &World) -> Result<String> {
    let pin = a_pin()?;
    for attempt in
        ["bpf-list".to_owned(), "bpf-map".to_owned(), format!("bpf-pin={}", pin.display())]
    {
        let seen = as_root(world, &attempt)?;
        ensure!(seen.errno.as_deref() == Some("EPERM"), "{attempt}: {}", seen.short());
    }
    // The control: the daemon's own bpf() still works, so what was refused was the caller.
    let file = world.file("after-seal.txt", "text\n")?;
    let agent = world.probe("maya", &[], &["sleep"])?;
    agent.lines.next(PATIENCE)?.with_context(|| agent.complaints())?;
    world.expect(0, &["cap", "grant", &agent.name, &format!("fs.read={file}")])?;
    Ok("(list, make, open a pin)".to_owned())
}

fn a_pin() -> Result<PathBuf> {
    let mut dirs = vec![PathBuf::from("/sys/fs/bpf/coconut")];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(&dir).with_context(|| dir.display().to_string())?.flatten() {
            match entry.file_type()?.is_dir() {
                true => dirs.push(entry.path()),
                false => return Ok(entry.path()),
            }
        }
    }
    bail!("nothing is pinned in /sys/fs/bpf/coconut")
}

fn refused(what: &str, result: std::io::Result<()>) -> Result<()> {
    match result {
        Ok(()) => bail!("{what} worked"),
        Err(error) => {
            let denied = [Some(1), Some(13)].contains(&error.raw_os_error());
            ensure!(denied, "{what}: {error}, which is no refusal");
            Ok(())
        }
    }
}

fn pins(world: &World) -> Result<String> {
    let pin = a_pin()?;
    refused("unlinking a pin", std::fs::remove_file(&pin))?;
    refused("renaming a pin", std::fs::rename(&pin, pin.with_extension("moved")))?;
    ensure!(pin.exists(), "the pin is gone");
    let control = world.file("unpinned", "")?;
    std::fs::rename(&control, format!("{control}.moved")).context("the control cannot rename")?;
    std::fs::remove_file(format!("{control}.moved")).context("the control cannot unlink")?;
    Ok(String::new())
}

fn bpffs(world: &World) -> Result<String> {
    let bpffs = Path::new("/sys/fs/bpf");
    let seen = as_root(world, "umount=/sys/fs/bpf")?;
    ensure!(seen.errno.as_deref() == Some("EPERM"), "umount: {}", seen.short());
    let covered = mount(bpffs);
    if covered.is_ok() {
        let _ = Command::new("umount").arg(bpffs).status();
        bail!("it could be covered by another mount");
    }
    ensure!(a_pin().is_ok(), "the pins are gone");
    let dir = world.ctx.work.join("mounted");
    std::fs::create_dir_all(&dir)?;
    mount(&dir).context("the control cannot mount")?;
    let seen = as_root(world, &format!("umount={}", dir.display()))?;
    ensure!(seen.ok, "the control cannot unmount: {}", seen.short());
    Ok(String::new())
}

fn mount(dir: &Path) -> Result<()> {
    let done = Command::new("mount").args(["-t", "tmpfs", "none"]).arg(dir).output()?;
    ensure!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    Ok(())
}

fn signal(pid: u32) -> std::io::Result<()> {
    use rustix::process::{Pid, Signal, kill_process};
    let pid = Pid::from_raw(pid as i32).ok_or_else(|| std::io::Error::other("no pid"))?;
    Ok(kill_process(pid, Signal::KILL)?)
}

fn cgroup_of(pid: u32) -> Result<PathBuf> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    let path = text.lines().find_map(|l| l.strip_prefix("0::/")).context("no cgroup v2")?;
    Ok(Path::new("/sys/fs/cgroup").join(path))
}

fn kill(world: &World) -> Result<String> {
    let pid = daemon(world)?;
    refused("kill -9 of the daemon", signal(pid))?;
    let cgroup = cgroup_of(pid)?;
    refused("cgroup.kill of the daemon", std::fs::write(cgroup.join("cgroup.kill"), "1"))?;
    refused("freezing the daemon", std::fs::write(cgroup.join("cgroup.freeze"), "1"))?;
    alive(world, pid)?;
    let control = bystander(world)?;
    signal(control.pid).context("the control cannot kill")?;
    ensure!(control.end()? == 137, "the control's victim lives");
    let dir = Path::new("/sys/fs/cgroup/coconut-acceptance");
    std::fs::create_dir_all(dir)?;
    std::fs::write(dir.join("cgroup.kill"), "1").context("the control cannot cgroup.kill")?;
    std::fs::remove_dir(dir)?;
    Ok(String::new())
}

fn trace(world: &World) -> Result<String> {
    let pid = daemon(world)?;
    for attempt in [
        format!("ptrace={pid},4096"),
        format!("proc-mem={pid},4096,8"),
        format!("pidfd-getfd={pid},0"),
        format!("proc-environ={pid}"),
    ] {
        let seen = as_root(world, &attempt)?;
        let denied = ["EPERM", "EACCES"].contains(&seen.errno.as_deref().unwrap_or_default());
        ensure!(denied, "{attempt}: {}", seen.short());
    }
    alive(world, pid)?;
    let control = bystander(world)?;
    for attempt in
        [format!("proc-environ={}", control.pid), format!("pidfd-getfd={},1", control.pid)]
    {
        let seen = as_root(world, &attempt)?;
        // Reading from a copied pipe fails; that the descriptor was had is the harm.
        ensure!(
            seen.ok || seen.errno.as_deref() == Some("ESPIPE"),
            "control {attempt}: {}",
            seen.short()
        );
    }
    Ok(String::new())
}

fn cgroups(world: &World) -> Result<String> {
    let agent = world.probe("maya", &[], &["sleep"])?;
    agent.lines.next(PATIENCE)?.with_context(|| agent.complaints())?;
    let detail = world.ctx.coconut.show(&agent.name)?;
    let (pid, cgroup) =
        (detail.agent.pid.context("it has no process")?, PathBuf::from(&detail.cgroup));
    let root = Path::new("/sys/fs/cgroup/cgroup.procs");
    refused("lifting its memory limit", std::fs::write(cgroup.join("memory.max"), "max"))?;
    refused("making a cgroup within", std::fs::create_dir(cgroup.join("within")))?;
    // A move is not refused: who is moved does not live to run one instruction outside.
    if std::fs::write(root, pid.to_string()).is_ok() {
        world.until("the end of the moved process", || {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            Ok(stat.is_empty() || stat.contains(") Z "))
        })?;
    }
    let control = bystander(world)?;
    std::fs::write(root, control.pid.to_string()).context("the control cannot move a process")?;
    Ok(String::new())
}

fn stop(world: &World) -> Result<String> {
    let pid = daemon(world)?;
    let done = Command::new("systemctl").args(["stop", "coconutd.service"]).output()?;
    ensure!(!done.status.success(), "systemctl stopped it");
    alive(world, pid)?;
    Ok(String::from_utf8_lossy(&done.stderr).lines().next().unwrap_or_default().to_owned())
}

fn recorded(world: &World) -> Result<String> {
    let count = || Ok::<_, anyhow::Error>(world.ctx.coconut.records(&["--kind", "seal"])?.len());
    let before = count()?;
    let pid = daemon(world)?;
    refused("kill -9 of the daemon", signal(pid))?;
    as_root(world, "bpf-list")?;
    world.until("both records", || Ok(count()? >= before + 2))?;
    Ok(String::new())
}
