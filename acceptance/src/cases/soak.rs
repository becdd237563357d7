//! The daemon is killed again and again while everything is asked of it.

use super::Case;
use super::restart::{counter, counts_on, killed, log_is_whole, refusals_of_ended, start_takes};
use crate::world::{PATIENCE, World};
use anyhow::{Result, bail, ensure};
use api::audit::Record;
use demo::agent::{Agent, Spec};
use demo::coconut::Ran;
use std::collections::{BTreeMap, BTreeSet};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use uuid::Uuid;

/// The table.
pub const CASES: &[Case] = &[Case {
    name: "restart.soak",
    promise: "the daemon is killed at any moment under load: no agent is lost, every refusal is on record, and nobody waits for ever",
    run: soak,
}];

/// How often the daemon is killed; `COCONUT_SOAK` says otherwise.
const KILLS: u32 = 2;
/// Agents that count, are refused something, and are given and taken rights.
const COUNTERS: usize = 3;
/// A command that takes longer hangs.
const HANGS: Duration = Duration::from_secs(300);

/// Asks for four tokens, again and again, and says how each call ended: in which status, and in which words.
const ASKER: &str = r#"
import http.client, json, time
while True:
    status, said = 0, ""
    try:
        c = http.client.HTTPConnection("127.0.0.1", 11700, timeout=120)
        body = {"max_tokens": 4, "messages": [{"role": "user", "content": "one word"}]}
        c.request("GET", "/v1/models")
        body["model"] = json.loads(c.getresponse().read())["data"][0]["id"]
        c.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
        answer = c.getresponse()
        said, status = answer.read().decode(), answer.status
    except Exception as error:
        said = repr(error)
    if status != 200:
        time.sleep(0.1)
    print(json.dumps({"status": status, "said": said[:200], "at": time.time()}), flush=True)
"#;

/// What those who ask were told, by exit status.
#[derive(Default)]
struct Told {
    statuses: BTreeMap<i32, u32>,
    /// Names of agents that were started and ended as they should.
    done: Vec<String>,
}

