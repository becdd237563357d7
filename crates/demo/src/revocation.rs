//! Revocation bites on what is already open: a file, an io_uring, a connection, a mapping.

use crate::Context;
use crate::agent::{Agent, Spec};
use crate::control::{Process, User};
use crate::hostile::PATIENCE;
use crate::latency::Latency;
use crate::report::{Check, Control, Recorder};
use anyhow::{Context as _, Result};
use probe::Held;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What is held while it is revoked.
#[derive(Clone, Debug)]
struct Case {
    name: &'static str,
    claim: &'static str,
    /// `--file`, `--mmap`, `--socket` or `--uring`.
    option: &'static str,
    object: String,
    capability: String,
}

/// What came of one revocation.
#[derive(Clone, Debug)]
pub struct Revoked {
    /// What the probe said last; none if the agent was ended.
    pub refused: Option<Held>,
    /// Exit status of `coconut run`.
    pub code: i32,
    /// `CLOCK_BOOTTIME` before the command was started and after it had returned.
    pub command_ns: (u64, u64),
    /// The daemon's own figure: request to last map update.
    pub daemon_us: u64,
    /// State after the end.
    pub state: abi::AgentState,
}

impl Revoked {
    /// Refused, and nothing worked after the command had returned.
    pub fn bit(&self) -> bool {
        match &self.refused {
            Some(held) => held.event == "refused" && held.last_ok_ns <= self.command_ns.1,
            None => self.state == abi::AgentState::TerminatedRevoked,
        }
    }

    /// From the start of the command to the first refused use, in milliseconds.
    pub fn latency_ms(&self) -> Option<f64> {
        let held = self.refused.as_ref()?;
        Some(held.at_ns.saturating_sub(self.command_ns.0) as f64 / 1e6)
    }
}

/// Nanoseconds of `CLOCK_BOOTTIME`, the probe's clock.
pub fn boottime_ns() -> u64 {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64
}

/// Adds a check for each kind of thing held.
///
/// # Errors
/// When an agent cannot be started or the probe does not answer.
pub fn demonstrate(ctx: &Context, r: &mut Recorder) -> Result<()> {
    r.columns("revoked while in use", "agent", "chmod 000 / nothing");
    let (file, listener) = (held_file(ctx)?, echo()?);
    let mut latencies = Vec::new();
    for case in cases(&file, listener) {
        let revoked = revoke_held(ctx, &case)?;
        latencies.extend(revoked.latency_ms());
        let observed = match (&revoked.refused, revoked.latency_ms()) {
            (Some(held), _) if held.event != "refused" => "went on using it".to_owned(),
            (Some(held), Some(ms)) => {
                format!("{} in {ms:.0} ms", held.errno.as_deref().unwrap_or("refused"))
            }
            _ => revoked.state.name().to_owned(),
        };
        let control = control(ctx, &case, &file)?;
        r.check(Check::new(case.name, case.claim, revoked.bit(), observed, control));
    }
    if let Some(told) = Latency::of(&latencies) {
        r.figure("revoke_command_to_refusal_median", told.p50_ms, "ms");
    }
    let _ = std::fs::remove_file(file);
    Ok(())
}

fn cases(file: &Path, listener: SocketAddr) -> Vec<Case> {
    let path = file.display().to_string();
    let read = format!("fs.read={path}");
    let case = |name, claim, option, object: &str, capability: &str| Case {
        name,
        claim,
        option,
        object: object.to_owned(),
        capability: capability.to_owned(),
    };
    let connect = format!("net.connect={listener}");
    vec![
        case("revoked-file", "an open file", "--file", &path, &read),
        case("revoked-uring", "an open file in io_uring", "--uring", &path, &read),
        case(
            "revoked-socket",
            "an established connection",
            "--socket",
            &listener.to_string(),
            &connect,
        ),
        case("revoked-mmap", "a mapped file", "--mmap", &path, &read),
    ]
}

/// Revokes `fs.read` from an agent that reads an open file in a loop.
///
/// # Errors
/// When the agent cannot be started, does not hold the file, or is never refused.
pub fn revoke_open_file(ctx: &Context) -> Result<Revoked> {
    let file = held_file(ctx)?;
    let all = cases(&file, SocketAddr::from(([127, 0, 0, 1], 9)));
    let revoked = revoke_held(ctx, &all[0]);
    let _ = std::fs::remove_file(file);
    revoked
}

