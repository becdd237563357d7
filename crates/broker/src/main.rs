//! `coconut-broker`: starts what its options name, and serves until it is told to end.

use anyhow::{Context, bail};
use api::broker::API_SOCKET;
use clap::{ArgGroup, Parser};
use coconut_broker::admission::{Admission, Policy};
use coconut_broker::backend::Backend;
use coconut_broker::backend::embedded::Embedded;
use coconut_broker::backend::remote::Remote;
use coconut_broker::callers::{Callers, Sizes};
use coconut_broker::entrance;
use coconut_broker::identity::Identity;
use coconut_broker::identity::lanes::LaneBook;
use coconut_broker::server::Broker;
use coconut_broker::usage::UsageLog;
use inference::{Engine, EngineConfig, Model};
use std::io::IsTerminal;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::net::{TcpListener, UnixListener};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

/// Shares a language model fairly among agents and tenants, behind the OpenAI API.
///
/// Who calls is known from the socket's peer. With coconutd (the usual case on Coconut OS) the kernel
/// says which agent that is; with --standalone the tenant is the peer's user. Tokens are shared by
/// weighted fair queueing, tenant first, then agent, then the agents below it. The number of tenants is
/// not limited.
#[derive(Parser)]
#[command(
    name = "coconut-broker",
    version,
    group(ArgGroup::new("from").required(true).args(["model", "backend_url"])),
    group(ArgGroup::new("who").args(["coconutd", "standalone"])),
    after_help = "Examples:\n  \
        coconut-broker --standalone --model coconut-tiny-bigram.gguf --listen 127.0.0.1:11700\n  \
        coconut-broker --standalone --backend-url http://127.0.0.1:8002 --slots 16 --listen 127.0.0.1:11700\n  \
        curl http://127.0.0.1:11700/v1/models"
)]
struct Args {
    /// Serve this GGUF model with the embedded engine (llama.cpp)
    #[arg(long, value_name = "FILE.gguf")]
    model: Option<PathBuf>,
    /// Use this OpenAI-compatible server instead (http://HOST:PORT or https://HOST)
    #[arg(long, value_name = "URL")]
    backend_url: Option<String>,
    /// Key for the backend server, sent as a bearer token
    #[arg(long, value_name = "KEY", env = "COCONUT_BACKEND_KEY", hide_env_values = true)]
    backend_key: Option<String>,
    /// Do not tell the backend server each tenant's part of its cache (vLLM's cache_salt): for a server that
    /// refuses fields it does not know, and separates its users' caches itself
    #[arg(long, requires = "backend_url")]
    no_cache_salt: bool,

    /// Listen on this TCP address; may be given more than once
    #[arg(long, value_name = "IP:PORT")]
    listen: Vec<SocketAddr>,
    /// Listen on this UNIX socket; may be given more than once
    #[arg(long, value_name = "SOCKET")]
    unix: Vec<PathBuf>,

    /// Ask this coconutd who calls and what it may [default: /run/coconut/api.sock]
    #[arg(long, value_name = "SOCKET")]
    coconutd: Option<PathBuf>,
    /// With coconutd: serve local processes that are no agents as this tenant (else they are refused)
    #[arg(long, value_name = "TENANT", conflicts_with = "standalone")]
    host_tenant: Option<String>,
    /// Without coconutd: the tenant is the peer's user on a UNIX socket, one for all on TCP
    #[arg(long)]
    standalone: bool,
    /// With --standalone: a trusted front-end names the tenant in this header
    #[arg(long, value_name = "HEADER", requires = "standalone")]
    trust_header: Option<String>,

    /// With --standalone: print a record of every call to stdout, as lines of JSON
    #[arg(long, requires = "standalone")]
    print_usage: bool,

    /// Requests that the backend works on at once [default: 4 embedded, 16 at a server]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=128))]
    slots: Option<u32>,
    /// Requests of one tenant that may wait; more are refused with 429
    #[arg(long, value_name = "N", default_value_t = 4096)]
    max_queued: usize,
    /// Control for measurements: first come, first served, no fairness
    #[arg(long)]
    fifo: bool,

