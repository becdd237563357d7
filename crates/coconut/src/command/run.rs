//! `run`: a program as an agent in the foreground, with this terminal; its exit status is ours.

use super::terminal::{Connected, Terminal};
use super::{Context, agent_path, stdio};
use crate::cli::Run;
use crate::failure::{Done, Failure};
use crate::output;
use api::agent::{SignalRequest, SpawnSource};
use api::client::Client;
use api::{AgentDetail, ErrorCode, Exit, SpawnRequest};
use serde::Serialize;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH};
use signal_hook::iterator::Signals;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

/// What a foreground program would have been sent by its terminal or its parent.
const FORWARDED: [i32; 7] = [SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH];
/// Tenant of an ad-hoc agent that names none.
const TENANT: &str = "local";

#[derive(Serialize)]
struct Ran<'a> {
    aid: uuid::Uuid,
    exit: &'a Exit,
}

/// `coconut run`.
pub fn run(cx: &Context, args: Run) -> Done {
    let source = source(&args)?;
    let mut command = args.command;
    if args.manifest.is_none()
        && let Some(program) = command.first_mut()
    {
        *program = find(program)?;
    }
    let terminal = Terminal::make()?;
    let lent = stdio::lend(&cx.socket, terminal.as_ref().map(|(_, theirs)| theirs))?;
    let request = SpawnRequest {
        source,
        args: command,
        cwd: args.cwd,
        env: environment(args.env),
        allow_unsigned: args.allow_unsigned,
        stdio: Some(lent.stdio.clone()),
    };
    // Before the spawn: a Ctrl-C in between must reach the agent, not end us alone.
    let signals = Signals::new(FORWARDED)
        .map_err(|e| anyhow::Error::new(e).context("cannot listen for signals"))?;
    let client = cx.client()?;
    let detail: AgentDetail = client.post("/v1/agents", &request)?;
    let aid = detail.agent.aid;
    // Its end is the agent's alone from here on: else the end of its output is never seen.
    let connected = terminal.map(|(ours, _)| ours.connect()).transpose()?.map(Arc::new);
    let shown = connected.as_ref().map(|connected| connected.show());
    forward(signals, cx.socket.clone(), aid.to_string(), connected.clone());
    let exit: Result<Exit, _> = client.wait(&agent_path(&aid.to_string(), "/wait"));
    if let (Some(connected), Some(shown)) = (&connected, &shown) {
        connected.finish(shown);
        connected.restore();
    }
    let exit = exit?;
    if cx.out.json {
        // stdout is the program's.
        output::note("coconut.run/1", &Ran { aid, exit: &exit });
    } else if let Some(reason) = &exit.reason {
        eprintln!("coconut: {} was ended: {}", detail.agent.name, crate::render::clean(reason));
    } else if (exit.status, exit.signal) == (None, None) {
        eprintln!("error: {} has ended, and how is not known", detail.agent.name);
        eprintln!("hint: coconut audit query --agent {aid}");
    }
    Ok(exit.shell_status())
}

fn source(args: &Run) -> Result<SpawnSource, Failure> {
    if let Some(path) = &args.manifest {
        let (tenant, name) = (args.tenant.clone(), args.name.clone());
        return super::spawn::manifest_source(path, tenant, name, args.caps.clone());
    }
    if args.command.is_empty() {
        return Err(Failure::new(ErrorCode::Usage, "nothing to run")
            .hint("coconut run --cap fs.read=/srv/input -- /usr/bin/ls /srv/input"));
    }
    Ok(SpawnSource::AdHoc {
        tenant: args.tenant.clone().unwrap_or_else(|| TENANT.to_owned()),
        name: args.name.clone(),
        capabilities: args.caps.clone(),
        weight: args.weight,
    })
}

/// The program's absolute path, as a shell would find it.
fn find(program: &str) -> Result<String, Failure> {
    let absolute = |path: PathBuf| std::path::absolute(&path).unwrap_or(path).display().to_string();
    if program.contains('/') {
        return Ok(absolute(program.into()));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found =
        std::env::split_paths(&path).map(|folder| folder.join(program)).find(|p| p.is_file());
    found.map(absolute).ok_or_else(|| {
        Failure::new(ErrorCode::NotFound, format!("there is no program {program} in PATH"))
            .hint("give its absolute path")
    })
}

/// A foreground program looks at its terminal's kind and language; nothing else is handed on
/// unasked.
fn environment(mut given: Vec<String>) -> Vec<String> {
    for name in ["TERM", "COLORTERM", "LANG", "LC_ALL", "NO_COLOR", "COLUMNS", "LINES"] {
        let told = given.iter().any(|v| v.split('=').next() == Some(name));
        if let (false, Ok(value)) = (told, std::env::var(name)) {
            given.push(format!("{name}={value}"));
        }
    }
    given
}

/// Sends on every signal until the process ends; one that cannot be sent finds the agent gone.
fn forward(mut signals: Signals, socket: PathBuf, aid: String, terminal: Option<Arc<Connected>>) {
    thread::spawn(move || {
        for signal in signals.forever() {
            // The agent's own terminal tells it.
            if let (SIGWINCH, Some(terminal)) = (signal, &terminal) {
                terminal.resize();
                continue;
            }
            if let Ok(client) = Client::new(&socket) {
                let _ =
                    client.post::<_, ()>(&agent_path(&aid, "/signal"), &SignalRequest { signal });
            }
        }
    });
}
