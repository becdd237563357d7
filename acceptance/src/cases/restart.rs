//! The daemon ends and starts again, by hand, by a signal, in somebody else's hands: agents go on under the policy,
//! nothing that they did is missing in the log, and without a daemon they do not run for long.

use super::Case;
use crate::unit::{DropIn, systemctl};
use crate::world::{PATIENCE, World};
use anyhow::{Context as _, Result, bail, ensure};
use api::Exit;
use api::audit::Record;
use api::feed::{Delta, FeedLine};
use demo::agent::{Agent, Spec};
use demo::control::{Process, User};
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use uuid::Uuid;

/// The table.
pub const CASES: &[Case] = &[
    Case {
        name: "restart.kept",
        promise: "a restart of the daemon ends no agent and loses no record; who waits for one, or follows the list, is told of its end",
        run: kept,
    },
    Case {
        name: "restart.terminated",
        promise: "a daemon that is told to end by PID 1 is there again, with its agents, and the seal never opens",
        run: terminated,
    },
    Case {
        name: "restart.halted",
        promise: "without a daemon agents stop after the grace period, nobody lets them go on, and the next daemon does",
        run: halted,
    },
    Case {
        name: "restart.substitute",
        promise: "a daemon with somebody else's code in it is not let in, and that is on record",
        run: substitute,
    },
];

/// The daemon's unit.
pub const UNIT: &str = "coconutd.service";

/// The process id of the daemon, 0 without one.
///
/// # Errors
/// When PID 1 does not say.
pub fn daemon() -> Result<u32> {
    let pid = systemctl(&["show", "--property=MainPID", "--value", UNIT])?;
    Ok(pid.parse()?)
}

/// Waits until another daemon answers than this one.
///
/// # Errors
/// When none does.
pub fn follower(world: &World, before: u32) -> Result<()> {
    world.until("the next daemon", || {
        let other = daemon()?;
        Ok(other != 0 && other != before && world.call(&["ps"])?.code == 0)
    })
}

/// Another daemon in place of this one.
///
/// # Errors
/// When it does not come.
pub fn again(world: &World) -> Result<()> {
    let before = daemon()?;
    systemctl(&["restart", UNIT])?;
    follower(world, before)
}

fn property(name: &str) -> Result<u64> {
    Ok(systemctl(&["show", &format!("--property={name}"), "--value", UNIT])?.parse()?)
}

/// What a start of the daemon takes, in nanoseconds of a processor; there is another one then.
///
/// # Errors
/// When it does not come.
pub fn start_takes(world: &World) -> Result<u64> {
    again(world)?;
    property("CPUUsageNSec")
}

/// Ends the daemon again and again: the kernel kills it when it has computed for a second or so more than a start
/// takes, whatever it is at. Nobody else may. Returns when it was killed so often, and another answers.
///
/// # Errors
/// When it does not come back.
pub fn killed(world: &World, start_ns: u64, times: u32) -> Result<()> {
    // A limit is of whole seconds.
    let limit = (start_ns + 1_400_000_000).div_ceil(1_000_000_000);
    let mut restored =
        Some(DropIn::put(UNIT, &format!("[Service]\nLimitCPU={limit}\nRestartSteps=0\n"))?);
    // Not to be waited for: it may be killed before it answers.
    let before = daemon()?;
    systemctl(&["restart", UNIT])?;
    for time in 1..=u64::from(times) {
        if time == u64::from(times) {
            // Whoever follows the last one is not limited.
            restored.take();
        }
        let what = format!("kill {time} of {times}");
        // On a busy machine PID 1 may not answer for once.
        world.until(&what, || Ok(property("NRestarts").is_ok_and(|ended| ended >= time)))?;
        println!("note: {what}");
    }
    follower(world, before)
}

