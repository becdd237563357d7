//! `coconut-broker`: starts what its options name, and serves until it is told to end.

mod options;

use anyhow::{Context, bail};
use api::broker::API_SOCKET;
use clap::Parser;
use coconut_broker::accounts::UsageLog;
use coconut_broker::accounts::journal::Journal;
use coconut_broker::admission::Policy;
use coconut_broker::broker::Broker;
use coconut_broker::callers::{Callers, Sizes};
use coconut_broker::entrance;
use coconut_broker::identity::Identity;
use coconut_broker::identity::lanes::{self, LaneBook};
use coconut_broker::remote::Remote;
use coconut_broker::route::{Route, Routes};
use options::Args;
use ports::Backend;
use std::io::IsTerminal;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, UnixListener};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

/// How long the last records may take to reach coconutd; what has not is left to the next broker.
const LAST_RECORDS: Duration = Duration::from_secs(10);

fn main() -> std::process::ExitCode {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| "info,llama-cpp-2=warn".into());
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(colours)
        .init();
    match run(Args::parse()) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("coconut-broker: {}", explain(&error));
            std::process::ExitCode::FAILURE
        }
    }
}

/// The whole chain on one line, then the hints, each on its own.
fn explain(error: &anyhow::Error) -> String {
    let chain: Vec<String> = error.chain().map(ToString::to_string).collect();
    let (hints, what): (Vec<&str>, Vec<&str>) =
        chain.iter().flat_map(|m| m.lines()).partition(|l| l.starts_with("hint:"));
    [what.join(": "), hints.join("\n")].join("\n").trim_end().to_owned()
}

fn run(args: Args) -> anyhow::Result<()> {
    if args.listen.is_empty() && args.unix.is_empty() {
        bail!("nowhere to listen\nhint: --listen 127.0.0.1:11700 or --unix SOCKET");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(serve(args))
}

async fn serve(args: Args) -> anyhow::Result<()> {
    if args.fifo {
        tracing::warn!("control: no fairness; first come, first served");
    }
    let routes = Routes::new(backends(&args)?);
    let (identity, usage) = identity(&args)?;
    let callers = Callers::new(&Sizes::default());
    let broker = Arc::new(Broker::new(identity, routes, usage, callers));
    let mut servers = JoinSet::new();
    for address in &args.listen {
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("cannot listen on {address}"))?;
        tracing::info!(address = %listener.local_addr()?, "listening");
        servers.spawn(entrance::serve_tcp(broker.clone(), listener));
    }
    for path in &args.unix {
        let listener = bind_unix(path)?;
        tracing::info!(socket = %path.display(), "listening");
        servers.spawn(entrance::serve_unix(broker.clone(), listener));
    }
    tell_ready();
    let ended = until_told(&mut servers, &broker.routes).await;
    // Nobody new comes; who is being answered is told; what it has cost goes to the log.
    servers.shutdown().await;
    broker.ending.send_replace(true);
    broker.usage.close(LAST_RECORDS).await;
    for path in &args.unix {
        // Gone already is as good.
        let _ = std::fs::remove_file(path);
    }
    ended
}

fn backends(args: &Args) -> anyhow::Result<Vec<Route>> {
    let mut routes = Vec::new();
    let policy = |slots: u32, yields: bool| Policy {
        slots: slots as usize,
        yields,
        fifo: args.fifo,
        max_queued: args.max_queued,
    };
    if let Some(path) = &args.model {
        let backend = embedded(args, path)?;
        let policy = policy(args.engine_slots(), backend.yields());
        routes.push(Route::new("embedded", backend, policy));
    }
    for server in &args.backend_url {
        let key = args.key(server)?;
        let backend = Remote::new(&server.url, key.as_deref(), args.salted(server))?;
        let policy = policy(args.server_slots(server), backend.yields());
        if routes.iter().any(|route: &Route| route.name == server.name) {
            let name = &server.name;
            bail!(
                "two backends are called {name}\nhint: --backend-url '{};name=OTHER'",
                server.url
            );
        }
        routes.push(Route::new(server.name.as_str(), Arc::new(backend), policy));
    }
    Ok(routes)
}