    /// Embedded engine: threads that compute [default: all cores but one]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=512))]
    threads: Option<u32>,
    /// Embedded engine: tokens of context per request [default: the model's, at most 4096]
    #[arg(long, value_name = "TOKENS", value_parser = clap::value_parser!(u32).range(16..))]
    context: Option<u32>,
    /// Embedded engine: tokens computed in one step [default: by the measured cost]
    #[arg(long, value_name = "TOKENS", value_parser = clap::value_parser!(u32).range(1..=512))]
    step: Option<u32>,
}

/// Requests at once where nobody has said: a CPU gains little from more, a server batches.
const EMBEDDED_SLOTS: u32 = 4;
const SERVER_SLOTS: u32 = 16;
/// Most tokens in one step of the engine.
const BATCH: u32 = 512;
/// Context where the model would allow more and nobody asked for it.
const USUAL_CONTEXT: u32 = 4096;

impl Args {
    fn slots(&self) -> u32 {
        let usual = if self.model.is_some() { EMBEDDED_SLOTS } else { SERVER_SLOTS };
        self.slots.unwrap_or(usual)
    }
}

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
    let (backend, yields): (Arc<dyn Backend>, bool) = match (&args.model, &args.backend_url) {
        (Some(path), _) => (Arc::new(Embedded::new(engine(&args, path)?)), true),
        (_, Some(url)) => {
            let key = args.backend_key.as_deref();
            (Arc::new(Remote::new(url, key, !args.no_cache_salt)?), false)
        }
        (None, None) => bail!("neither --model nor --backend-url was given"),
    };
    let policy = Policy {
        slots: args.slots() as usize,
        yields,
        fifo: args.fifo,
        max_queued: args.max_queued,
    };
    if args.fifo {
        tracing::warn!("control: no fairness; first come, first served");
    }
    let (identity, usage) = identity(&args);
    let gone = backend.clone();
    let broker = Arc::new(Broker {
        identity,
        admission: Admission::new(policy),
        backend,
        usage,
        metrics: Arc::default(),
        callers: Callers::new(&Sizes::default()),
    });
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
    until_told(servers, &*gone).await?;
    for path in &args.unix {
        // Gone already is as good.
        let _ = std::fs::remove_file(path);
    }
    Ok(())
}

/// Does nothing where there is no service manager.
fn tell_ready() {
    #[cfg(target_os = "linux")]
    if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Ready]) {
        tracing::warn!(%error, "cannot tell the service manager that we are ready");
    }
}

async fn until_told(
    mut servers: JoinSet<std::io::Result<()>>,
    backend: &dyn Backend,
) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = terminate.recv() => {}
        done = tokio::signal::ctrl_c() => done?,
        Some(ended) = servers.join_next() => ended?.context("a listener failed")?,
        () = backend.gone() => bail!("the engine has stopped\nhint: the lines before this one say why"),
    }
    tracing::info!("ending");
    Ok(())
}

fn identity(args: &Args) -> (Identity, UsageLog) {
    if args.standalone {
        let trusted_header = args.trust_header.clone();
        if let Some(header) = &trusted_header {
            tracing::warn!(header, "callers are believed to be who this header says");
        }
        let usage = if args.print_usage { UsageLog::to_stdout() } else { UsageLog::none() };
        return (Identity::Standalone { trusted_header }, usage);
    }
    let socket = args.coconutd.clone().unwrap_or_else(|| API_SOCKET.into());
    let book = LaneBook::new(socket.clone());
    tokio::spawn(book.clone().follow());
    let host_tenant = args.host_tenant.clone();
    (Identity::Daemon { book, host_tenant }, UsageLog::to_daemon(socket))
}

fn engine(args: &Args, path: &Path) -> anyhow::Result<Engine> {
    let model = Arc::new(Model::load(path)?);
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get() as u32);
    let context = args.context.unwrap_or(model.trained_context().min(USUAL_CONTEXT));
    // Every admitted request holds a sequence; newcomers may overtake with a second set.
    let sequences = if args.fifo { args.slots() } else { args.slots() * 2 };
    let config = EngineConfig {
        sequences,
        context,
        threads: args.threads.unwrap_or(cores.saturating_sub(1).max(1)),
        batch: BATCH,
        step: args.step.or(args.fifo.then_some(BATCH)),
    };
    tracing::info!(
        model = model.name(),
        slots = args.slots(),
        context,
        threads = config.threads,
        "loaded"
    );
    Ok(Engine::start(model, config)?)
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
