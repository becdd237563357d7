//! Names and rights that change while they are used: whatever is tried at once, nothing comes through to which there was
//! no right.
//!
//! A process of several threads renames, exchanges, links and removes what is its own, and tries by every name and call to
//! read what is not, while from outside a right comes and goes, a folder is moved in and out, and two folders change places.
//! What counts is what was read (`board`). More tries, and the same once more: `run races,tries=1000000,seed=7`.

use crate::board::{Board, Secret, Sum};
use crate::world::{Actor, Given, World, explain, on};
use abi::AgentId;
use abi::Capability::{FsCreate, FsDelete, FsExec, FsRead, FsWrite};
use anyhow::{Context as _, Result};
use kernel::{Kernel, SetId};
use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Tries without being asked for more.
const TRIES: u64 = 50_000;
/// Of the control, which shows the harm with few; so often again until it has shown each way.
const CONTROL: u64 = 10_000;
const CONTROLS: u64 = 30;
/// Tries between two answers: they take seconds, a silent actor is given up after minutes.
const ROUND: u64 = 5_000;
const THREADS: u64 = 4;

pub fn run(w: &World) -> Result<()> {
    let clock = crate::clock();
    let (tries, seed) = (option("tries").unwrap_or(TRIES), option("seed").unwrap_or(clock));
    println!("note: races with seed={seed}");
    agent_races(w, tries, seed)?;
    control_races(w, seed)
}

/// A number of the command line: `tries=1000000`.
fn option(name: &str) -> Option<u64> {
    let mut words = std::env::args();
    words.find_map(|word| word.strip_prefix(name)?.strip_prefix('=')?.parse().ok())
}

/// The folders: `ok` is the racers' own, `in` and `door` they may read, `some` now and then, `no` and `vault` never.
fn lay_out(folder: &str) -> Result<()> {
    for dir in ["ok/a/deep", "ok/b", "ok/d", "ok/x", "no/box", "some", "in", "door", "vault", "exe"]
    {
        fs::create_dir_all(format!("{folder}/{dir}"))?;
    }
    let texts: [(&str, &[u8; 8]); 6] = [
        ("no/secret", Secret::NEVER),
        ("vault/secret", Secret::NEVER),
        ("some/secret", Secret::SOME),
        ("no/box/secret", Secret::MOVED),
        ("ok/d/secret", b"a decoy."),
        ("door/secret", b"a decoy."),
    ];
    for (file, text) in texts.into_iter().chain([("ok/f", b"its own."), ("ok/g", b"its own.")]) {
        fs::write(format!("{folder}/{file}"), text)?;
    }
    std::os::unix::fs::symlink("../no", format!("{folder}/ok/l"))?;
    fs::copy("/bin/busybox", format!("{folder}/exe/busybox"))?;
    for (script, program) in [("no/script", "false"), ("exe/script", "true")] {
        let path = format!("{folder}/{script}");
        fs::write(&path, format!("#!{folder}/exe/busybox {program}\n"))?;
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    }
    Ok(())
}

/// What the racers may at every moment.
fn rights(folder: &str) -> Vec<Given> {
    let at = |capability, name: &str| on(capability, &format!("{folder}/{name}"));
    let own = [FsRead, FsWrite, FsCreate, FsDelete].map(|capability| at(capability, "ok"));
    let read = ["in", "door"].map(|name| at(FsRead, name));
    own.into_iter().chain(read).chain([at(FsExec, "exe")]).collect()
}

fn agent_races(w: &World, tries: u64, seed: u64) -> Result<()> {
    let folder = "/data/races";
    lay_out(folder)?;
    let always = rights(folder);
    let now_and_then = [always.clone(), vec![on(FsRead, &format!("{folder}/some"))]].concat();
    let a = w.agent(&always)?;
    w.counted_only(&a);
    let aid = a.aid.unwrap_or_default();
    let base = w.base()?;
    let sets = [w.set(&always)?, w.set(&now_and_then)?];
    let begun = Instant::now();
    let rights = Rights { kernel: Arc::clone(&w.kernel), aid, sets, base };
    let (sum, turns) = raced(&a, folder, (tries, seed), Some(rights))?;
    let seconds = begun.elapsed().as_secs_f64();
    println!(
        "note: {tries} tries in {seconds:.1} s beside {turns} changes: {} refused, {} of its own, {} while it might, {:?} through",
        sum.refused, sum.own, sum.lawful, sum.through
    );
    // What else might explain that something did.
    for (program, times) in crate::misses::all() {
        println!("note: the kernel left {program} out {times} times");
    }
    w.same("nothing comes through to which there was no right", &sum.through, &[0; 4]);
    // It had what it might have, or it would say little that it had nothing else.
    w.check("what there was a right to was read", sum.own > 0, || format!("{sum:?}"));
    w.check("so was what there was a right to for a while", sum.lawful > 0, || format!("{sum:?}"));
    untouched(w, folder)?;
    recorded(w, &a)?;
    w.apply(&a, &always)?;
    w.end(&a)?;
    for set in sets {
        w.kernel.drop_set(set).map_err(explain)?;
    }
    Ok(())
}

/// As many denials are in the ring as the kernel counted, in whatever order they came about.
fn recorded(w: &World, a: &Actor) -> Result<()> {
    w.drain();
    let counted = w.kernel.counters(a.aid.unwrap_or_default())?.denials;
    let told = || w.denials_of(a);
    crate::world::await_that(|| told() >= counted);
    w.same("each denial of a race is recorded once", &told(), &counted);
    w.check("there were many", counted > 1000, || format!("{counted}"));
    Ok(())
}

