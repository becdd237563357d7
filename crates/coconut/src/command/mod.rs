//! What each command does: ask the daemon (or read a directory), then hand the answer to
//! [`crate::render`].

mod agents;
mod audit;
mod caps;
mod demo;
mod doctor;
mod evidence;
mod keys;
mod lanes;
mod logs;
mod manifests;
mod probe;
mod run;
mod spawn;
mod stdio;
mod terminal;

use crate::cli::{self, Cli, Command};
use crate::failure::{Done, Failure};
use crate::manual;
use crate::output::Output;
use api::client::{Client, escape};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

/// What every command is given.
pub struct Context {
    /// How to answer.
    pub out: Output,
    /// The daemon's socket.
    pub socket: PathBuf,
}

impl Context {
    /// A client of the daemon; nothing is opened yet.
    ///
    /// # Errors
    /// When the process may not have an event loop.
    pub fn client(&self) -> Result<Client, Failure> {
        Ok(Client::new(&self.socket)?.telling(away))
    }
}

fn away() {
    eprintln!("coconut: coconutd does not answer any more; waiting for the next one");
}

/// Showing a stream piece by piece: until one cannot be.
#[derive(Default)]
struct Showing(Option<Failure>);

impl Showing {
    /// A piece was shown, or not.
    fn goes_on(&mut self, shown: Result<(), Failure>) -> ControlFlow<()> {
        match shown {
            Ok(()) => ControlFlow::Continue(()),
            Err(failure) => {
                self.0 = Some(failure);
                ControlFlow::Break(())
            }
        }
    }

    /// The stream is over.
    fn end(self) -> Done {
        self.0.map_or(Ok(0), Err)
    }
}

/// The operators' own socket for who may open it: what others have waiting on the common one is
/// in nobody's way there. An agent does not try: it would be a denial.
fn usual_socket() -> PathBuf {
    let common = Path::new(api::broker::API_SOCKET);
    let own = common.with_file_name(api::OPERATORS).join("api.sock");
    let is_agent = std::env::var_os("COCONUT_AGENT").is_some();
    let may = !is_agent && rustix::fs::access(&own, rustix::fs::Access::WRITE_OK).is_ok();
    if may { own } else { common.to_owned() }
}

/// Does what was asked.
///
/// # Errors
/// With the exit code, the message and the hint.
pub fn dispatch(cli: Cli) -> Done {
    let out = Output::new(cli.json, cli.wide);
    let socket = cli.socket.unwrap_or_else(usual_socket);
    let context = Context { out, socket };
    let cx = &context;
    match cli.command {
        Command::Run(args) => run::run(cx, args),
        Command::Spawn(args) => spawn::spawn(cx, args),
        Command::Ps { all, follow: true } => agents::follow(cx, all),
        Command::Ps { all, follow: false } => agents::ps(cx, all),
        Command::Show(target) => agents::show(cx, &target.aid),
        Command::Tree { all } => agents::tree(cx, all),
        Command::Logs { aid, follow } => logs::logs(cx, &aid, follow),
        Command::Wait(target) => agents::wait(cx, &target.aid),
        Command::Kill { all: true, .. } => agents::kill_all(cx),
        Command::Kill { aid, signal, .. } => agents::kill(cx, &aid, signal.as_deref()),
        Command::Quarantine { aid, evidence } => agents::quarantine(cx, &aid, evidence.as_deref()),
        Command::Release(target) => agents::release(cx, &target.aid),
        Command::Cap(cap) => caps::cap(cx, cap),
        Command::Explain(target) => agents::explain(cx, &target.aid),
        Command::Lane(lane) => lanes::lane(cx, lane),
        Command::Audit(cli::Audit::Prove(_)) => Err(Failure::planned("audit prove")),
        Command::Audit(cli::Audit::Export(_)) => Err(Failure::planned("audit export")),
        Command::Audit(audit) => audit::audit(cx, audit),
        Command::Manifest(manifest) => manifests::manifest(cx, manifest),
        Command::Key(key) => keys::key(cx, &key),
        Command::Doctor => doctor::doctor(cx),
        Command::Demo { args } => demo::demo(cx, &args),
        Command::Completions { shell } => printed(|to| manual::completions(shell, to)),
        Command::Man => printed(|to| manual::page(to)),
        Command::Top(_) => Err(Failure::planned("top")),
        Command::Attest(_) => Err(Failure::planned("attest")),
        Command::Budget(_) => Err(Failure::planned("budget")),
    }
}

/// A text on stdout; whoever reads no further has what it wanted.
fn printed(write: impl FnOnce(&mut dyn std::io::Write) -> std::io::Result<()>) -> Done {
    match write(&mut std::io::stdout().lock()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::from_error(api::ErrorCode::Failed, anyhow::Error::new(error)))
        }
        _ => Ok(0),
    }
}

/// Path of something of one agent's: `/v1/agents/<aid>` and `rest`.
fn agent_path(aid: &str, rest: &str) -> String {
    format!("/v1/agents/{}{rest}", escape(aid))
}
