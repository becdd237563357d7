//! The policy alone, in an initramfs: every scenario with its control, and what it costs.
//!
//! Run by `acceptance/kernel/run`. Without arguments every group of cases; with arguments those;
//! with `bench` the measurements. As `actor` it is the program inside the agents.

mod actor;
mod address;
mod adopt;
mod bench;
mod board;
mod cases;
mod child;
mod code;
mod hostile;
mod landlock;
mod measure;
mod misses;
mod ops;
mod racer;
mod tally;
mod uring;
mod world;

use anyhow::Result;
use tally::Tally;
use world::World;

/// The ring is small, so that filling it does not take long.
const RING_BYTES: u32 = 1 << 20;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("actor") => actor::serve(actor::act),
        Some("daemon") => adopt::daemon::serve(),
        Some("orphan") => adopt::daemon::orphan(&arguments[1], &arguments[2])?,
        Some("bench") => bench::run()?,
        _ => return test(&arguments),
    }
    Ok(())
}

fn test(groups: &[String]) -> Result<()> {
    cases::lay_out()?;
    let wanted = |name: &str| groups.is_empty() || groups.iter().any(|group| group == name);
    // The one that loads, leaves and takes away the policy itself comes before it is there for the others.
    let tally = Tally::default();
    if wanted("adopt") {
        println!("-- adopt");
        if let Err(error) = adopt::run(&tally) {
            tally.check("adopt", false, || format!("{error:#}"));
        }
    }
    if groups.iter().all(|group| group == "adopt") && !groups.is_empty() {
        return close(&tally);
    }
    let world = World::new(RING_BYTES, tally)?;
    for name in world.kernel.weaker() {
        println!("note: this kernel has no place for {name}");
    }
    for (name, group) in cases::GROUPS {
        if wanted(name) {
            println!("-- {name}");
            let before = world.tally.count();
            if let Err(error) = group(&world) {
                world.check(name, false, || format!("{error:#}"));
            }
            if world.tally.count() == before {
                world.check(name, false, || "it checked nothing".to_owned());
            }
        }
    }
    close(&world.tally)
}

fn close(tally: &Tally) -> Result<()> {
    let (passed, failed) = tally.count();
    println!("{passed} passed, {failed} failed");
    std::process::exit(i32::from(failed > 0));
}

/// `CLOCK_MONOTONIC` in nanoseconds.
#[allow(unsafe_code)]
fn clock() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the answer goes into a live local variable.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    /// How `verdict.py` closes a run whose console said this.
    fn verdict(console: &str) -> (String, bool) {
        let here = concat!(env!("CARGO_MANIFEST_DIR"), "/");
        let mut python = Command::new("python3")
            .args([format!("{here}verdict.py"), format!("{here}known-failing.txt")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        python.stdin.take().unwrap().write_all(console.as_bytes()).unwrap();
        let done = python.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&done.stdout).into_owned();
        (text.lines().last().unwrap_or_default().to_owned(), done.status.success())
    }

    #[test]
    fn a_run_counts_only_with_its_own_end() {
        let closed = |console| verdict(console);
        assert_eq!(closed("PASS a\nstatus 0\n"), ("1 passed, 0 failed".to_owned(), true));
        for broken in [
            "PASS a\n",
            "PASS a\nKilled\nstatus 137\n",
            "PASS a\nstatus 1\n",
            "PASS a\nFAIL b: c\nstatus 1\n",
        ] {
            assert_eq!(closed(broken), ("1 passed, 1 failed".to_owned(), false), "{broken}");
        }
    }
}
