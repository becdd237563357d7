//! A process that is to be started: here it is made only then.

use super::Fake;
use super::port::as_pid;
use abi::AgentId;
use coconutd::port::Ready;
use kernel::{Error, Launch, Process, Result};
use rustix::process::{PidfdFlags, pidfd_open};
use std::sync::Arc;

pub struct Waiting {
    pub fake: Arc<Fake>,
    pub number: u64,
    pub aid: AgentId,
    pub launch: Launch,
}

impl Ready for Waiting {
    fn go(self: Box<Self>) -> Result<Process> {
        self.fake.life.go_on(self.number, "launch");
        self.fake.step("launch")?;
        if self.fake.with(self.aid, |known| known.killed)? {
            return Err(Error::Invalid("it was killed while it waited".into()));
        }
        let launch = self.launch;
        let [stdin, stdout, stderr] = launch.stdio;
        let child = std::process::Command::new(&launch.argv[0])
            .args(&launch.argv[1..])
            .env_clear()
            .envs(launch.env)
            .stdin(stdin)
            .stdout(stdout)
            .stderr(stderr)
            .spawn()
            .map_err(|e| Error::Invalid(e.to_string()))?;
        let pid = child.id();
        let pidfd = pidfd_open(as_pid(pid), PidfdFlags::empty())
            .map_err(|e| Error::Invalid(e.to_string()))?;
        self.fake.with(self.aid, |known| known.pid = Some(pid))?;
        self.fake.life.go_on(self.number, "launched");
        Ok(Process { pid, pidfd })
    }
}
