//! From nothing to a sealed policy and an open API; and back, in order.

use crate::audit_log::{self, Opened};
use crate::config::Config;
use crate::identity::Listener;
use crate::output::{Limits, Shelf};
use crate::port::{EventSource, KernelPort, Lookup, Machine};
use crate::registry::keeper::Keeper;
use crate::registry::restore::{self, Adoption};
use crate::registry::{Registry, Through};
use crate::rights::Room;
use crate::rights::system::System;
use crate::sink::{AuditLog, Sink, own};
use crate::state::{Daemon, Parts};
use crate::trust::Trust;
use crate::{change, events, reap, routes, stdio};
use abi::Kind;
use anyhow::Context;
use api::status::Feature;
use connections::Patience;
use manifest::Profiles;
use record::{Entry, body};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use supervisor::SetKeys;
use tokio::net::UnixListener;

/// At the daemon's end changes that have begun are waited for, so long.
const CHANGES: Duration = Duration::from_secs(10);

/// What is started with, beside the kernel.
pub struct Start {
    /// Paths and names.
    pub config: Config,
    /// What is weaker than it should be already.
    pub degraded: Vec<String>,
    /// What this kernel and machine offer.
    pub features: Vec<Feature>,
    /// Version of the kernel, for the record.
    pub release: String,
    /// Where names are looked up; none is this machine.
    pub lookup: Option<LookupOn>,
    /// What the log is seen through; none is nothing.
    pub log: Option<LogThrough>,
    /// What keeps files open while there is no daemon.
    pub keeper: Arc<dyn Keeper>,
    /// What the registry is seen through; none is nothing.
    pub registry: Option<Through>,
}

/// Makes what names are looked up by.
pub type LookupOn = Box<dyn FnOnce(Arc<dyn KernelPort>) -> Arc<dyn Lookup> + Send>;
/// Puts something between the log and its writer.
pub type LogThrough = Box<dyn FnOnce(Box<dyn AuditLog>) -> Box<dyn AuditLog> + Send>;

/// Log, policy, seal, record `boot`, events, sockets. When it returns, the API answers.
///
/// # Errors
/// When anything of it fails: a daemon without a log or a policy must not run.
pub async fn start(start: Start, kernel: Arc<dyn KernelPort>) -> anyhow::Result<Arc<Daemon>> {
    let Start { config, features, release, .. } = &start;
    let (config, features, release) = (config.clone(), features.clone(), release.clone());
    prepare_folders(&config)?;
    let Opened { log, records, key, repaired, set_aside } = audit_log::open(&config)?;
    // A policy that was loaded now has a ring of its own.
    let logged = if kernel.adopted() { audit_log::ring(&config)? } else { 0 };
    let log = match start.log {
        Some(around) => around(log),
        None => log,
    };
    let sink = Sink::start(log, records)?;
    let profiles = Profiles::load(&config.profiles).context("profiles")?;
    let trust = Trust::new(&config);
    let mut degraded = start.degraded;
    degraded.extend(set_aside);
    degraded.extend(check_trust(&trust));
    let weaker = features.iter().filter(|f| f.level != api::status::Level::Ok);
    degraded.extend(weaker.map(|f| format!("{}: {}", f.name, f.found)));
    let source = kernel.events().context("the kernel's event ring")?;
    let secret = audit_log::key_file(&config)?;
    kernel.keep_secret(secret).context("cannot keep the log key from others")?;
    kernel.keep_folders(own_folders(&config)?).context("cannot keep the daemon's folders")?;
    kernel.seal().context("cannot seal the policy")?;
    let keys = Arc::new(SetKeys::default());
    let rights = Room::new(kernel.clone(), keys.clone());
    let lookup: Arc<dyn Lookup> = match start.lookup {
        Some(lookup) => lookup(kernel.clone()),
        None => Arc::new(Machine::start(kernel.clone()).context("the signal of broken leases")?),
    };
    let log_check = Arc::default();
    let system = System::start(&config, &profiles, &rights, lookup.as_ref()).await;
    let log_key = key;
    let shelf = Shelf::open(&config.agent_logs, output_limits(&config))
        .with_context(|| format!("agents' output in {}", config.agent_logs.display()))?;
    let registry = Registry::open(&config.run, !kernel.adopted(), start.keeper)?;
    if let Some(around) = start.registry {
        registry.through(around);
    }
    let parts = Parts {
        registry,
        config,
        shelf,
        kernel,
        sink,
        lookup,
        rights,
        system,
        keys,
        trust,
        degraded,
        features,
        log_key,
        log_check,
    };
    let daemon = Daemon::new(parts);
    daemon.sealed.store(true, Ordering::Release);
    let adoption = take_over(&daemon, source.as_ref(), logged).await?;
    record_boot(&daemon, &release, repaired).await;
    daemon.sink.record_all(adoption.entries);
    daemon.sink.flush().await;
    events::start(&daemon, source, logged)?;
    adoption.agents.into_iter().for_each(|adopted| reap::take_up(&daemon, adopted));
    daemon.nobody_waits().await;
    tokio::spawn(change::rights::expire(daemon.clone()));
    tokio::spawn(change::oversteps::act(daemon.clone()));
    tokio::spawn(Registry::keep_up(Arc::downgrade(&daemon)));
    serve(&daemon)?;
    audit_log::check::start(&daemon)?;
    let follower = daemon.clone();
    tokio::spawn(async move {
        follower.system.follow(&follower.rights, follower.lookup.as_ref()).await;
    });
    Ok(daemon)
}