/// An agent that counts on in a file and asks for what it may not have.
///
/// # Errors
/// When it does not begin.
pub fn counter(world: &World, name: &str) -> Result<String> {
    let folder = world.ctx.work.join(name);
    std::fs::create_dir_all(&folder)?;
    let all = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(&folder, all)?;
    let file = folder.join("count").display().to_string();
    let secret = world.file(&format!("{name}-secret"), "TOPSECRET")?;
    let words = format!(
        "n=0; while :; do n=$((n+1)); echo $n >{file}; echo line $n; cat {secret} 2>&1; sleep 0.2; done"
    );
    let write = format!("fs.write={}", folder.display());
    world.background(name, &["fs.exec=@shell", "fs.read=@shell", &write], &words)?;
    world.until("its first count", || Ok(Path::new(&file).exists()))?;
    Ok(file)
}

/// How far it has counted.
pub fn count(file: &str) -> u64 {
    std::fs::read_to_string(file).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

/// Waits until it has counted on.
///
/// # Errors
/// When it does not.
pub fn counts_on(world: &World, file: &str) -> Result<()> {
    let before = count(file);
    world.until("it to count on", || Ok(count(file) > before + 1))
}

/// Ends an agent: refusals by the kernel are on record as often as the kernel counted them, and the log is sound. How
/// many there are.
///
/// # Errors
/// When they are not.
pub fn books_are_true(world: &World, name: &str) -> Result<u64> {
    let logged = refusals_on_record(world, name)?;
    log_is_whole(world)?;
    Ok(logged)
}

/// Ends an agent; the kernel's refusals are on record as often as it counted them. How many there are.
///
/// # Errors
/// When they are not.
pub fn refusals_on_record(world: &World, name: &str) -> Result<u64> {
    world.expect(0, &["kill", name])?;
    refusals_of_ended(world, name)
}

/// The same of an agent that has ended.
///
/// # Errors
/// When what the kernel counted is not what is on record.
pub fn refusals_of_ended(world: &World, name: &str) -> Result<u64> {
    let shown = world.ctx.coconut.show(name)?;
    let counters = shown.counters;
    ensure!(counters.kernel_denials > 0, "the kernel refused it nothing");
    ensure!(
        counters.kernel_denials == counters.log_kernel_denials,
        "the kernel counted {}, the log has {}",
        counters.kernel_denials,
        counters.log_kernel_denials
    );
    println!("note: {name} was refused something {} times", counters.kernel_denials);
    let aid = shown.agent.aid.to_string();
    let (records, logged) = refusals_in_log(world, &aid)?;
    println!("note: {records} records say so");
    ensure!(
        logged == counters.kernel_denials + counters.log_daemon_denials,
        "{logged} refusals on record, {} counted",
        counters.kernel_denials
    );
    Ok(logged)
}

/// So many records are read before it is said how many.
const MANY: u64 = 20_000;

/// Records of what an agent was refused, and refusals in them. They are counted as they come: a flooder has
/// hundreds of thousands.
fn refusals_in_log(world: &World, agent: &str) -> Result<(u64, u64)> {
    let mut command = world.ctx.coconut.command();
    command.args(["--json", "audit", "query", "--kind", "denial", "--agent", agent]);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let lines = BufReader::new(child.stdout.take().context("it has no output")?).lines();
    let (mut records, mut refusals) = (0, 0);
    for line in lines {
        let line = line?;
        let record: Record = serde_json::from_str(&line).with_context(|| line.clone())?;
        (records, refusals) = (records + 1, refusals + u64::from(record.count));
        if records % MANY == 0 {
            println!("note: {records} records read");
        }
    }
    let status = child.wait()?;
    ensure!(status.success(), "`coconut audit query` ended with {status}");
    Ok((records, refusals))
}

/// Nothing is missing in the log, and it is what was signed.
///
/// # Errors
/// When it is not.
pub fn log_is_whole(world: &World) -> Result<()> {
    let gaps = world.ctx.coconut.records(&["--kind", "gap"])?;
    ensure!(gaps.is_empty(), "a gap: {:?}", gaps.first());
    world.expect(0, &["audit", "verify"]).map(drop)
}

/// An agent that holds this terminal: a shell that does `words` and says something first.
fn foreground(world: &World, name: &str, words: &str, right: &str) -> Result<Agent> {
    let spec = Spec {
        name: world.ctx.unique(name),
        tenant: "maya".to_owned(),
        caps: ["fs.exec=@shell", "fs.read=@shell", right].map(str::to_owned).into(),
        command: ["/usr/bin/dash", "-c", words].map(str::to_owned).into(),
        ..Spec::default()
    };
    let agent = Agent::start(&world.ctx.coconut, spec)?;
    agent.lines.next(PATIENCE)?.with_context(|| agent.complaints())?;
    Ok(agent)
}

/// Reads on until the feed tells the end of this agent.
fn ending(list: &Process, agent: Uuid) -> Result<Exit> {
    loop {
        match list.json(PATIENCE)? {
            FeedLine::Delta { delta: Delta::Ended { aid, exit, .. }, .. } if aid == agent => {
                return Ok(exit);
            }
            _ => {}
        }
    }
}

/// Reads on until a line of the feed is this one.
fn told(list: &Process, wanted: impl Fn(&FeedLine) -> bool) -> Result<()> {
    while !wanted(&list.json(PATIENCE)?) {}
    Ok(())
}

fn kept(world: &World) -> Result<String> {
    let name = world.ctx.unique("kept");
    let file = counter(world, &name)?;
    let before = world.ctx.coconut.show(&name)?;
    // It ends when it is told to, under the next daemon.
    let signs = world.ctx.work.join("kept-signs");
    std::fs::create_dir_all(&signs)?;
    let sign = signs.join("end");
    let words = format!("echo here; until [ -e {} ]; do sleep 0.3; done; exit 7", sign.display());
    let short = foreground(world, "waited-for", &words, &format!("fs.read={}", signs.display()))?;
    let held = foreground(world, "held", "echo here; sleep 600", "fs.read=@shell")?;
    let words = ["--json", "ps", "--follow"].map(str::to_owned);
    let list = Process::start(User::ROOT, &world.ctx.coconut.program, &words, None)?;
    let lists_it = |line: &FeedLine| match line {
        FeedLine::Snapshot { snapshot, .. } => {
            snapshot.agents.iter().any(|agent| agent.aid == before.agent.aid)
        }
        _ => false,
    };
    told(&list, lists_it)?;
    let pid = daemon()?;
    systemctl(&["restart", UNIT])?;
    ensure!(daemon()? != pid, "it is the same daemon");
    let after = world.ctx.coconut.show(&name)?;
    ensure!(
        (after.agent.aid, after.agent.pid) == (before.agent.aid, before.agent.pid),
        "another agent has its name"
    );
    counts_on(world, &file)?;
    told(&list, lists_it).context("who follows the list is not shown it by the next daemon")?;
    // The command that waits for it goes on waiting.
    let aid = world.ctx.coconut.show(&short.name)?.agent.aid;
    std::fs::write(&sign, "")?;
    let ran = short.end(PATIENCE)?;
    ensure!(ran.code == 7, "`coconut run`: {}", ran.summary());
    ensure!(ending(&list, aid)?.status == Some(7), "its end is told otherwise");
    // An agent in the foreground ends with the command that holds it.
    let aid = world.ctx.coconut.show(&held.name)?.agent.aid;
    drop(held);
    let why = ending(&list, aid)?.reason.unwrap_or_default();
    ensure!(why.contains("foreground command"), "it ended otherwise: {why:?}");
    // Rights are this daemon's to give and to take.
    let write = format!("fs.write={}", Path::new(&file).parent().context("a folder")?.display());
    world.expect(0, &["cap", "revoke", &name, &write])?;
    let stopped = count(&file);
    std::thread::sleep(Duration::from_secs(1));
    ensure!(count(&file) <= stopped + 1, "it writes on after its right was revoked");
    let last = world.expect(0, &["logs", &name])?.stdout;
    let line = format!("line {}", stopped + 2);
    ensure!(last.contains(&line), "its output is not kept any more");
    let logged = books_are_true(world, &name)?;
    Ok(format!("({logged} refusals)"))
}

fn terminated(world: &World) -> Result<String> {
    let name = world.ctx.unique("terminated");
    let file = counter(world, &name)?;
    for _ in 0..3 {
        let pid = daemon()?;
        systemctl(&["kill", "--signal=TERM", UNIT])?;
        let bpf =
            Process::start(User::ROOT, &world.ctx.probe, &["try".into(), "bpf-list".into()], None)?;
        let outcome: probe::Outcome = bpf.json(PATIENCE)?;
        ensure!(outcome.refused(), "root called bpf() while there was no daemon: {outcome:?}");
        follower(world, pid)?;
        counts_on(world, &file)?;
    }
    let logged = books_are_true(world, &name)?;
    Ok(format!("(3 times, {logged} refusals)"))
}

fn state_of(pid: u32) -> char {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().and_then(|rest| rest.chars().next()).unwrap_or('?')
}

fn halted(world: &World) -> Result<String> {
    let name = world.ctx.unique("halted");
    let file = counter(world, &name)?;
    let pid = world.ctx.coconut.show(&name)?.agent.pid.context("it has no process")?;
    // The control: what is no agent goes on.
    let free = world.ctx.work.join("free-count").display().to_string();
    let words = format!("n=0; while :; do n=$((n+1)); echo $n >{free}; sleep 0.2; done");
    let mut control = Command::new("/usr/bin/dash").args(["-c", &words]).spawn()?;
    let words = ["--json", "ps", "--follow"].map(str::to_owned);
    let list = Process::start(User::ROOT, &world.ctx.coconut.program, &words, None)?;
    let is_list = |line: &FeedLine| matches!(line, FeedLine::Snapshot { .. });
    told(&list, is_list)?;
    let before = daemon()?;
    {
        let _restored = DropIn::put(UNIT, "[Service]\nRestart=no\n")?;
        systemctl(&["kill", "--signal=TERM", UNIT])?;
        world.until("the daemon's end", || Ok(daemon()? == 0))?;
        counts_on(world, &file).context("at once, without a daemon")?;
        world.until("it to stop", || Ok(state_of(pid) == 'T'))?;
        let (stood, ran) = (count(&file), count(&free));
        let go_on = Command::new("/usr/bin/kill").args(["-CONT", &pid.to_string()]).output()?;
        ensure!(!go_on.status.success(), "root lets it go on");
        std::thread::sleep(Duration::from_secs(2));
        ensure!(count(&file) == stood, "it counts on without a daemon");
        ensure!(count(&free) > ran, "the control stands still, too");
        world.until("who follows the list to be told", || {
            Ok(list.complaints().contains("waiting for the next one"))
        })?;
    }
    control.kill()?;
    control.wait()?;
    follower(world, before)?;
    counts_on(world, &file)?;
    told(&list, is_list).context("who waited is not shown the list of the next daemon")?;
    let logged = books_are_true(world, &name)?;
    Ok(format!("({logged} refusals)"))
}

fn substitute(world: &World) -> Result<String> {
    let name = world.ctx.unique("substitute");
    let file = counter(world, &name)?;
    let before = daemon()?;
    let library = world.file("preloaded.so", "not a library")?;
    let preload = format!("[Service]\nEnvironment=LD_PRELOAD={library}\n");
    {
        let _restored = DropIn::put(UNIT, &preload)?;
        systemctl(&["kill", "--signal=TERM", UNIT])?;
        world.until("the daemon's end", || Ok(daemon()? != before))?;
        std::thread::sleep(Duration::from_secs(2));
        if world.call(&["ps"])?.code == 0 {
            bail!("a daemon with LD_PRELOAD was let in");
        }
    }
    follower(world, before)?;
    counts_on(world, &file)?;
    world.until("the record of who was not let in", || {
        let seals = world.ctx.coconut.records(&["--kind", "seal"])?;
        Ok(seals.iter().any(|record| record.detail.contains("op=admission")))
    })?;
    let logged = books_are_true(world, &name)?;
    Ok(format!("({logged} refusals)"))
}
