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
    Case {
        name: "seal.signals",
        promise: "root outside cannot have the kernel send the daemon a signal in its place",
        run: signals,
    },
    Case {
        name: "seal.mounts",
        promise: "whatever root mounts over /sys/fs, the daemon reaches its agents",
        run: mounts,
    },
    Case {
        name: "seal.folders",
        promise: "root outside changes nothing of the log, its keys, agents' output or the registry, nor the disk beneath",
        run: super::folders::folders,
    },
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

/// Whether a record is of an attempt on the seal, by this hook of the kernel and by who is named so.
fn is_attempt(detail: &str, hook: &str, who: &str) -> bool {
    let has = |word: &str| detail.split_whitespace().any(|w| w == word);
    has(&format!("op={hook}")) && has(who) && has("errno=EPERM")
}

/// How many such attempts are on record.
fn attempts(world: &World, hook: &str, who: &str) -> Result<usize> {
    let records = world.ctx.coconut.records(&["--kind", "seal"])?;
    Ok(records.iter().filter(|r| is_attempt(&r.detail, hook, who)).count())
}

/// Waits for the record of an attempt that was made after there were so many.
fn on_record(world: &World, what: &str, hook: &str, who: &str, before: usize) -> Result<()> {
    world.until(&format!("the record of {what}"), || Ok(attempts(world, hook, who)? > before))
}

/// Whether an error is the seal's: what fails for another reason shows nothing.
fn is_seal(what: &str, result: &std::io::Result<()>) -> Result<()> {
    match result {
        Ok(()) => bail!("{what} worked"),
        Err(error) => {
            let sealed = error.raw_os_error() == Some(rustix::io::Errno::PERM.raw_os_error());
            ensure!(sealed, "{what}: {error}, which is not the seal's refusal");
            Ok(())
        }
    }
}

/// What this process tries is refused by the seal, and on record as that.
fn refused(
    world: &World,
    what: &str,
    hook: &str,
    attempt: impl FnOnce() -> std::io::Result<()>,
) -> Result<()> {
    let me = format!("pid={}", std::process::id());
    let before = attempts(world, hook, &me)?;
    is_seal(what, &attempt())?;
    on_record(world, what, hook, &me, before)
}

/// The same of what the probe tries as root.
fn refused_as_root(world: &World, hook: &str, attempt: &str) -> Result<()> {
    let before = attempts(world, hook, PROBE)?;
    let seen = as_root(world, attempt)?;
    ensure!(seen.errno.as_deref() == Some("EPERM"), "{attempt}: {}", seen.short());
    on_record(world, attempt, hook, PROBE, before)
}

/// The probe's processes, in records.
const PROBE: &str = "comm=coconut-probe";

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
        refused_as_root(world, "bpf", &attempt)?;
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

fn pins(world: &World) -> Result<String> {
    let pin = a_pin()?;
    refused(world, "unlinking a pin", "path_unlink", || std::fs::remove_file(&pin))?;
    // A bpffs takes no names with dots, from nobody.
    let moved = pin.with_file_name("moved");
    refused(world, "renaming a pin", "path_unlink", || std::fs::rename(&pin, &moved))?;
    ensure!(pin.exists(), "the pin is gone");
    let control = world.file("unpinned", "")?;
    std::fs::rename(&control, format!("{control}.moved")).context("the control cannot rename")?;
    std::fs::remove_file(format!("{control}.moved")).context("the control cannot unlink")?;
    Ok(String::new())
}

fn bpffs(world: &World) -> Result<String> {
    let bpffs = Path::new("/sys/fs/bpf");
    refused_as_root(world, "sb_umount", "umount=/sys/fs/bpf")?;
    let before = attempts(world, "sb_mount", "comm=mount")?;
    if mount(bpffs).is_ok() {
        let _ = Command::new("umount").arg(bpffs).status();
        bail!("it could be covered by another mount");
    }
    on_record(world, "the mount over it", "sb_mount", "comm=mount", before)?;
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
    refused(world, "kill -9 of the daemon", "task_kill", || signal(pid))?;
    let cgroup = cgroup_of(pid)?;
    for file in ["cgroup.kill", "cgroup.freeze"] {
        let what = format!("{file} of the daemon");
        refused(world, &what, "cgroup_write", || std::fs::write(cgroup.join(file), "1"))?;
    }
    alive(world, pid)?;
    let control = bystander(world)?;
    signal(control.pid).context("the control cannot kill")?;
    ensure!(control.end()? == 137, "the control's victim lives");
    let dir = Path::new("/sys/fs/cgroup/coconut-acceptance-kill");
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
    let limit = || std::fs::write(cgroup.join("memory.max"), "max");
    refused(world, "lifting its memory limit", "cgroup_write", limit)?;
    let within = || std::fs::create_dir(cgroup.join("within"));
    refused(world, "making a cgroup within", "path_unlink", within)?;
    // The controls: in a cgroup that is no agent's, root does both.
    let own = Path::new("/sys/fs/cgroup/coconut-acceptance");
    std::fs::create_dir_all(own.join("within")).context("the control cannot make cgroups")?;
    std::fs::write(own.join("cgroup.freeze"), "0").context("the control cannot write to one")?;
    moved(world, pid, own)?;
    std::fs::remove_dir(own.join("within"))?;
    std::fs::remove_dir(own)?;
    Ok(String::new())
}

