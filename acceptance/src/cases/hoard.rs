//! Callers that take all they can get, and those who ask meanwhile. Judged by what was answered
//! while the hoarder held what it had, not by how long it took.

use super::Case;
use crate::world::{PATIENCE, World};
use anyhow::{Context as _, Result, ensure};
use demo::agent::{Agent, Spec};
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::Duration;

/// The table.
pub const CASES: &[Case] = &[
    Case {
        name: "limits.connections",
        promise: "an agent that holds every connection it can get, half-sent, is in nobody's way",
        run: connections,
    },
    Case {
        name: "limits.queries",
        promise: "a query of everything shows what the caller may see, and takes nobody's turn",
        run: queries,
    },
];

/// Fills every socket again and again, whatever is closed; a line for each round: how many of each
/// it holds.
const HOARDER: &str = r#"
import socket, sys
halves = [b"GET /v1/ag", b"", b"POST /v1/agents HTTP/1.1\r\nHost: x\r\nContent-Length: 99999\r\n\r\n{"]
places = ["/run/coconut/api.sock", "/run/coconut/stdio.sock", "/run/coconut/broker.sock", ("127.0.0.1", 11700)]
held = {place: [] for place in places}
def is_open(s):
    try:
        while s.recv(4096): pass
        return False
    except BlockingIOError: return True
    except OSError: return False
while True:
    for place in places:
        held[place] = [s for s in held[place] if is_open(s)]
        for n in range(int(sys.argv[1])):
            kind = socket.AF_UNIX if isinstance(place, str) else socket.AF_INET
            s = socket.socket(kind); s.settimeout(5)
            try:
                s.connect(place); s.send(halves[n % 3]); s.setblocking(False)
                held[place].append(s)
            except OSError: s.close()
    print("HELD", *[len([s for s in held[p] if is_open(s)]) for p in places], flush=True)
"#;
/// Connections that it tries of each kind in a round.
const TRIED: usize = 400;

fn connections(world: &World) -> Result<String> {
    let command = ["/usr/bin/python3", "-c", HOARDER, &TRIED.to_string()].map(str::to_owned);
    let caps = ["fs.read=@python", "agent.spawn=1", "infer"].map(str::to_owned);
    let spec = Spec {
        name: world.ctx.unique("hoarder"),
        tenant: "mallory".to_owned(),
        caps: caps.into(),
        command: command.into(),
        ..Spec::default()
    };
    let hoarder = Agent::start(&world.ctx.coconut, spec)?;
    let held = round(&hoarder)?;
    ensure!(is_hoard(&held), "it got nothing of some kind: {held:?}");
    ensure!(held[0] < TRIED, "nothing was refused: {held:?}");
    // The control: it is the caller that has enough, not the daemon.
    let own: Vec<UnixStream> = (0..TRIED).map(|_| half_sent()).collect::<Result<_>>()?;
    world.expect(0, &["ps"])?;
    let open = own.iter().filter(|stream| is_open(stream)).count();
    ensure!(open == TRIED, "control: of root's {TRIED} connections {open} are open");
    drop(own);
    world.expect(
        0,
        &["run", "--tenant", "maya", "--cap", "fs.read=@shell", "--", "/usr/bin/true"],
    )?;
    let infer = ["run", "--tenant", "maya", "--cap", "fs.read=@shell", "--cap", "infer", "--"];
    let curl = ["/usr/bin/curl", "-sS", "http://127.0.0.1:11700/v1/models"];
    let ran = world.expect(0, &[&infer[..], &curl[..]].concat())?;
    ensure!(ran.stdout.contains("\"data\""), "the broker's answer: {}", ran.summary());
    let after = round(&hoarder)?;
    ensure!(is_hoard(&after), "it has lost what it held: {after:?}");
    world.expect(0, &["kill", &hoarder.name])?;
    Ok(format!("(held {held:?}, then {after:?})"))
}

/// True if it holds some of every kind but of those that wait for descriptors: who hands none over
/// is closed after ten seconds, and a round may last longer.
fn is_hoard(held: &[usize]) -> bool {
    held.iter().enumerate().all(|(kind, n)| kind == 1 || *n > 0)
}

/// The numbers of a round that ends after this was called.
fn round(hoarder: &Agent) -> Result<Vec<usize>> {
    while hoarder.lines.next(Duration::ZERO).is_ok_and(|line| line.is_some()) {}
    let line = hoarder.lines.next(PATIENCE)?.with_context(|| hoarder.complaints())?;
    let numbers = line.split_whitespace().skip(1).map(str::parse).collect::<Result<_, _>>();
    numbers.with_context(|| format!("{line:?}: {}", hoarder.complaints()))
}

fn half_sent() -> Result<UnixStream> {
    let mut stream = UnixStream::connect(api::broker::API_SOCKET)?;
    stream.write_all(b"GET /v1/ag")?;
    stream.set_nonblocking(true)?;
    Ok(stream)
}

fn is_open(mut stream: &UnixStream) -> bool {
    let read = stream.read(&mut [0; 512]);
    matches!(read, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
}

/// Asks for everything a few times at once, and takes none of the answers.
const ASKER: &str = r#"
import socket, time
held = []
for n in range(20):
    s = socket.socket(socket.AF_UNIX); s.connect("/run/coconut/api.sock")
    s.send(b"GET /v1/audit/records HTTP/1.1\r\nHost: x\r\n\r\n"); held.append(s)
print(sum(b" 503 " in s.recv(64) for s in held), flush=True)
time.sleep(3600)
"#;

fn queries(world: &World) -> Result<String> {
    let spec = Spec {
        name: world.ctx.unique("asker"),
        tenant: "mallory".to_owned(),
        caps: ["fs.read=@python", "audit.read=own"].map(str::to_owned).into(),
        command: ["/usr/bin/python3", "-c", ASKER].map(str::to_owned).into(),
        ..Spec::default()
    };
    let asker = Agent::start(&world.ctx.coconut, spec)?;
    let refused = asker.lines.next(PATIENCE)?.with_context(|| asker.complaints())?;
    ensure!(refused.parse::<usize>().is_ok_and(|n| n > 0 && n < 20), "refused: {refused:?}");
    // The control: an operator sees records of agents.
    let all = world.ctx.coconut.records(&["--limit", "100"])?;
    ensure!(all.len() == 100 && all.iter().any(|r| !r.agent.is_nil()), "{} records", all.len());
    let mut nobody = Command::new(&world.ctx.coconut.program);
    nobody.args(["--json", "audit", "query"]).uid(65_534).gid(65_534);
    let seen = nobody.output()?;
    ensure!(seen.status.success(), "nobody: {}", String::from_utf8_lossy(&seen.stderr));
    ensure!(seen.stdout.is_empty(), "nobody sees {}", String::from_utf8_lossy(&seen.stdout));
    Ok(format!("({refused} of 20 refused)"))
}
