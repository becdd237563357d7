//! What the policy costs: guest instructions per operation, and from revocation to refusal.
//!
//! With `-icount shift=0` the guest's clock advances one nanosecond an instruction, so elapsed time
//! is a count that repeats to about one percent. Each role runs the same code; `bare` runs before
//! the policy is loaded.
#![allow(unsafe_code)]
#![allow(clippy::undocumented_unsafe_blocks)] // every block is one system call on local memory

use crate::world::{Actor, World, net, on};
use abi::Capability::{FsExec, FsRead, NetConnect};
use anyhow::{Context, Result};
use libc::*;
use std::ffi::CString;
use std::time::Duration;

const DEEP: &str = "/data/ok/a/b/c/d/e/f/deep";
const FLAT: &str = "/data/ok/f";

/// Name, command and how often it is done per round.
const OPERATIONS: [(&str, &str, u32); 8] = [
    ("getpid", "time-getpid", 2000),
    ("open+close, 1 level", "time-open /data/ok/f", 300),
    ("open+close, 7 levels", "time-open /data/ok/a/b/c/d/e/f/deep", 300),
    ("pread, 1 level", "time-pread /data/ok/f", 20_000),
    ("pread, 7 levels", "time-pread /data/ok/a/b/c/d/e/f/deep", 20_000),
    ("connect+close", "time-connect 127.0.0.1 1401", 50),
    ("fork+exit+wait", "time-fork", 20),
    ("fork+exec+wait", "time-exec /data/exe/busybox", 20),
];

/// Measurements that an actor makes on itself: nanoseconds for all rounds, or a negative errno; none for
/// what is no measurement.
pub fn act(name: &str, words: &[&str]) -> Option<i64> {
    let rounds: u32 = words.last().and_then(|w| w.parse().ok()).unwrap_or(1);
    let path = CString::new(words.get(1).copied().unwrap_or("")).unwrap_or_default();
    let taken = unsafe {
        match name {
            "time-getpid" => timed(rounds, || syscall(SYS_getpid)),
            "time-open" => timed(rounds, || {
                let fd = open(path.as_ptr(), O_RDONLY);
                close(fd);
                fd.into()
            }),
            "time-pread" => {
                let fd = open(path.as_ptr(), O_RDONLY);
                let mut byte = 0u8;
                timed(rounds, || pread(fd, (&raw mut byte).cast(), 1, 0) as i64)
            }
            "time-connect" => {
                let line = format!("connect {} {}", words[1], words[2]);
                timed(rounds, || {
                    let Ok((mut wire, _)) = std::os::unix::net::UnixStream::pair() else {
                        return -1;
                    };
                    let s = crate::ops::act(&line, &mut wire);
                    close(s as c_int);
                    s
                })
            }
            "time-fork" => timed(rounds, || {
                let pid = fork();
                if pid == 0 {
                    _exit(0);
                }
                waitpid(pid, std::ptr::null_mut(), 0).into()
            }),
            "time-exec" => timed(rounds, || {
                let args = [c"busybox".as_ptr(), c"true".as_ptr(), std::ptr::null()];
                let pid = fork();
                if pid == 0 {
                    execv(path.as_ptr(), args.as_ptr());
                    _exit(126);
                }
                let mut status = 0;
                waitpid(pid, &raw mut status, 0);
                if WEXITSTATUS(status) == 126 { -1 } else { 0 }
            }),
            _ => return None,
        }
    };
    Some(taken)
}

fn timed(rounds: u32, mut once: impl FnMut() -> i64) -> i64 {
    let start = crate::clock();
    for _ in 0..rounds {
        if once() < 0 {
            return crate::uring::answer(-1);
        }
    }
    (crate::clock() - start) as i64
}

/// Prints one line per operation and role, and the latencies.
pub fn run() -> Result<()> {
    crate::cases::lay_out()?;
    // The guest has start-up work of its own for a few seconds.
    std::thread::sleep(Duration::from_secs(4));
    let listener = std::net::TcpListener::bind("127.0.0.1:1401")?;
    std::thread::spawn(move || while listener.accept().is_ok() {});
    let bare = suite(&crate::world::start_outsider()?)?;
    let w = World::new(4 << 20, crate::tally::Tally::default())?;
    // As on a machine that runs: who is no agent is asked more then.
    w.kernel.seal()?;
    let outsider = suite(&w.outsider()?)?;
    let rules =
        [on(FsRead, "/data/ok"), on(FsExec, "/data/exe"), net(NetConnect, "127.0.0.1", 32, 1401)];
    let agent = suite(&w.agent(&rules)?)?;
    println!("BENCH unit: guest instructions per operation (median of 5)");
    for (i, (name, _, _)) in OPERATIONS.iter().enumerate() {
        let ratio = |n: f64| n / bare[i];
        println!(
            "BENCH {name:22} bare {:9.0}  non-agent {:9.0} ({:.2}x)  agent {:9.0} ({:.2}x)",
            bare[i],
            outsider[i],
            ratio(outsider[i]),
            agent[i],
            ratio(agent[i]),
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
    println!("BENCH a new set, assigned, thousands of instructions: {}", spread(&mut taken));
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
