//! What the policy costs: guest instructions per operation, and from revocation to refusal.
//!
//! With `-icount shift=0` the guest's clock advances one nanosecond an instruction, so elapsed time
//! is a count that repeats to about one percent. Each role runs the same code; `bare` and `Landlock`, a process that
//! has held itself to the same rights, run before the policy is loaded.

use crate::world::{Actor, World, net, on};
use abi::Capability::{FsDelete, FsExec, FsRead, FsWrite, NetBind, NetConnect};
use anyhow::{Context, Result, ensure};
use std::time::Duration;

const DEEP: &str = "/data/ok/a/b/c/d/e/f/deep";
const FLAT: &str = "/data/ok/f";

/// Name, command and how often it is done per round.
const OPERATIONS: [(&str, &str, u32); 12] = [
    ("getpid", "time-getpid", 2000),
    ("open, 1 level", "time-open /data/ok/f", 300),
    ("open, 7 levels", "time-open /data/ok/a/b/c/d/e/f/deep", 300),
    ("stat, 1 level", "time-stat /data/ok/f", 300),
    ("pread, 1 level", "time-pread /data/ok/f", 20_000),
    ("pread, 7 levels", "time-pread /data/ok/a/b/c/d/e/f/deep", 20_000),
    ("rename, one folder", "time-rename /data/out/renamed", 300),
    ("pipe, both ways", "time-pipe", 300),
    ("send+recv", "time-datagram 127.0.0.1 1402", 300),
    ("connect+close", "time-connect 127.0.0.1 1401", 50),
    ("fork+exit+wait", "time-fork", 20),
    ("fork+exec+wait", "time-exec /data/exe/busybox", 20),
];

/// Prints one line per operation and role, and the latencies.
pub fn run() -> Result<()> {
    crate::cases::lay_out()?;
    // The guest has start-up work of its own for a few seconds.
    std::thread::sleep(Duration::from_secs(4));
    let listener = std::net::TcpListener::bind("127.0.0.1:1401")?;
    std::thread::spawn(move || while listener.accept().is_ok() {});
    std::fs::write("/data/out/renamed", "")?;
    let bare = suite(&crate::world::start_outsider()?)?;
    let held = crate::world::start_outsider()?;
    let held_to = held.tell("landlock");
    ensure!(held_to > 0, "Landlock: {}", crate::world::show(held_to));
    let landlock = suite(&held)?;
    let w = World::new(4 << 20, crate::tally::Tally::default())?;
    // As on a machine that runs: who is no agent is asked more then.
    w.kernel.seal()?;
    let outsider = suite(&w.outsider()?)?;
    let rules = [
        on(FsRead, "/data/ok"),
        on(FsExec, "/data/exe"),
        on(FsWrite, "/data/out"),
        on(FsDelete, "/data/out"),
        net(NetConnect, "127.0.0.1", 32, 1401),
        net(NetConnect, "127.0.0.1", 32, 1402),
        net(NetBind, "127.0.0.1", 32, 1402),
    ];
    let agent = suite(&w.agent(&rules)?)?;
    println!(
        "BENCH unit: guest instructions per operation (median of 5); Landlock is ABI {held_to}"
    );
    for (i, (name, _, _)) in OPERATIONS.iter().enumerate() {
        let beside = |n: f64| format!("{n:9.0} ({:.2}x)", n / bare[i]);
        println!(
            "BENCH {name:18} bare {:9.0}  Landlock {}  non-agent {}  agent {}",
            bare[i],
            beside(landlock[i]),
            beside(outsider[i]),
            beside(agent[i]),
        );
    }
    revocation(&w)?;
    taking(&w)?;
    spawn(&w)
}

fn suite(actor: &Actor) -> Result<Vec<f64>> {
    OPERATIONS.iter().map(|(name, command, rounds)| median(actor, name, command, *rounds)).collect()
}

fn median(actor: &Actor, name: &str, command: &str, rounds: u32) -> Result<f64> {
    let mut all = Vec::new();
    for _ in 0..5 {
        let total = actor.tell(&format!("{command} {rounds}"));
        let total = u64::try_from(total)
            .ok()
            .with_context(|| format!("{name}: {}", crate::world::show(total)))?;
        all.push(total as f64 / f64::from(rounds));
        std::thread::sleep(Duration::from_millis(100));
    }
    all.sort_by(f64::total_cmp);
    Ok(all[2])
}

/// From the call that revokes to the first refused read, seen by the agent.
fn revocation(w: &World) -> Result<()> {
    let mut seen = Vec::new();
    for _ in 0..20 {
        let a = w.agent(&[on(FsRead, "/data/ok")])?;
        let fd = a.tell(&format!("open {FLAT} 0"));
        a.tell(&format!("open {DEEP} 0"));
        a.start(&format!("spin-read {fd}"));
        std::thread::sleep(Duration::from_millis(20));
        let start = crate::clock();
        w.apply(&a, &[])?;
        let refused = a.hear();
        seen.push((refused - start as i64) as f64 / 1000.0);
        w.end(&a)?;
    }
    println!("BENCH revocation to first refused read, us: {}", spread(&mut seen));
    Ok(())
}

/// Taking one right of two from an agent that sleeps: its new set, its new list, whether it has mapped any.
fn taking(w: &World) -> Result<()> {
    let mut taken = Vec::new();
    for _ in 0..20 {
        let a = w.agent(&[on(FsRead, "/data/ok"), on(FsExec, "/data/exe")])?;
        std::thread::sleep(Duration::from_millis(20));
        let start = crate::clock();
        w.apply(&a, &[on(FsExec, "/data/exe")])?;
        taken.push((crate::clock() - start) as f64 / 1000.0);
        w.end(&a)?;
    }
    println!("BENCH a new set, assigned, us: {}", spread(&mut taken));
    Ok(())
}

/// From the first call of the daemon to the program's `execve`, and the parts.
fn spawn(w: &World) -> Result<()> {
    let rules = [on(FsRead, "/data/ok"), on(FsExec, "/data/exe")];
    let mut whole = Vec::new();
    for _ in 0..20 {
        let start = crate::clock();
        let a = w.agent(&rules)?;
        whole.push((crate::clock() - start) as f64 / 1000.0);
        w.end(&a)?;
    }
    println!("BENCH create, apply and launch an agent, us: {}", spread(&mut whole));
    Ok(())
}

fn spread(all: &mut [f64]) -> String {
    all.sort_by(f64::total_cmp);
    let (first, middle, last) = (all[0], all[all.len() / 2], all[all.len() - 1]);
    format!("min {first:.1} median {middle:.1} max {last:.1}")
}