/// A move is not refused: who is moved does not live to run one instruction outside. A write that
/// fails moves nobody, and a process that ends by itself would look the same.
fn moved(world: &World, pid: u32, own: &Path) -> Result<()> {
    let root = Path::new("/sys/fs/cgroup/cgroup.procs");
    let me = format!("pid={}", std::process::id());
    let control = bystander(world)?;
    for procs in [own.join("cgroup.procs"), root.to_owned()] {
        std::fs::write(&procs, control.pid.to_string()).context("the control cannot move")?;
    }
    ensure!(lives(pid), "the agent's process had ended before it was moved");
    let before = attempts(world, "cgroup_move", &me)?;
    std::fs::write(root, pid.to_string()).context("nobody was moved: the write failed")?;
    world.until("the end of the moved process", || Ok(!lives(pid)))?;
    on_record(world, "the move", "cgroup_move", &me, before)?;
    ensure!(lives(control.pid), "the control: whoever is moved ends, agent or not");
    Ok(())
}

/// Makes a process the owner of a pipe that becomes ready: the kernel sends the signal, and knows nothing of who wrote.
const OWNER: &str = "
import fcntl, os, sys
r, w = os.pipe()
fcntl.fcntl(r, fcntl.F_SETOWN, int(sys.argv[1]))
fcntl.fcntl(r, 10, int(sys.argv[2])) # F_SETSIG
fcntl.fcntl(r, fcntl.F_SETFL, os.O_ASYNC)
os.write(w, b'x')
";

fn has_sent(pid: u32, signal: rustix::process::Signal) -> Result<()> {
    let (pid, signal) = (pid.to_string(), signal.as_raw().to_string());
    let done = Command::new("/usr/bin/python3").args(["-c", OWNER, &pid, &signal]).output()?;
    ensure!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    Ok(())
}

fn signals(world: &World) -> Result<String> {
    use rustix::process::Signal;
    let pid = daemon(world)?;
    for signal in [Signal::STOP, Signal::KILL] {
        let before = attempts(world, "file_sigio", PYTHON)?;
        has_sent(pid, signal)?;
        alive(world, pid)?;
        on_record(world, "the kernel's signal", "file_sigio", PYTHON, before)?;
    }
    let control = bystander(world)?;
    has_sent(control.pid, Signal::KILL)?;
    world.until("the end of the control's victim", || Ok(!lives(control.pid)))?;
    Ok(String::new())
}

/// Python's processes, in records.
const PYTHON: &str = "comm=python3";

/// Takes a mount away again.
struct Mounted(&'static str);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0).status();
    }
}

fn mounts(world: &World) -> Result<String> {
    let agent = world.probe("maya", &[], &["sleep"])?;
    agent.lines.next(PATIENCE)?.with_context(|| agent.complaints())?;
    let seen = || Path::new("/sys/fs/cgroup/coconut.slice").exists();
    ensure!(seen(), "there are no control groups to be covered");
    mount(Path::new("/sys/fs"))?;
    let covered = Mounted("/sys/fs");
    // The control: whoever goes by the path finds nothing.
    ensure!(!seen(), "the mount covers nothing");
    world.expect(0, &["quarantine", &agent.name])?;
    world.expect(0, &["release", &agent.name])?;
    world.expect(0, &["kill", &agent.name])?;
    drop(covered);
    ensure!(seen(), "the mount is still there");
    Ok(String::new())
}

/// It is there, and no zombie.
fn lives(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ")
}

fn recorded(world: &World) -> Result<String> {
    let pid = daemon(world)?;
    let me = format!("pid={}", std::process::id());
    let before = attempts(world, "task_kill", &me)?;
    for _ in 0..3 {
        is_seal("kill -9 of the daemon", &signal(pid))?;
    }
    // Another attempt comes after them: once it is there, so must they be, each once.
    refused_as_root(world, "bpf", "bpf-list")?;
    let told = || Ok::<_, anyhow::Error>(attempts(world, "task_kill", &me)? - before);
    world.until("the three records", || Ok(told()? >= 3))?;
    ensure!(told()? == 3, "{} records of three attempts", told()?);
    Ok(String::new())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Error;

    #[test]
    fn only_the_seals_own_refusal_counts() {
        assert!(is_seal("a write", &Err(Error::from_raw_os_error(1))).is_ok());
        for other in [2, 3, 13, 16, 22, 30] {
            assert!(is_seal("a write", &Err(Error::from_raw_os_error(other))).is_err(), "{other}");
        }
        assert!(is_seal("a write", &Ok(())).is_err());
    }

    #[test]
    fn a_record_is_of_the_attempt_and_of_no_other() {
        let detail = "op=task_kill comm=coconut-probe pid=7 errno=EPERM";
        assert!(is_attempt(detail, "task_kill", "pid=7"));
        assert!(is_attempt(detail, "task_kill", PROBE));
        assert!(!is_attempt(detail, "task", "pid=7"));
        assert!(!is_attempt(detail, "task_kill", "pid=77"));
        assert!(!is_attempt("op=task_kill comm=x pid=7", "task_kill", "pid=7"));
    }

    #[test]
    fn who_has_ended_does_not_live() {
        let mut child = Command::new("sleep").arg("600").spawn().unwrap();
        assert!(lives(child.id()));
        child.kill().unwrap();
        while lives(child.id()) {}
        child.wait().unwrap();
        assert!(!lives(child.id()));
    }
}