/// An earlier daemon's agents, if it left the policy in the kernel.
async fn take_over(
    daemon: &Arc<Daemon>,
    source: &dyn EventSource,
    logged: u64,
) -> anyhow::Result<Adoption> {
    if !daemon.kernel.adopted() {
        daemon.registry.take_up_stale(None)?;
        return Ok(Adoption::default());
    }
    let mut adoption = restore::restore(daemon).await.context("the registry")?;
    change::blocking(|| restore::finish(daemon, &mut adoption, source, logged))
        .context("the agents of the coconutd before this one")?;
    // Nobody was changed: where nothing can be written now, what lies there is true still, and nobody is marked.
    daemon.inner().supervisor.take_unwritten();
    change::blocking(|| {
        daemon.remember_all();
        daemon.registry.compact();
    });
    Ok(adoption)
}

/// A trust store that cannot be read trusts nobody; the daemon goes on and says so.
fn check_trust(trust: &Trust) -> Vec<String> {
    match trust.load() {
        Ok(_) => Vec::new(),
        Err(error) => {
            tracing::error!(%error, "no key is trusted");
            vec![format!("no key is trusted: {error}")]
        }
    }
}

fn prepare_folders(config: &Config) -> anyhow::Result<()> {
    for folder in [&config.run, &config.agent_logs] {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot make {}", folder.display()))?;
    }
    share_with_broker(config);
    Ok(())
}

/// Folders in which only coconutd changes anything: the log, its keys, agents' output, the registry.
fn own_folders(config: &Config) -> anyhow::Result<Vec<OwnedFd>> {
    let registry = Registry::folder(&config.run);
    let folders = [&config.audit, &config.keys, &config.agent_logs, &registry];
    let open = |folder: &PathBuf| -> std::io::Result<OwnedFd> {
        std::fs::create_dir_all(folder)?;
        Ok(std::fs::File::open(folder)?.into())
    };
    let opened = folders.map(|folder| open(folder).with_context(|| folder.display().to_string()));
    opened.into_iter().collect()
}

/// All output together takes a tenth of its file system at most: the audit log may lie there, too.
fn output_limits(config: &Config) -> Limits {
    let tenth = rustix::fs::statvfs(&config.agent_logs).map(|fs| fs.f_blocks * fs.f_frsize / 10);
    let all = config.output.all.min(tenth.unwrap_or(u64::MAX));
    Limits { all, each: config.output.each.min(all / 4), ..config.output }
}

