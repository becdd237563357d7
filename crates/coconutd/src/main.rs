//! coconutd: loads the policy and seals it, or takes it over; serves the API until PID 1 ends it.

use anyhow::{Context, bail};
use api::status::{Feature, Level};
use coconutd::boot::{self, Start};
use coconutd::config::Config;
use coconutd::features;
use coconutd::registry::keeper::Systemd;
use coconutd::settings::{SETTINGS, Settings};
use kernel::{Kernel, LoadOptions};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};

fn main() -> ExitCode {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env();
    tracing_subscriber::fmt()
        .with_env_filter(filter.unwrap_or_else(|_| "info".into()))
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            let hint = error.downcast_ref::<kernel::Error>().and_then(kernel::Error::hint);
            eprintln!("hint: {}", hint.unwrap_or("`coconut doctor` says what this machine lacks"));
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<()> {
    match std::env::args().nth(1).as_deref() {
        None => {}
        Some("--version" | "-V") => {
            println!("coconutd {}", env!("CARGO_PKG_VERSION"));
            return Ok(());
        }
        Some(other) => {
            bail!("coconutd takes no arguments, not `{other}`; it is started by systemd")
        }
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(live())?;
    // Everything is written. What still goes on ends here, as it would with a kill, and not at a runtime that is
    // half gone.
    std::process::exit(0)
}

async fn live() -> anyhow::Result<()> {
    let probed = Kernel::probe();
    let features = features::list(&probed);
    let missing: Vec<&str> = features
        .iter()
        .filter(|feature| feature.level == Level::Missing)
        .map(|feature| feature.name.as_str())
        .collect();
    if !missing.is_empty() {
        bail!("this kernel lacks {}", missing.join(", "));
    }
    let (settings, wrong) = Settings::load(Path::new(SETTINGS));
    let mut config = Config::default();
    settings.apply(&mut config);
    let mut options = LoadOptions::default();
    options.grace = settings.grace().unwrap_or(options.grace);
    let starting = tokio::task::spawn_blocking(move || Kernel::start(&options));
    let kernel = Arc::new(starting.await?.context("cannot load the policy")?);
    let mut features = features;
    let unknown = tokio::task::spawn_blocking(kernel::hooks::unknown).await??;
    features.push(features::hooks(&unknown));
    features.extend(kernel.weaker().iter().map(|program| Feature {
        name: program.clone(),
        level: Level::Weaker,
        found: "this kernel has no place for this program".into(),
        advice: None,
    }));
    let start = Start {
        config,
        degraded: wrong.into_iter().collect(),
        features,
        release: probed.release,
        lookup: None,
        log: None,
        keeper: Arc::new(Systemd),
        registry: None,
    };
    let mut terminate = signal(SignalKind::terminate())?;
    let daemon = boot::start(start, kernel.clone()).await?;
    if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Ready]) {
        tracing::warn!(%error, "cannot tell systemd that we are ready");
    }
    tracing::info!("sealed; listening on {}", daemon.config.api_socket().display());
    // Only PID 1 can send it: the seal refuses everybody else's.
    terminate.recv().await;
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    tracing::info!("stopping");
    await_successor(&kernel);
    boot::stop(&daemon).await;
    Ok(())
}

/// What lies where this program lay is what follows it: a new version, after an upgrade.
fn await_successor(kernel: &Kernel) {
    let own = std::fs::read_link("/proc/self/exe").unwrap_or_default();
    let name = own.to_string_lossy();
    let path = name.strip_suffix(" (deleted)").unwrap_or(&name);
    let expected = std::fs::File::open(path)
        .map_err(anyhow::Error::from)
        .and_then(|file| Ok(kernel.expect_successor(file.as_fd())?));
    if let Err(error) = expected {
        tracing::error!(path, error = format!("{error:#}"), "only this very program can follow");
    }
}