/// A command that is broken off if it hangs. What is not done must be said, with a hint.
fn ask(world: &World, args: &[&str]) -> Result<Ran> {
    let mut command = world.ctx.coconut.command();
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let begun = Instant::now();
    while child.try_wait()?.is_none() {
        if begun.elapsed() > HANGS {
            child.kill()?;
            bail!("`coconut {}` hangs", args.join(" "));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let done = child.wait_with_output()?;
    let ran = Ran {
        code: demo::coconut::shell_code(done.status),
        stdout: String::from_utf8_lossy(&done.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&done.stderr).into_owned(),
    };
    let said = ran.code == 0 || ran.stderr.contains("error:");
    ensure!(said, "`coconut {}` fails without a word: {}", args.join(" "), ran.summary());
    Ok(ran)
}

/// Starts agents that end at once.
fn spawns(world: &World, end: &AtomicBool) -> Result<Told> {
    let mut told = Told::default();
    while !end.load(Ordering::Acquire) {
        let name = world.ctx.unique("short");
        let words = ["run", "--tenant", "maya", "--name", &name, "--cap", "fs.read=@shell"];
        let ran = ask(world, &[&words[..], &["--", "/usr/bin/true"]].concat())?;
        *told.statuses.entry(ran.code).or_default() += 1;
        if ran.code == 0 {
            told.done.push(name);
        }
    }
    Ok(told)
}

/// What `coconut` ends with where there is nothing of that name.
const NOT_FOUND: i32 = 4;

/// Gives and takes a right. One that was given must be there to be taken; one of which nobody was told may be.
fn changes(world: &World, name: &str, end: &AtomicBool) -> Result<Told> {
    let right = format!("fs.read={}", world.file("soak-right", "x")?);
    let mut told = Told::default();
    while !end.load(Ordering::Acquire) {
        let given = ask(world, &["cap", "grant", name, &right])?.code;
        let taken = ask(world, &["cap", "revoke", name, &right])?.code;
        ensure!(given != NOT_FOUND, "{name} is lost");
        ensure!(given != 0 || taken != NOT_FOUND, "a right that was given is not there");
        let answers = [given, taken].into_iter().filter(|code| *code != NOT_FOUND);
        answers.for_each(|code| *told.statuses.entry(code).or_default() += 1);
    }
    Ok(told)
}

/// Reads.
fn reads(world: &World, end: &AtomicBool) -> Result<Told> {
    let mut told = Told::default();
    while !end.load(Ordering::Acquire) {
        for words in [&["ps"][..], &["lane", "ls"], &["audit", "tail", "-n", "5"]] {
            let ran = ask(world, words)?;
            *told.statuses.entry(ran.code).or_default() += 1;
        }
    }
    Ok(told)
}

fn soak(world: &World) -> Result<String> {
    let kills = std::env::var("COCONUT_SOAK").ok().and_then(|text| text.parse().ok());
    let kills: u32 = kills.unwrap_or(KILLS);
    let names: Vec<String> = (0..COUNTERS).map(|_| world.ctx.unique("counter")).collect();
    let files = names.iter().map(|name| counter(world, name)).collect::<Result<Vec<_>>>()?;
    let before =
        names.iter().map(|name| world.ctx.coconut.show(name)).collect::<Result<Vec<_>>>()?;
    let spec = Spec {
        name: world.ctx.unique("asker"),
        tenant: "maya".to_owned(),
        caps: ["fs.read=@python", "infer"].map(str::to_owned).into(),
        command: ["/usr/bin/python3", "-c", ASKER].map(str::to_owned).into(),
        ..Spec::default()
    };
    let asker = Agent::start(&world.ctx.coconut, spec)?;
    let _: serde_json::Value = asker.json(PATIENCE)?;
    let start_ns = start_takes(world)?;
    let flooder = world.ctx.unique("flooder");
    let secret = world.file("soak-secret", "TOPSECRET")?;
    let words = format!("while :; do read x <{secret}; done 2>/dev/null");
    world.background(&flooder, &["fs.exec=@shell", "fs.read=@shell"], &words)?;
    let end = AtomicBool::new(false);
    let told = std::thread::scope(|threads| -> Result<Vec<Told>> {
        let asking = [
            threads.spawn(|| spawns(world, &end)),
            threads.spawn(|| changes(world, &names[0], &end)),
            threads.spawn(|| reads(world, &end)),
        ];
        let done = killed(world, start_ns, kills);
        end.store(true, Ordering::Release);
        let ended = asking.map(|thread| thread.join().unwrap_or_else(|_| bail!("it fell over")));
        done?;
        ended.into_iter().collect()
    })?;
    for told in &told {
        // 5: it is not there just now. 1: broken off in the middle, which is said.
        let other = told.statuses.keys().find(|status| ![0, 1, 5].contains(*status));
        ensure!(other.is_none(), "somebody was told {:?}", told.statuses);
        ensure!(told.statuses.contains_key(&0), "nothing was done: {:?}", told.statuses);
    }
    // While it floods, nothing else is quick.
    world.expect(0, &["kill", &flooder])?;
    for ((name, file), before) in names.iter().zip(&files).zip(&before) {
        let after = world.ctx.coconut.show(name)?;
        let same = (after.agent.aid, after.agent.pid) == (before.agent.aid, before.agent.pid);
        ensure!(same, "{name} is not the agent that it was");
        counts_on(world, file)?;
    }
    println!("note: the counters are who they were, and count on");
    let (answers, failed) = answered_again(&asker)?;
    println!("note: the model answers again: {answers} answers, {failed} none");
    // What is read from here on is the log, of which there is much.
    let all = names.iter().chain([&asker.name]);
    all.map(|name| world.expect(0, &["kill", name])).collect::<Result<Vec<_>>>()?;
    let mut refusals = 0;
    for name in names.iter().chain([&flooder]) {
        refusals += refusals_of_ended(world, name)?;
        println!("note: {refusals} refusals are on record");
    }
    ends_are_on_record(world, &told[0].done)?;
    println!("note: {} agents were started and have ended", told[0].done.len());
    log_is_whole(world)?;
    let statuses: Vec<_> = told.iter().map(|told| format!("{:?}", told.statuses)).collect();
    Ok(format!(
        "({kills} kills, {refusals} refusals on record, told {}, {answers} answers of the model, {failed} none)",
        statuses.join(" ")
    ))
}

/// Each of these agents has begun and ended, on record; the log knows what they were called for longer than the daemon.
fn ends_are_on_record(world: &World, names: &[String]) -> Result<()> {
    let begun = world.ctx.coconut.records(&["--kind", "spawn"])?;
    let named =
        |record: &Record| Some((record.body.as_ref()?["name"].as_str()?.to_owned(), record.agent));
    let begun: BTreeMap<String, Uuid> = begun.iter().filter_map(named).collect();
    let ended = world.ctx.coconut.records(&["--kind", "exit"])?;
    let ended: BTreeSet<Uuid> = ended.iter().map(|record| record.agent).collect();
    for name in names {
        let Some(agent) = begun.get(name) else { bail!("the start of {name} is not on record") };
        ensure!(ended.contains(agent), "the end of {name} is not on record");
    }
    Ok(())
}

/// The model answers once more; how many of its calls ended with an answer, and how many without.
fn answered_again(asker: &Agent) -> Result<(u32, u32)> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs_f64();
    let (mut answers, mut failed) = (0, 0);
    let mut told: BTreeMap<String, [u32; 2]> = BTreeMap::new();
    loop {
        let call: serde_json::Value = asker.json(PATIENCE)?;
        let late = call["at"].as_f64().is_some_and(|at| at > now);
        if call["status"] == 200 {
            answers += 1;
            if late {
                return Ok((answers, failed));
            }
            continue;
        }
        failed += 1;
        told.entry(format!("{} {}", call["status"], call["said"])).or_default()
            [usize::from(late)] += 1;
        let refused: u32 = told.values().map(|[_, after]| after).sum();
        ensure!(
            refused < 300,
            "the model does not answer again; what was told (before, after): {told:#?}"
        );
    }
}
