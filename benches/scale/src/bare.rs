//! The same sleeping program without Coconut: alone, in bwrap's box, in a cgroup of its own.

use crate::daemon::Daemon;
use crate::memory::Memory;
use anyhow::{Context as _, Result, ensure};
use serde::Serialize;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// What everybody runs.
pub const SLEEP: [&str; 2] = ["/usr/bin/sleep", "infinity"];

/// What so many of one kind cost.
#[derive(Clone, Debug, Serialize)]
pub struct Beside {
    /// For the table.
    pub name: String,
    /// How many ran at once.
    pub runs: u32,
    /// KiB that each holds.
    pub kib_each: f64,
    /// The same by use; sums up to `kib_each`.
    pub parts: Vec<(String, f64)>,
    /// KiB of reclaimable slab each, not part of the above.
    pub slab_reclaimable: f64,
}

impl Beside {
    /// The difference of two moments, for each of `runs`.
    pub fn between(name: &str, runs: u32, before: &Memory, after: &Memory) -> Self {
        let each = |kib: i64| kib as f64 / f64::from(runs.max(1));
        let parts = before.parts().into_iter().zip(after.parts());
        Self {
            name: name.to_owned(),
            runs,
            kib_each: each(after.held - before.held),
            parts: parts.map(|((what, b), (_, a))| (what.to_owned(), each(a - b))).collect(),
            slab_reclaimable: each(after.slab_reclaimable - before.slab_reclaimable),
        }
    }
}

/// Alone, and in a cgroup of its own.
///
/// # Errors
/// When the bare program cannot be started.
pub fn processes(runs: u32) -> Result<Vec<Beside>> {
    let kinds: [Kind; 2] = [("a process", process), ("in its own cgroup", in_cgroup)];
    let all: Result<Vec<Beside>> = kinds.into_iter().map(|kind| measure(runs, kind)).collect();
    all.context("not even a bare process could be measured")
}

/// In bwrap's box. To be measured last: each box is several superblocks, and what so many of them at once
/// cost every memory cgroup is kept until the machine restarts.
pub fn boxes(runs: u32) -> Option<Beside> {
    match measure(runs, ("in bwrap", in_bwrap)) {
        Ok(row) => Some(row),
        Err(error) => {
            println!("in bwrap: not measured: {error:#}");
            None
        }
    }
}

type Kind = (&'static str, fn(u32) -> Result<Started>);

fn measure(runs: u32, (name, start): Kind) -> Result<Beside> {
    let daemon = Daemon::new()?;
    let before = Memory::now(&daemon)?;
    let started: Vec<Started> = (0..runs).map(start).collect::<Result<_>>()?;
    settled(&started)?;
    let row = Beside::between(name, runs, &before, &Memory::now(&daemon)?);
    println!("{runs} × {name}: {:.0} KiB each", row.kib_each);
    Ok(row)
}

/// A process that sleeps; it ends when this is dropped, and its cgroup with it.
struct Started {
    child: Child,
    cgroup: Option<PathBuf>,
}

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(cgroup) = &self.cgroup {
            let _ = fs::remove_dir(cgroup);
            // Gone with the last one.
            let _ = cgroup.parent().map(fs::remove_dir);
        }
    }
}

fn spawn(command: &mut Command) -> Result<Child> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().with_context(|| format!("cannot start {:?}", command.get_program()))
}

fn process(_: u32) -> Result<Started> {
    Ok(Started { child: spawn(Command::new(SLEEP[0]).arg(SLEEP[1]))?, cgroup: None })
}

/// With the controllers that an agent's cgroup has.
fn in_cgroup(n: u32) -> Result<Started> {
    let top = Path::new("/sys/fs/cgroup/coconut-scale-bare");
    if n == 0 {
        fs::create_dir_all(top)?;
        fs::write(top.join("cgroup.subtree_control"), "+cpu +memory +pids")?;
    }
    let cgroup = top.join(n.to_string());
    fs::create_dir_all(&cgroup)?;
    fs::write(cgroup.join("memory.max"), "67108864")?;
    let mut started = process(n)?;
    started.cgroup = Some(cgroup.clone());
    fs::write(cgroup.join("cgroup.procs"), started.child.id().to_string())?;
    Ok(started)
}

fn in_bwrap(_: u32) -> Result<Started> {
    let options = ["--unshare-all", "--die-with-parent", "--ro-bind", "/", "/"];
    let mounts = ["--dev", "/dev", "--proc", "/proc", "--tmpfs", "/tmp"];
    let mut command = Command::new("bwrap");
    Ok(Started { child: spawn(command.args(options).args(mounts).args(SLEEP))?, cgroup: None })
}

/// Every process has reached its sleep: what it maps until then is part of its cost.
fn settled(started: &[Started]) -> Result<()> {
    for one in started {
        let pid = one.child.id();
        while !sleeps(pid)? {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
    Ok(())
}

/// `sleep` itself, or the `sleep` below a bwrap.
fn sleeps(pid: u32) -> Result<bool> {
    let at = format!("/proc/{pid}");
    let state = fs::read_to_string(format!("{at}/stat"))
        .with_context(|| format!("process {pid} has ended"))?;
    ensure!(!state.contains(") Z "), "process {pid} has ended");
    if fs::read_to_string(format!("{at}/comm"))?.trim() == "sleep" {
        return Ok(state.contains(") S "));
    }
    let below = fs::read_to_string(format!("{at}/task/{pid}/children")).unwrap_or_default();
    for child in below.split_whitespace().filter_map(|word| word.parse().ok()) {
        // It may be between two programs.
        if sleeps(child).unwrap_or(false) {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_shared_by_all() {
        let before = Memory { held: 1000, slab: 400, ..Memory::default() };
        let after = Memory { held: 3000, slab: 1400, page_tables: 500, ..Memory::default() };
        let row = Beside::between("x", 10, &before, &after);
        assert!((row.kib_each - 200.0).abs() < 1e-9);
        let of = |name: &str| row.parts.iter().find(|(n, _)| n == name).unwrap().1;
        assert!((of("kernel objects (slab)") - 100.0).abs() < 1e-9);
        assert!((of("page tables") - 50.0).abs() < 1e-9);
    }
}
