//! From spawn to end: what the command line shows, and that nothing stays behind.

use super::Case;
use crate::world::{PATIENCE, World};
use abi::AgentState;
use anyhow::{Context as _, Result, ensure};
use api::agent::{AgentDetail, AgentList};
use demo::agent::{Agent, Spec};
use demo::control::{Process, User};
use demo::progress::Progress;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

/// The table.
pub const CASES: &[Case] = &[
    Case {
        name: "lifecycle.run-status",
        promise: "`run` ends with its program's status",
        run: status,
    },
    Case {
        name: "lifecycle.run-signal",
        promise: "a program that a signal ended shows 128 + signal",
        run: signal,
    },
    Case {
        name: "lifecycle.run-stdio",
        promise: "`run` lends its own stdin, stdout and stderr",
        run: stdio,
    },
    Case {
        name: "lifecycle.spawn",
        promise: "`spawn` prints an AID; `ps`, `show` and `tree` know it",
        run: spawn,
    },
    Case {
        name: "lifecycle.names",
        promise: "an agent is named by AID, by its last digits, or by name",
        run: names,
    },
    Case {
        name: "lifecycle.logs",
        promise: "`logs` shows what a background agent wrote",
        run: logs,
    },
    Case { name: "lifecycle.wait", promise: "`wait` tells success from failure", run: wait },
    Case { name: "lifecycle.kill", promise: "`kill` ends every process of the agent", run: kill },
    Case {
        name: "lifecycle.hang-up",
        promise: "a foreground agent ends with its `run`",
        run: hang_up,
    },
    Case {
        name: "lifecycle.failed-spawn",
        promise: "a spawn that fails leaves nothing behind",
        run: failed_spawn,
    },
    Case {
        name: "lifecycle.identity",
        promise: "an agent has no capabilities, no_new_privs, its own PID namespace",
        run: identity,
    },
    Case {
        name: "lifecycle.quarantine-tree",
        promise: "a quarantine reaches all below, cuts what they are connected to, and keeps evidence",
        run: quarantine_tree,
    },
    Case {
        name: "lifecycle.quarantine",
        promise: "a quarantined agent does nothing until it is released",
        run: quarantine,
    },
];

fn ended(world: &World, name: &str) -> Result<AgentDetail> {
    world.until(&format!("the end of {name}"), || {
        Ok(world.ctx.coconut.show(name)?.agent.state.is_terminal())
    })?;
    world.ctx.coconut.show(name)
}

fn status(world: &World) -> Result<String> {
    for code in ["0", "7", "255"] {
        let ran = world.probe("maya", &[], &["exit", code])?.end(PATIENCE)?;
        ensure!(ran.code.to_string() == code, "wanted {code}, got {}", ran.summary());
    }
    Ok("0, 7, 255".to_owned())
}

fn signal(world: &World) -> Result<String> {
    let agent = world.probe("maya", &[], &["sleep"])?;
    agent.lines.next(PATIENCE)?.context("it did not start")?;
    world.expect(0, &["kill", "--signal", "KILL", &agent.name])?;
    let ran = agent.end(PATIENCE)?;
    ensure!(ran.code == 137, "wanted 137, got {}", ran.summary());
    Ok(String::new())
}

fn stdio(world: &World) -> Result<String> {
    let (reader, writer) = rustix::pipe::pipe()?;
    rustix::io::write(&writer, b"through the pipe\n")?;
    drop(writer);
    let spec = demo::agent::Spec {
        name: world.ctx.unique("cat"),
        tenant: "maya".to_owned(),
        stdin: Some(reader),
        command: vec!["/usr/bin/cat".to_owned()],
        ..Default::default()
    };
    let ran = demo::agent::Agent::start(&world.ctx.coconut, spec)?.end(PATIENCE)?;
    ensure!(
        ran.code == 0 && ran.stdout == "through the pipe",
        "{} {:?}",
        ran.summary(),
        ran.stdout
    );
    Ok(String::new())
}