/// The broker makes its socket beside ours; the sticky bit keeps ours from it.
fn share_with_broker(config: &Config) {
    let Ok(Some(broker)) = nix::unistd::User::from_name(&config.broker_user) else { return };
    let done = std::os::unix::fs::chown(&config.run, None, Some(broker.gid.as_raw()))
        .and_then(|()| set_mode(&config.run, 0o1775));
    if let Err(error) = done {
        tracing::warn!(%error, "the broker cannot make its socket");
    }
}

fn set_mode(path: &Path, mode: u32) -> std::io::Result<()> {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
}

async fn record_boot(daemon: &Arc<Daemon>, release: &str, repaired: Option<Entry>) {
    let detail = body::Boot {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        kernel: release.to_owned(),
        programs: Some(daemon.kernel.programs().len() as u64),
        sealed: Some(true),
        ..Default::default()
    };
    daemon.sink.record(own(Kind::Boot, "coconutd", detail));
    repaired.into_iter().for_each(|entry| daemon.sink.record(entry));
    for what in &daemon.degraded {
        daemon.sink.record(own(
            Kind::Degraded,
            what.clone(),
            body::Degraded { at: "boot".into(), ..Default::default() },
        ));
    }
    daemon.sink.flush().await;
}

fn serve(daemon: &Arc<Daemon>) -> anyhow::Result<()> {
    let config = &daemon.config;
    let all = [config.stdio_socket(), config.api_socket()];
    // What waits to be accepted on the others' sockets is not in an operator's way here.
    prepare_operators(config)?;
    let operators = all.clone().map(|socket| config.operator_socket(&socket));
    for ([stdio_socket, api_socket], mode) in [(all, 0o666), (operators, 0o660)] {
        let stdio_socket = bind(&stdio_socket, mode)?;
        let socket = bind(&api_socket, mode)?;
        tokio::spawn(stdio::serve(stdio_socket, daemon.clone()));
        let listener = Listener { socket, daemon: daemon.clone() };
        let routes = routes::router(daemon.clone());
        tokio::spawn(connections::serve(listener, routes, Patience::default()));
    }
    Ok(())
}

/// The folder of the operators' sockets: it keeps out who is none.
fn prepare_operators(config: &Config) -> anyhow::Result<()> {
    let folder = config.operators();
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("cannot make {}", folder.display()))?;
    let group = nix::unistd::Group::from_name(&config.operator_group).ok().flatten();
    let group = group.map(|group| group.gid.as_raw());
    std::os::unix::fs::chown(&folder, None, group)
        .and_then(|()| set_mode(&folder, 0o2750))
        .with_context(|| format!("cannot keep {} for operators", folder.display()))
}

/// Who connects decides what may be done; `mode` only who may connect.
fn bind(path: &Path, mode: u32) -> anyhow::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot remove the old {}", path.display()));
        }
        _ => {}
    }
    let listener =
        UnixListener::bind(path).with_context(|| format!("cannot listen on {}", path.display()))?;
    set_mode(path, mode).with_context(|| format!("cannot open {}", path.display()))?;
    Ok(listener)
}

/// Ends this daemon. Its agents go on, and the next takes them over; a last checkpoint covers all that was decided
/// until then.
pub async fn stop(daemon: &Arc<Daemon>) {
    let agents = stand(daemon).await;
    let emptied = daemon.emptied.notified();
    daemon.kernel.read_events_now();
    emptied.await;
    let detail = body::Shutdown { agents: Some(agents as u64) };
    daemon.sink.record(own(Kind::Shutdown, "coconutd", detail));
    daemon.sink.close().await;
    change::blocking(|| daemon.remember_all());
    let config = &daemon.config;
    for socket in [config.api_socket(), config.stdio_socket()] {
        let _ = std::fs::remove_file(config.operator_socket(&socket));
        let _ = std::fs::remove_file(socket);
    }
}

/// No more changes begin; how many agents there are.
async fn stand(daemon: &Arc<Daemon>) -> usize {
    daemon.stopping.store(true, Ordering::SeqCst);
    let deadline = tokio::time::Instant::now() + CHANGES;
    while daemon.changing.load(Ordering::SeqCst) > 0 && tokio::time::Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    daemon.inner().supervisor.living_count()
}
