//! Its process: made, started, and told to the kernel.

use super::Plan;
use crate::change::blocking;
use crate::error::{Answer, Refusal};
use crate::port::Ready;
use crate::sink::Durable;
use crate::state::Daemon;
use abi::AgentId;
use std::ffi::OsString;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use supervisor::Event;

/// How long it takes until the kernel is told again what it did not take.
const AGAIN: Duration = Duration::from_millis(500);

impl Plan {
    /// Its process is made while its records are written, and its program runs once they are. Among many
    /// the records come first: then they are synced together, and what that saves is work, not waiting.
    pub(super) async fn start(
        &self,
        daemon: &Daemon,
        aid: AgentId,
        records: Durable,
    ) -> Answer<kernel::Process> {
        let written = async move {
            records.written().await.map_err(|error| Refusal::from(error).step("record"))
        };
        if daemon.starting.load(Ordering::Relaxed) > 1 {
            written.await?;
            return blocking(|| self.go(daemon, aid, self.prepare(daemon, aid)?));
        }
        let ready = blocking(|| self.prepare(daemon, aid))?;
        written.await?;
        blocking(|| self.go(daemon, aid, ready))
    }

    fn prepare(&self, daemon: &Daemon, aid: AgentId) -> Answer<Box<dyn Ready>> {
        tell(daemon, aid).map_err(|e| Refusal::from(e).step("state"))?;
        let launch = self.launch().map_err(|error| {
            Refusal::failed(format!("cannot hand its files on: {error}")).step("launch")
        })?;
        let ready = daemon.kernel.prepare(aid, launch);
        ready.map_err(|error| Refusal::from(error).step("launch"))
    }

    fn go(&self, daemon: &Daemon, aid: AgentId, ready: Box<dyn Ready>) -> Answer<kernel::Process> {
        let refused = |text: String| Refusal::failed(text).step("launch");
        if daemon.inner().info.get(&aid).is_none_or(|info| info.ending.is_some()) {
            return Err(refused("it was ended before it ran".to_owned()));
        }
        let process = ready.go().map_err(|error| Refusal::from(error).step("launch"))?;
        if self.program.guarded() && !self.program.holds() {
            let real = &self.program.real;
            return Err(refused(format!("{real} was written to while it was started")));
        }
        let pidfd = process.pidfd.try_clone().map_err(|e| Refusal::failed(e.to_string()))?;
        let footing = daemon.kernel.footing(aid).ok();
        let mut inner = daemon.inner();
        if let Some(info) = inner.info.get_mut(&aid) {
            info.pid = Some(process.pid);
            info.pidfd = Some(Arc::new(pidfd));
            info.footing = footing;
        }
        inner.supervisor.touch(aid);
        drop(inner);
        Ok(process)
    }

    fn launch(&self) -> std::io::Result<kernel::Launch> {
        let [input, output, error] = &self.stdio;
        let interpreter = self.program.interpreter.as_ref();
        Ok(kernel::Launch {
            program: self.program.file.try_clone()?,
            interpreter: interpreter.map(|program| program.file.try_clone()).transpose()?,
            argv: self.prepared.manifest.agent.command.iter().map(OsString::from).collect(),
            env: self.environment(),
            cwd: self.cwd.clone(),
            uid: self.run_as.uid,
            gid: self.run_as.gid,
            groups: self.run_as.groups.clone(),
            stdio: [input.try_clone()?, output.try_clone()?, error.try_clone()?],
        })
    }

    pub(super) fn activate(&self, daemon: &Arc<Daemon>, aid: AgentId) {
        let (due, doomed) = {
            let mut inner = daemon.inner();
            let step = inner.step(aid, Event::Activate);
            let due = daemon.sink.owe(step.into_iter().map(|(_, entry)| entry).collect());
            (due, inner.info.get(&aid).is_some_and(|info| info.ending.is_some()))
        };
        daemon.expiry.notify_one();
        blocking(|| {
            // Whoever ended it in between found no process yet.
            if doomed && let Err(error) = daemon.kernel.kill(aid) {
                tracing::error!(?aid, %error, "cannot kill");
            }
            daemon.sink.pay(due);
            if let Err(error) = tell(daemon, aid) {
                tracing::warn!(%error, "the kernel did not take the state; trying again");
                tokio::spawn(tell_again(daemon.clone(), aid));
            }
        });
    }
}

/// Tells the kernel the agent's state.
fn tell(daemon: &Daemon, aid: AgentId) -> kernel::Result<()> {
    let owner = daemon.inner().info.get(&aid).map(|info| info.kernel.clone());
    owner.map_or(Ok(()), |owner| owner.tell_now(daemon, aid))
}

/// Tells the kernel the state until it takes it, or the agent has ended.
async fn tell_again(daemon: Arc<Daemon>, aid: AgentId) {
    let lives = || daemon.inner().supervisor.get(aid).is_ok_and(|a| !a.state().is_terminal());
    while lives() && blocking(|| tell(&daemon, aid)).is_err() {
        tokio::time::sleep(AGAIN).await;
    }
}