/// A background agent that only sleeps; gives its AID.
fn sleeper(world: &World, name: &str) -> Result<String> {
    let manifest = world.manifest(name, &["sleep"], "")?;
    let ran = world.expect(0, &["spawn", "--allow-unsigned", &manifest])?;
    Ok(ran.stdout.trim().to_owned())
}

fn spawn(world: &World) -> Result<String> {
    let name = world.ctx.unique("spawned");
    let aid = sleeper(world, &name)?;
    ensure!(aid.len() == 36, "`spawn` printed {aid:?}, not an AID");
    let detail = world.ctx.coconut.show(&aid)?;
    let list: AgentList = world.ctx.coconut.json(&["ps"])?;
    let tree = world.expect(0, &["tree"])?;
    world.expect(0, &["kill", &aid])?;
    ensure!(detail.agent.state == AgentState::Active, "it is {}", detail.agent.state.name());
    ensure!(detail.agent.name == name && detail.agent.tenant == "maya", "{:?}", detail.agent);
    ensure!(list.agents.iter().any(|a| a.aid.to_string() == aid), "`ps` does not list it");
    ensure!(tree.stdout.contains(&name), "`tree` does not show it: {}", tree.stdout);
    ensure!(Path::new(&detail.cgroup).ends_with(&aid), "its cgroup is {}", detail.cgroup);
    Ok(String::new())
}

fn names(world: &World) -> Result<String> {
    let name = world.ctx.unique("named");
    let aid = sleeper(world, &name)?;
    let suffix = aid[aid.len() - 8..].to_owned();
    let found: Result<Vec<AgentDetail>> =
        [&aid, &suffix, &name].into_iter().map(|who| world.ctx.coconut.show(who)).collect();
    world.expect(0, &["kill", &aid])?;
    ensure!(
        found?.iter().all(|d| d.agent.aid.to_string() == aid),
        "the names mean different agents"
    );
    world.expect(4, &["show", "no-such-agent"])?;
    Ok(String::new())
}

fn logs(world: &World) -> Result<String> {
    let name = world.ctx.unique("talker");
    let manifest = world.manifest(&name, &["try", "list=/"], "")?;
    world.expect(0, &["spawn", "--allow-unsigned", &manifest])?;
    ended(world, &name)?;
    let ran = world.expect(0, &["logs", &name])?;
    ensure!(ran.stdout.contains("\"attempt\":\"list\""), "`logs` printed {:?}", ran.stdout);
    Ok(String::new())
}

fn wait(world: &World) -> Result<String> {
    for (code, expected) in [("0", 0), ("3", 1)] {
        let name = world.ctx.unique("waited");
        let manifest = world.manifest(&name, &["exit", code], "")?;
        world.expect(0, &["spawn", "--allow-unsigned", &manifest])?;
        world.expect(expected, &["wait", &name])?;
        let state = world.ctx.coconut.show(&name)?.agent.state;
        let wanted =
            if expected == 0 { AgentState::TerminatedClean } else { AgentState::TerminatedFailed };
        ensure!(state == wanted, "exit {code} made it {}", state.name());
    }
    Ok(String::new())
}

fn kill(world: &World) -> Result<String> {
    let name = world.ctx.unique("killed");
    sleeper(world, &name)?;
    let cgroup = world.ctx.coconut.show(&name)?.cgroup;
    ensure!(world.exists(&cgroup), "{cgroup} does not exist while it runs");
    world.expect(0, &["kill", &name])?;
    let detail = ended(world, &name)?;
    ensure!(
        detail.agent.state == AgentState::TerminatedClean,
        "it is {}",
        detail.agent.state.name()
    );
    world.until("the end of its cgroup", || Ok(!world.exists(&cgroup)))?;
    Ok(String::new())
}