fn revoke_held(ctx: &Context, case: &Case) -> Result<Revoked> {
    let command = [&ctx.probe_arg(), "hold", case.option, &case.object].map(|w| w.to_string());
    let spec = Spec {
        name: ctx.unique("holder"),
        tenant: "mallory".to_owned(),
        caps: vec![case.capability.clone()],
        command: command.into(),
        ..Spec::default()
    };
    let agent = Agent::start(&ctx.coconut, spec)?;
    let name = agent.name.clone();
    let held = agent.json::<Held>(PATIENCE);
    held.with_context(|| format!("holding {}: {}", case.object, agent.complaints()))?;
    std::thread::sleep(Duration::from_millis(300));
    let before = boottime_ns();
    let report = ctx.coconut.revoke(&name, &case.capability)?;
    let command_ns = (before, boottime_ns());
    let refused = match agent.lines.next(PATIENCE)? {
        Some(line) => Some(serde_json::from_str(&line).with_context(|| line.clone())?),
        None => None,
    };
    let ran = agent.end(PATIENCE)?;
    let state = ctx.coconut.show(&name)?.agent.state;
    Ok(Revoked { refused, code: ran.code, command_ns, daemon_us: report.took_us, state })
}

/// The same without Coconut: `chmod 000` for files, and for a connection there is nothing to take away.
fn control(ctx: &Context, case: &Case, file: &Path) -> Result<Option<Control>> {
    let args = ["hold", case.option, &case.object, "--until-eof"].map(str::to_owned);
    let mut process = Process::start(User::of_agents()?, &ctx.probe, &args, None)?;
    let _: Held = process.json(PATIENCE).context("the control does not hold it")?;
    let at = boottime_ns();
    let mode = |bits| std::fs::set_permissions(file, std::fs::Permissions::from_mode(bits));
    mode(0o000)?;
    process.close();
    let last: Held = process.json(PATIENCE)?;
    mode(0o644)?;
    let still = last.event == "gave-up" && last.last_ok_ns > at;
    Ok(Control::new(still, if still { "goes on using it" } else { "was refused" }))
}

fn held_file(ctx: &Context) -> Result<PathBuf> {
    let user = User::of_agents()?;
    let file = ctx.work.join("held.txt");
    std::fs::write(&file, "held\n".repeat(2000)).with_context(|| file.display().to_string())?;
    if rustix::process::geteuid().is_root() {
        chown(&file, Some(user.uid), Some(user.gid))?;
    }
    Ok(file)
}

fn echo() -> Result<SocketAddr> {
    use std::io::{Read, Write};
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        for mut peer in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut bytes = [0u8; 64];
                while let Ok(n @ 1..) = peer.read(&mut bytes) {
                    if peer.write_all(&bytes[..n]).is_err() {
                        break;
                    }
                }
            });
        }
    });
    Ok(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn revoked(event: &str, last_ok_ns: u64) -> Revoked {
        let held = Held {
            held: "file".into(),
            event: event.into(),
            at_ns: 2_000_000,
            last_ok_ns,
            uses: 7,
            errno: Some("EACCES".into()),
        };
        Revoked {
            refused: Some(held),
            code: 0,
            command_ns: (1_000_000, 3_000_000),
            daemon_us: 90,
            state: abi::AgentState::TerminatedClean,
        }
    }

    #[test]
    fn a_use_after_the_command_is_a_failure() {
        assert!(revoked("refused", 1_900_000).bit());
        assert!(!revoked("refused", 3_000_001).bit());
        assert!(!revoked("gave-up", 1_900_000).bit());
        assert_eq!(revoked("refused", 0).latency_ms(), Some(1.0));
    }

    #[test]
    fn an_ended_agent_must_have_been_ended_by_the_revocation() {
        let ended = |state| Revoked { refused: None, state, ..revoked("", 0) };
        assert!(ended(abi::AgentState::TerminatedRevoked).bit());
        assert!(!ended(abi::AgentState::TerminatedFailed).bit());
    }
}
