//! The whole log is verified once after every start, beside everything else: opening it follows its newest
//! records only.

use crate::sink::own;
use crate::state::Daemon;
use abi::Kind;
use api::status::{LogCheck, LogState};
use audit::{Report, VerifyOptions};
use record::body::Degraded;
use std::sync::{Arc, PoisonError, Weak};

/// Below everything that somebody waits for.
const NICE: i32 = 19;

/// Starts the verification; what is wrong becomes a record, and is in the daemon's status.
///
/// # Errors
/// When there can be no thread.
pub fn start(daemon: &Arc<Daemon>) -> std::io::Result<()> {
    let directory = daemon.config.audit.clone();
    let head = daemon.sink.head().into_bytes();
    let daemon = Arc::downgrade(daemon);
    let check = move || {
        let own = Some(rustix::thread::gettid());
        if let Err(error) = rustix::process::setpriority_process(own, NICE) {
            tracing::warn!(%error, "the log is verified at everybody's pace");
        }
        let options = VerifyOptions { heads: vec![head], ..VerifyOptions::default() };
        let found = audit::keys::load_verifier(&directory.join(audit::keys::VKEY_FILE))
            .and_then(|key| audit::verify(&directory, &key, &options));
        say(&daemon, judge(found));
    };
    std::thread::Builder::new().name("log check".into()).spawn(check).map(drop)
}

fn judge(found: Result<Report, audit::Error>) -> LogCheck {
    match found {
        Ok(Report { violation: None, leaves, .. }) => {
            LogCheck { state: LogState::Sound, leaves, found: None }
        }
        Ok(Report { violation: Some(violation), leaves, .. }) => {
            LogCheck { state: LogState::Violated, leaves, found: Some(violation.to_string()) }
        }
        Err(error) => {
            let found = Some(format!("{:#}", anyhow::Error::from(error)));
            LogCheck { state: LogState::Failed, leaves: 0, found }
        }
    }
}

fn say(daemon: &Weak<Daemon>, check: LogCheck) {
    let Some(daemon) = daemon.upgrade() else { return };
    if let Some(found) = &check.found {
        tracing::error!(found, "the log is not what was signed, or could not be verified");
        let body = Degraded { found: found.clone(), ..Degraded::default() };
        daemon.sink.record(own(Kind::Degraded, "the log was verified after the start", body));
    }
    *daemon.log_check.lock().unwrap_or_else(PoisonError::into_inner) = check;
}