fn hang_up(world: &World) -> Result<String> {
    let agent = world.probe("maya", &[], &["sleep"])?;
    agent.lines.next(PATIENCE)?.context("it did not start")?;
    let name = agent.name.clone();
    // Kills `coconut run` with SIGKILL: nothing can be forwarded.
    drop(agent);
    let detail = ended(world, &name)?;
    ensure!(!world.exists(&detail.cgroup), "its cgroup is still there");
    Ok(detail.agent.state.name().to_owned())
}

fn failed_spawn(world: &World) -> Result<String> {
    let slice = |tenant: &str| format!("/sys/fs/cgroup/coconut.slice/{tenant}");
    let ran = world.call(&["run", "--tenant", "ghost", "--", "/does/not/exist"])?;
    ensure!(ran.code != 0 && !ran.stderr.is_empty(), "it started: {}", ran.summary());
    let agents = std::fs::read_dir(slice("ghost"))
        .map(|d| d.flatten().filter(|e| e.path().is_dir()).count());
    ensure!(agents.unwrap_or(0) == 0, "a cgroup is left in {}", slice("ghost"));
    let list: AgentList = world.ctx.coconut.json(&["ps"])?;
    ensure!(!list.agents.iter().any(|a| a.tenant == "ghost"), "`ps` lists it");
    Ok(ran.summary())
}

fn identity(world: &World) -> Result<String> {
    let agent = world.probe("maya", &[], &["whoami"])?;
    let who: serde_json::Value = agent.json(PATIENCE).with_context(|| agent.complaints())?;
    ensure!(who["capabilities"] == "0000000000000000", "{who}");
    ensure!(who["no_new_privs"] == "1", "{who}");
    let uid = who["uid"].as_str().unwrap_or("0");
    ensure!(!uid.split(' ').any(|id| id == "0"), "it runs as root: {who}");
    ensure!(who["pid"].as_u64().is_some_and(|pid| pid < 10), "it sees foreign process ids: {who}");
    Ok(format!("uid {}", uid.split(' ').next().unwrap_or_default()))
}

fn quarantine(world: &World) -> Result<String> {
    let file = world.file("quarantined.txt", "text\n")?;
    let cap = format!("fs.read={file}");
    let agent = world.probe("maya", &[&cap], &["hold", "--file", &file, "--every-us", "1000"])?;
    agent.lines.next(PATIENCE)?.with_context(|| agent.complaints())?;
    // The control does the same as an ordinary process: while it goes on, the agent could.
    let args = ["hold", "--file", &file, "--every-us", "1000"].map(str::to_owned);
    let control = Process::start(User::ROOT, &world.ctx.probe, &args, None)?;
    control.lines.next(PATIENCE)?.with_context(|| control.complaints())?;
    world.expect(0, &["quarantine", &agent.name])?;
    let detail = world.ctx.coconut.show(&agent.name)?;
    ensure!(detail.agent.state == AgentState::Quarantined, "it is {}", detail.agent.state.name());
    let before = used(&detail)?;
    let worked = control.cpu_ticks() + CONTROL_TICKS;
    while_working("the control", || control.cpu_ticks(), worked)?;
    ensure!(used(&detail)? == before, "it went on in quarantine");
    world.expect(0, &["release", &agent.name])?;
    let state = world.ctx.coconut.show(&agent.name)?.agent.state;
    ensure!(state == AgentState::Active, "after its release it is {}", state.name());
    while_working("the agent, after its release", || used(&detail).unwrap_or(0), before + 1)?;
    Ok(String::new())
}

/// Connects, says so, and waits.
const CONNECTED: &str = "import socket, sys; s = socket.create_connection((\"127.0.0.1\", int(sys.argv[1]))); \
    print(\"connected\", flush=True); s.recv(1)";