/// Nothing was changed, moved or named twice.
fn untouched(w: &World, folder: &str) -> Result<()> {
    use std::os::unix::fs::MetadataExt;
    for (name, text) in [("no/secret", Secret::NEVER), ("some/secret", Secret::SOME)] {
        let path = format!("{folder}/{name}");
        let (links, now) = (fs::metadata(&path)?.nlink(), fs::read(&path)?);
        w.check(&format!("{name} is as it was"), links == 1 && now == text, || {
            format!("{links} names, {now:?}")
        });
    }
    Ok(())
}

/// The same outside of every agent.
fn control_races(w: &World, seed: u64) -> Result<()> {
    let folder = "/data/free-races";
    lay_out(folder)?;
    let b = w.outsider()?;
    let begun = Instant::now();
    let (mut through, mut rounds) = ([0; 4], 0);
    while through.contains(&0) && rounds < CONTROLS {
        let (sum, _) = raced(&b, folder, (CONTROL, seed.wrapping_add(rounds)), None)?;
        through.iter_mut().zip(sum.through).for_each(|(all, one)| *all += one);
        rounds += 1;
    }
    let (seconds, tries) = (begun.elapsed().as_secs_f64(), rounds * CONTROL);
    println!("note: the control: {tries} tries in {seconds:.1} s, {through:?} through");
    let ways = ["what is never given", "what is not given now", "what was moved out", "a program"];
    for (what, reached) in ways.iter().zip(through) {
        w.check(&format!("outside an agent the same reaches {what}"), reached > 0, || {
            format!("{through:?} of {tries}")
        });
    }
    Ok(())
}

/// The agent's rights without and with the one that comes and goes.
struct Rights {
    kernel: Arc<Kernel>,
    aid: AgentId,
    sets: [SetId; 2],
    base: SetId,
}

/// Has the actor race while the rest changes; what came of it, and how often something changed.
fn raced(
    actor: &Actor,
    folder: &str,
    (tries, seed): (u64, u64),
    rights: Option<Rights>,
) -> Result<(Sum, u64)> {
    let (board, fd): (Board, OwnedFd) = Board::make()?;
    actor.start("take-fd");
    actor.hand_over(fd.as_raw_fd())?;
    let theirs = actor.hear();
    anyhow::ensure!(theirs >= 0, "the board did not arrive: {}", crate::world::show(theirs));
    let (board, over) = (Arc::new(board), Arc::new(AtomicBool::new(false)));
    let changing = {
        let (board, over, folder) = (Arc::clone(&board), Arc::clone(&over), folder.to_owned());
        std::thread::spawn(move || change(&board, &over, &folder, rights.as_ref(), seed))
    };
    let mut made = 0;
    let mut failed = 0;
    while made < tries && failed == 0 {
        let now = ROUND.min(tries - made);
        let line = format!("race {theirs} {folder} {} {now} {THREADS}", seed.wrapping_add(made));
        let done = actor.tell(&line);
        failed = if done < 0 { done } else { 0 };
        made += now;
        if made % (ROUND * 10) == 0 {
            println!("note: {made} tries, {:?} through", board.sum().through);
        }
    }
    over.store(true, Ordering::SeqCst);
    let turns = changing.join().ok().context("what changes the rights fell over")??;
    anyhow::ensure!(failed == 0, "the race broke off: {}", crate::world::show(failed));
    Ok((board.sum(), turns))
}

/// Gives or takes the right, moves the folder in or out, has two folders change places: one of these at a time, so
/// that each is all that changes for a while. At the end all is as it was.
fn change(
    board: &Board,
    over: &AtomicBool,
    folder: &str,
    rights: Option<&Rights>,
    seed: u64,
) -> Result<u64> {
    let path = |name: &str| format!("{folder}/{name}");
    let (mut turns, mut pause) = (0u64, seed);
    let (mut given, mut moved, mut swapped) = (false, false, false);
    loop {
        let last = over.load(Ordering::SeqCst);
        let what = linger(&mut pause) % 4;
        if if last { given } else { what == 0 } {
            // Odd before it is given, and even only when it was taken.
            if !given {
                board.turn_some();
            }
            assign(rights, usize::from(!given))?;
            if given {
                board.turn_some();
            }
            given = !given;
        }
        if if last { moved } else { what == 1 || what == 2 } {
            let places = [path("no/box"), path("in/box")];
            if !moved {
                board.turn_moved();
            }
            let done = fs::rename(&places[usize::from(moved)], &places[usize::from(!moved)]);
            if moved {
                board.turn_moved();
            }
            done.context("the folder was moved by somebody else")?;
            moved = !moved;
        }
        if if last { swapped } else { what == 3 } {
            exchange(&path("door"), &path("vault"))?;
            swapped = !swapped;
        }
        turns += 1;
        if last {
            return Ok(turns);
        }
    }
}

fn assign(rights: Option<&Rights>, which: usize) -> Result<()> {
    let Some(Rights { kernel, aid, sets, base }) = rights else { return Ok(()) };
    // Of a mapping or a page that is there at the moment the racers keep nothing.
    kernel.assign(*aid, &[sets[which], *base]).map(|_| ()).map_err(explain)
}

fn exchange(one: &str, other: &str) -> Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    Ok(renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE)?)
}

/// Up to two milliseconds, each time another; a number by chance.
fn linger(pause: &mut u64) -> u64 {
    *pause = pause.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    std::thread::sleep(Duration::from_micros(*pause >> 33 & 0x7ff));
    *pause >> 50
}
