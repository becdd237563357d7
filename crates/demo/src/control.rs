//! The control: the same program as an ordinary process, of the same user or of root.

use crate::coconut::shell_code;
use crate::lines::Lines;
use anyhow::{Context, Result};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

/// Root called, so the controls of root can be made.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A user and its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

impl User {
    /// Root.
    pub const ROOT: User = User { uid: 0, gid: 0 };

    /// Whoever agents of this caller run as: the caller, or for root the user `coconut-agent`.
    ///
    /// # Errors
    /// When root calls and there is no such user.
    pub fn of_agents() -> Result<User> {
        let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
        if !uid.is_root() {
            return Ok(User { uid: uid.as_raw(), gid: gid.as_raw() });
        }
        let text = std::fs::read_to_string("/etc/passwd").context("/etc/passwd")?;
        named(&text, "coconut-agent")
            .context("there is no user coconut-agent: is Coconut installed?")
    }

    /// A command that runs as this user, in `/`, without further groups.
    pub fn command(self, program: &Path) -> Command {
        let mut command = Command::new(program);
        if rustix::process::geteuid().is_root() {
            command.gid(self.gid).uid(self.uid);
        }
        command.current_dir("/");
        command
    }
}

fn named(passwd: &str, name: &str) -> Option<User> {
    let line = passwd.lines().find(|l| l.split(':').next() == Some(name))?;
    let mut fields = line.split(':').skip(2);
    Some(User { uid: fields.next()?.parse().ok()?, gid: fields.next()?.parse().ok()? })
}

/// An ordinary process; it is killed when this is dropped.
pub struct Process {
    /// Its stdout.
    pub lines: Lines,
    /// Its process id.
    pub pid: u32,
    errors: Lines,
    stdin: Option<ChildStdin>,
    child: Child,
}

impl Process {
    /// Starts it; without `stdin` it has a pipe that stays open as long as this lives.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(
        user: User,
        program: &Path,
        args: &[String],
        stdin: Option<OwnedFd>,
    ) -> Result<Process> {
        let mut command = user.command(program);
        command.args(args).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.stdin(stdin.map_or_else(Stdio::piped, Stdio::from));
        let mut child =
            command.spawn().with_context(|| format!("cannot run {}", program.display()))?;
        let lines = Lines::of(child.stdout.take().context("no stdout")?);
        let errors = Lines::of(child.stderr.take().context("no stderr")?);
        Ok(Process { lines, errors, pid: child.id(), stdin: child.stdin.take(), child })
    }

    /// Its next line as JSON; if there is none, what it has written to stderr.
    ///
    /// # Errors
    /// When nothing came in time, the process ended, or it said something else.
    pub fn json<T: serde::de::DeserializeOwned>(&self, limit: Duration) -> Result<T> {
        self.lines.json(limit).with_context(|| self.complaints())
    }

    /// Whatever it has written to stderr so far.
    pub fn complaints(&self) -> String {
        self.errors.so_far()
    }

    /// Processor time that it has used, in hundredths of a second: grows while it does anything.
    ///
    /// Of the scheduler's own account: what is sampled at each tick misses who sleeps from tick to tick.
    pub fn cpu_ticks(&self) -> u64 {
        let path = format!("/proc/{}/schedstat", self.pid);
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let ns = text.split_whitespace().next().and_then(|ns| ns.parse::<u64>().ok());
        ns.unwrap_or(0) / 10_000_000
    }

    /// Closes its stdin.
    pub fn close(&mut self) {
        drop(self.stdin.take());
    }

    /// Closes its stdin and waits for its end.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub fn end(mut self) -> Result<i32> {
        self.close();
        Ok(shell_code(self.child.wait()?))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_computes_uses_time_and_one_that_sleeps_does_not() {
        let user = User { uid: 0, gid: 0 };
        let run = |script: &str| {
            let args = ["-c", script].map(str::to_owned);
            Process::start(user, Path::new("/bin/sh"), &args, None).unwrap()
        };
        let (busy, idle) = (run("while :; do :; done"), run("exec sleep 1000"));
        while busy.cpu_ticks() < 20 {
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(idle.cpu_ticks() < 10, "{}", idle.cpu_ticks());
    }

    #[test]
    fn a_user_is_found_by_name() {
        let passwd = "root:x:0:0:root:/root:/bin/bash\ncoconut-agent:x:990:991::/:/bin/false\n";
        assert_eq!(named(passwd, "coconut-agent"), Some(User { uid: 990, gid: 991 }));
        assert_eq!(named(passwd, "coconut"), None);
    }
}