fn quarantine_tree(world: &World) -> Result<String> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port().to_string();
    let (parent, child) = (world.ctx.unique("parent"), world.ctx.unique("child"));
    let net = format!("net.connect=127.0.0.1:{port}");
    let text = format!(
        "[agent]\nname = \"{parent}\"\ntenant = \"maya\"\ncommand = [\"/usr/bin/coconut\"]\n\n[capabilities]\n\
         \"fs.read\" = [\"@python\"]\n\"net.connect\" = [\"127.0.0.1:{port}\"]\n\"agent.spawn\" = {{ count = 4 }}\n\
         \"ipc.unix\" = [\"/run/coconut/api.sock\", \"/run/coconut/stdio.sock\"]\n"
    );
    let manifest = world.file(&format!("{parent}.toml"), &text)?;
    let command = [
        "run",
        "--name",
        &child,
        "--tenant",
        "maya",
        "--cap",
        "fs.read=@python",
        "--cap",
        &net,
        "--",
    ];
    let program = ["/usr/bin/python3", "-c", CONNECTED, &port];
    let spec = Spec {
        name: parent.clone(),
        manifest: Some(manifest.into()),
        command: command.iter().chain(&program).map(|word| (*word).to_owned()).collect(),
        ..Spec::default()
    };
    let agent = Agent::start(&world.ctx.coconut, spec)?;
    agent.lines.next(PATIENCE)?.with_context(|| agent.complaints())?;
    let (mut connection, _) = listener.accept()?;
    connection.set_read_timeout(Some(Duration::from_millis(500)))?;
    let mut byte = [0u8; 1];
    ensure!(connection.read(&mut byte).is_err(), "the control: the connection ends by itself");
    let dir = world.ctx.work.join("evidence");
    let to = dir.display().to_string();
    world.expect(0, &["quarantine", &parent, "--evidence", &to])?;
    connection.set_read_timeout(Some(PATIENCE))?;
    ensure!(connection.read(&mut byte)? == 0, "the connection is not cut");
    let state = world.ctx.coconut.show(&child)?.agent.state;
    ensure!(state == AgentState::Quarantined, "the child is {}", state.name());
    let text = std::fs::read_to_string(dir.join("agents.json"))?;
    let evidence: api::agent::Evidence = serde_json::from_str(&text)?;
    let processes = evidence.agents.iter().find(|one| one.detail.agent.name == child);
    let processes = &processes.context("no evidence of the child")?.processes;
    let python = processes.iter().find(|process| process.command.contains(&port));
    let python = python.with_context(|| format!("{processes:?}"))?;
    ensure!(python.open.values().any(|open| open.starts_with("socket:")), "{:?}", python.open);
    ensure!(python.maps.contains("libc.so") && python.status.contains("python"), "{python:?}");
    let records = std::fs::read_to_string(dir.join("records.jsonl"))?;
    ensure!(
        records.lines().filter(|line| line.contains("\"quarantined\"")).count() == 2,
        "{records}"
    );
    // What lies there is not written over.
    world.expect(2, &["quarantine", &child, "--evidence", &to])?;
    world.expect(0, &["release", &parent])?;
    let ran = agent.end(PATIENCE)?;
    ensure!(ran.code == 0, "after its release: {}", ran.summary());
    Ok(format!("{} processes", processes.len()))
}

/// Processor time of the control, in hundredths of a second, in which an agent would have done much.
const CONTROL_TICKS: u64 = 5;

/// Microseconds of processor time that the agent has used.
fn used(agent: &AgentDetail) -> Result<u64> {
    let file = std::path::Path::new(&agent.cgroup).join("cpu.stat");
    let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    let line = text.lines().find_map(|line| line.strip_prefix("usage_usec "));
    Ok(line.context("no usage_usec")?.trim().parse()?)
}

fn while_working(who: &str, work: impl Fn() -> u64, until: u64) -> Result<()> {
    let mut progress = Progress::of(format!("{who} to do its work"));
    while work() < until {
        progress.seen(work())?;
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    Ok(())
}