/// Does nothing where there is no service manager.
fn tell_ready() {
    #[cfg(target_os = "linux")]
    if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Ready]) {
        tracing::warn!(%error, "cannot tell the service manager that we are ready");
    }
}

async fn until_told(
    servers: &mut JoinSet<std::io::Result<()>>,
    routes: &Routes,
) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = terminate.recv() => {}
        done = tokio::signal::ctrl_c() => done?,
        Some(ended) = servers.join_next() => ended?.context("a listener failed")?,
        name = routes.gone() => {
            bail!("the backend {name} has stopped\nhint: the lines before this one say why")
        }
    }
    tracing::info!("ending");
    Ok(())
}

fn identity(args: &Args) -> anyhow::Result<(Identity, UsageLog)> {
    if args.standalone {
        let trusted_header = args.trust_header.clone();
        if let Some(header) = &trusted_header {
            tracing::warn!(header, "callers are believed to be who this header says");
        }
        let usage = if args.print_usage { UsageLog::to_stdout() } else { UsageLog::none() };
        return Ok((Identity::Standalone { trusted_header }, usage));
    }
    let folder = args
        .accounts
        .as_ref()
        .context("nowhere to keep what calls cost until coconutd has it\nhint: --accounts DIR")?;
    let (journal, left) = Journal::open(folder).with_context(|| {
        let folder = folder.display();
        format!("the journal of calls in {folder}\nhint: does another broker use it?")
    })?;
    if !left.is_empty() {
        tracing::warn!(
            records = left.len(),
            "an earlier broker left records of calls; they go first"
        );
    }
    let socket = args.coconutd.clone().unwrap_or_else(|| API_SOCKET.into());
    let book = LaneBook::new(socket.clone(), lanes::PATIENCE);
    tokio::spawn(book.clone().follow());
    let host_tenant = args.host_tenant.clone();
    let usage = UsageLog::to_daemon(socket, Arc::new(journal), left, book.watch());
    Ok((Identity::Daemon { book, host_tenant }, usage))
}

#[cfg(not(feature = "llama"))]
fn embedded(_: &Args, _: &Path) -> anyhow::Result<Arc<dyn Backend>> {
    bail!("this broker is built without the embedded engine\nhint: --backend-url http://HOST:PORT")
}

#[cfg(feature = "llama")]
fn embedded(args: &Args, path: &Path) -> anyhow::Result<Arc<dyn Backend>> {
    use inference::{Embedded, Engine, EngineConfig, Model};
    /// Most tokens in one step of the engine.
    const BATCH: u32 = 512;
    /// Context where the model would allow more and nobody asked for it.
    const USUAL_CONTEXT: u32 = 4096;
    let model = Arc::new(Model::load(path)?);
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get() as u32);
    let context = args.context.unwrap_or(model.trained_context().min(USUAL_CONTEXT));
    // Every admitted request holds a sequence; newcomers may overtake with a second set.
    let slots = args.engine_slots();
    let config = EngineConfig {
        sequences: if args.fifo { slots } else { slots * 2 },
        context,
        threads: args.threads.unwrap_or(cores.saturating_sub(1).max(1)),
        batch: BATCH,
        step: args.step.or(args.fifo.then_some(BATCH)),
    };
    tracing::info!(model = model.name(), slots, context, threads = config.threads, "loaded");
    Ok(Arc::new(Embedded::new(Engine::start(model, config)?)))
}

/// Binds, replacing a socket that a dead broker left. Anybody may connect; who it is decides the rest.
fn bind_unix(path: &Path) -> anyhow::Result<UnixListener> {
    let shown = path.display();
    if std::fs::symlink_metadata(path).is_ok_and(|m| m.file_type().is_socket()) {
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            bail!("somebody listens on {shown} already");
        }
        std::fs::remove_file(path).with_context(|| format!("cannot replace {shown}"))?;
    }
    let listener = UnixListener::bind(path).with_context(|| format!("cannot listen on {shown}"))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666))
        .with_context(|| format!("cannot open {shown} to all"))?;
    Ok(listener)
}
