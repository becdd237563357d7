//! A daemon that ends, and the one that follows it: no agent is lost, nobody else gets in, and nothing runs for
//! long without one.

pub mod daemon;
mod tricks;

use crate::tally::Tally;
use crate::world::{Actor, SELF, await_that, show};
use abi::control::*;
use abi::event::{EVENT_DENIAL, EVENT_SEAL, Hook};
use anyhow::{Context, Result};
use libc::{EACCES, EPERM};
use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::{Command, Stdio};
use std::time::Duration;

/// Far beyond what these tests take, where they are not about it.
pub const GRACE: Duration = Duration::from_secs(600);

/// The same program, as another file.
const COPY: &str = "/data/out/copy";

/// All of it; afterwards nothing of the policy is left.
pub fn run(t: &Tally) -> Result<()> {
    let root = crate::world::start_outsider()?;
    fs::copy(SELF, COPY)?;
    fs::set_permissions(COPY, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    // Before there is a policy there is nothing to be let in to: whoever starts loads it.
    let first = start(SELF, Some("plain"))?;
    t.same("the first daemon loads the policy", &first.tell("start"), &0);
    let a = agent(&first, 1)?;
    may(t, &a, "open /data/ok/f 0");
    may_not(t, &a, "open /data/no/f 0", EACCES);
    first.tell("log");
    end(&first);
    without(t, &root, &a);
    impostors(t)?;
    let second = follower(t, &[(1, 1)])?;
    t.same("nobody is a stranger", &second.tell("done"), &0);
    may(t, &a, "open /data/ok/f 0");
    may_not(t, &a, "open /data/no/f 0", EACCES);
    books(t, &second, &a)?;
    rights(t, &second, &a)?;
    let third = unread(t, &second, &a)?;
    let fourth = halted(t, &third, &a)?;
    ended(t, &fourth, &a)
}

/// A daemon with this program, by PID 1 or by us.
fn start(program: &str, trick: Option<&str>) -> Result<Actor> {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    let mut command = Command::new(match trick {
        // Not the measured program itself: each start of that one is a try to get in.
        Some(_) => COPY,
        None => program,
    });
    match trick {
        Some(trick) => command.args(["orphan", trick, program]),
        None => command.arg("daemon"),
    };
    let mut child = command.stdin(OwnedFd::from(theirs)).stdout(Stdio::inherit()).spawn()?;
    if trick.is_some() {
        child.wait()?;
    }
    Actor::at(ours, 0)
}

fn end(daemon: &Actor) {
    daemon.start("die");
    daemon.hear();
}

fn agent(daemon: &Actor, n: u32) -> Result<Actor> {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    daemon.start("take-fd");
    daemon.hand_over(theirs.as_raw_fd())?;
    let fd = daemon.hear();
    let pid = daemon.tell(&format!("agent {n} {fd}"));
    anyhow::ensure!(pid > 0, "no agent {n}");
    Actor::at(ours, pid as u32)
}

fn may(t: &Tally, a: &Actor, line: &str) {
    let result = a.tell(line);
    t.check(&format!("an agent may {line}"), result >= 0, || show(result));
}

fn may_not(t: &Tally, a: &Actor, line: &str, errno: i32) {
    let result = a.tell(line);
    t.check(&format!("an agent may not {line}"), result == -i64::from(errno), || show(result));
}

/// While there is no daemon everything holds.
fn without(t: &Tally, root: &Actor, a: &Actor) {
    may(t, a, "open /data/ok/f 0");
    may_not(t, a, "open /data/no/f 0", EACCES);
    for line in ["bpf", "unlink /sys/fs/bpf/coconut/file_open", "umount /sys/fs/bpf"] {
        let result = root.tell(line);
        t.same(&format!("without a daemon root may not {line}"), &result, &-i64::from(EPERM));
    }
}

/// Who is not the measured program, as PID 1 starts it, is not let in.
fn impostors(t: &Tally) -> Result<()> {
    let tries = [
        ("one that root starts", SELF, None),
        ("a copy of the program", COPY, Some("plain")),
        ("one with LD_PRELOAD", SELF, Some("preload")),
        ("one with LD_AUDIT behind another", SELF, Some("audit")),
        ("one with GLIBC_TUNABLES", SELF, Some("tunables")),
        ("one with too many variables", SELF, Some("many")),
        ("one with a variable that hides others", SELF, Some("long")),
        ("one under a system call filter", SELF, Some("filter")),
        ("one with mounts of its own", SELF, Some("mounts")),
        ("one with another root", SELF, Some("root")),
        ("one that shares its folders with another", SELF, Some("share")),
        ("one that is traced", SELF, Some("traced")),
    ];
    for (name, program, trick) in tries {
        let daemon = start(program, trick)?;
        let started = daemon.tell("start");
        t.check(&format!("{name} is not let in"), started == -1 || started == i64::MIN, || {
            show(started)
        });
        let bpf = daemon.tell("bpf");
        let kept_out = bpf == -i64::from(EPERM) || bpf == i64::MIN;
        t.check(&format!("{name} may not call bpf()"), kept_out, || show(bpf));
        end(&daemon);
    }
    Ok(())
}

/// The next daemon, which adopts these agents and finds each so.
fn follower(t: &Tally, agents: &[(u32, i64)]) -> Result<Actor> {
    let daemon = start(SELF, Some("plain"))?;
    t.same("the next daemon takes the policy over", &daemon.tell("start"), &1);
    for (n, found) in agents {
        t.same(&format!("and finds agent {n}"), &daemon.tell(&format!("adopt {n}")), found);
    }
    Ok(daemon)
}

/// Lines of the log: kind, agent, hook, wanted, CPU, sequence.
fn log() -> Vec<Vec<u64>> {
    let text = fs::read_to_string(daemon::LOG).unwrap_or_default();
    let numbers = |line: &str| line.split(' ').filter_map(|word| word.parse().ok()).collect();
    text.lines().map(numbers).collect()
}

fn denials_on_record() -> i64 {
    let denial = u64::from(EVENT_DENIAL);
    log().iter().filter(|event| event[0] == denial).count() as i64
}

/// Each event is on record once, and none is missing; attempts to get in are there with their reasons.
fn books(t: &Tally, daemon: &Actor, a: &Actor) -> Result<()> {
    daemon.tell("log");
    t.same("each denial is on record once", &denials_on_record(), &daemon.tell("denials 1"));
    let (seal, admission) = (u64::from(EVENT_SEAL), Hook::Admission as u64);
    let attempts: Vec<u64> = log()
        .iter()
        .filter(|event| event[0] == seal && event[2] == admission)
        .map(|event| event[3])
        .collect();
    let wanted = [
        ADMISSION_NOT_BY_INIT,
        ADMISSION_ENVIRONMENT,
        ADMISSION_ENVIRONMENT,
        ADMISSION_ENVIRONMENT,
        ADMISSION_ENVIRONMENT,
        ADMISSION_ENVIRONMENT,
        ADMISSION_FILTERED,
        ADMISSION_NAMESPACES,
        ADMISSION_NAMESPACES,
        ADMISSION_SHARED,
        ADMISSION_SHARED,
    ];
    t.same(
        "who was not let in is on record, with the reason",
        &attempts,
        &wanted.map(u64::from).to_vec(),
    );
    whole(t);
    t.same("nothing was lost", &daemon.tell("lost"), &0);
    may(t, a, "open /data/ok/g 0");
    Ok(())
}

/// On each CPU the numbers follow one another.
fn whole(t: &Tally) {
    let mut next = std::collections::BTreeMap::new();
    let mut wrong = Vec::new();
    for event in log() {
        let expected = next.insert(event[4], event[5] + 1).unwrap_or(event[5]);
        if expected != event[5] {
            wrong.push((event[4], event[5], expected));
        }
    }
    t.check("no event is missing and none is there twice", wrong.is_empty(), || {
        format!("{wrong:?}")
    });
}

/// What the follower gives and takes holds, and of the earlier one's sets nothing is left.
fn rights(t: &Tally, daemon: &Actor, a: &Actor) -> Result<()> {
    let fd = a.tell("open /data/ok/f 0");
    may(t, a, &format!("pread {fd}"));
    daemon.tell("assign-none 1");
    may_not(t, a, "open /data/ok/f 0", EACCES);
    may_not(t, a, &format!("pread {fd}"), EACCES);
    libraries(t, daemon)?;
    let b = agent(daemon, 2)?;
    may(t, &b, "open /data/ok/f 0");
    may_not(t, &b, "open /data/no/f 0", EACCES);
    Ok(())
}

/// No code gets into the daemon from another file system than its own; elsewhere it may.
fn libraries(t: &Tally, daemon: &Actor) -> Result<()> {
    let (execute, private) = (libc::PROT_READ | libc::PROT_EXEC, libc::MAP_PRIVATE);
    let map = |who: &Actor, path: &str| {
        let fd = who.tell(&format!("open {path} 0"));
        who.tell(&format!("mmap {fd} {execute} {private}"))
    };
    let elsewhere = map(daemon, COPY);
    t.same("the daemon maps no program from elsewhere", &elsewhere, &-i64::from(EPERM));
    let beside = map(daemon, SELF);
    t.check("it may map what lies beside it", beside >= 0, || show(beside));
    let other = map(&crate::world::start_outsider()?, COPY);
    t.check("another may map it", other >= 0, || show(other));
    Ok(())
}

/// A daemon that has read and not written ends: the next writes it.
fn unread(t: &Tally, daemon: &Actor, a: &Actor) -> Result<Actor> {
    daemon.tell("log");
    for _ in 0..5 {
        may_not(t, a, "open /data/no/f 0", EACCES);
    }
    t.check("it reads them and does not write them", daemon.tell("read") >= 5, String::new);
    end(daemon);
    may_not(t, a, "open /data/no/f 0", EACCES);
    // A version that keeps its tables otherwise reads nothing of these.
    let other = start(SELF, Some("plain"))?;
    t.same("another version takes nothing over", &other.tell("start 600000 7"), &-1);
    end(&other);
    may(t, a, "getpid");
    // Agent 2 is not adopted: nobody knows what it may do.
    let next = follower(t, &[(1, 1)])?;
    t.same("six wait for the next", &next.tell("waiting"), &6);
    t.same("a stranger is ended", &next.tell("done"), &1);
    let gone = !std::path::Path::new(&format!(
        "/sys/fs/cgroup/coconut.slice/adopt/{}",
        uuid::Uuid::from_u128(2)
    ))
    .exists();
    t.check("with its control group", gone, String::new);
    next.tell("log");
    t.same("and are on record once", &denials_of(1), &next.tell("denials 1"));
    whole(t);
    Ok(next)
}

fn denials_of(n: u32) -> i64 {
    let (denial, aid) = (u64::from(EVENT_DENIAL), abi::AgentId::new(n, 1).0);
    log().iter().filter(|event| event[0] == denial && event[1] == aid).count() as i64
}

/// When the time without a daemon is over nothing of an agent's runs, and the next one lets it go on.
fn halted(t: &Tally, daemon: &Actor, a: &Actor) -> Result<Actor> {
    // The grace is what the last daemon said.
    end(daemon);
    let short = start(SELF, Some("plain"))?;
    t.same("a daemon with a short grace", &short.tell("start 700"), &1);
    short.tell("adopt 1");
    short.tell("done");
    // One that waits, one that computes, and a process whose first thread has ended.
    let spinner = agent(&short, 4)?;
    let fd = spinner.tell("open /data/ok/f 0");
    spinner.start(&format!("spin-read {fd}"));
    let leaderless = agent(&short, 5)?;
    may(t, &leaderless, "leaderless");
    let stopped = || [1, 4, 5].into_iter().all(all_stand_still);
    let one_stopped = || [1, 4, 5].into_iter().any(all_stand_still);
    t.check("they run", a.tell("getpid") > 0 && !one_stopped(), String::new);
    end(&short);
    t.check("without a daemon they are stopped in the end", await_that(stopped), states);
    // The control: one that is no agent goes on, and may be stopped and let go on by root.
    let (root, outsider) = (crate::world::start_outsider()?, crate::world::start_outsider()?);
    for sig in [libc::SIGSTOP, libc::SIGCONT] {
        let told = root.tell(&format!("kill {} {sig}", outsider.pid));
        t.same("root tells a non-agent to stop and to go on", &told, &0);
    }
    t.check("a non-agent goes on", outsider.tell("getpid") > 0, String::new);
    let told = root.tell(&format!("kill {} {}", a.pid, libc::SIGCONT));
    t.same("root does not let an agent go on", &told, &-i64::from(EPERM));
    t.check("they stand still", stopped(), states);
    let next = start(SELF, Some("plain"))?;
    t.same("the next takes over", &next.tell("start"), &1);
    for n in [1, 4, 5] {
        t.same("and finds it", &next.tell(&format!("adopt {n}")), &1);
    }
    t.check("they stand still until all is taken over", stopped(), states);
    next.tell("done");
    t.check("then they go on", await_that(|| !one_stopped()), states);
    may(t, a, "open /data/ok/f 0");
    may_not(t, a, "open /data/no/f 0", EACCES);
    Ok(next)
}

/// The states of all threads of an agent, without those that have ended.
fn threads(n: u32) -> Vec<String> {
    let agent = uuid::Uuid::from_u128(n.into());
    let folder = format!("/sys/fs/cgroup/coconut.slice/adopt/{agent}");
    let all = fs::read_to_string(format!("{folder}/cgroup.threads")).unwrap_or_default();
    let stat = |tid: &str| fs::read_to_string(format!("/proc/{tid}/stat")).unwrap_or_default();
    let state = |stat: String| stat.rsplit(") ").next().map(|rest| rest[..1].to_owned());
    all.lines().filter_map(|tid| state(stat(tid))).filter(|state| state != "Z").collect()
}

fn all_stand_still(n: u32) -> bool {
    let threads = threads(n);
    !threads.is_empty() && threads.iter().all(|state| state == "T")
}

fn states() -> String {
    format!("{:?}", [1, 4, 5].map(threads))
}

/// One that ends while there is no daemon: how is known.
fn ended(t: &Tally, daemon: &Actor, a: &Actor) -> Result<()> {
    let b = agent(daemon, 3)?;
    t.same("one that runs has no end", &daemon.tell("exit-of 1"), &-2);
    end(daemon);
    a.start("exit 7");
    // SAFETY: plain numbers.
    #[allow(unsafe_code)]
    unsafe {
        libc::kill(b.pid.cast_signed(), libc::SIGKILL);
    }
    t.check("both end", a.hear() == i64::MIN && b.hear() == i64::MIN, String::new);
    // Nobody adopts 4 and 5.
    let next = follower(t, &[(1, 2), (3, 2)])?;
    t.same("two strangers are ended", &next.tell("done"), &2);
    t.same("with which status", &next.tell("exit-of 1"), &7);
    t.same("or by which signal", &next.tell("signal-of 3"), &i64::from(libc::SIGKILL));
    for n in [1, 3] {
        next.tell(&format!("kill {n}"));
        t.same("and is removed", &next.tell(&format!("remove {n}")), &0);
    }
    t.same("nothing is left behind", &next.tell("unload"), &0);
    let rest = fs::read_dir("/sys/fs/cgroup/coconut.slice").context("the slice")?;
    let rest = rest.flatten().filter(|entry| entry.path().is_dir()).count();
    t.same("no control group either", &rest, &0);
    end(&next);
    Ok(())
}
