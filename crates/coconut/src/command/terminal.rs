//! A terminal of the agent's own, with ours at the other end: it has job control there, and never holds the terminal
//! that its user types into. As `ssh -t` and `docker run -t` do.

use anyhow::Context as _;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{
    OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize,
};
use std::io::{stdin, stdout};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::thread;

/// How long the end of its output is waited for when a process that it left has the terminal still.
const LAST_WORDS: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };

/// Both ends, and what ours was like before.
pub struct Terminal {
    ours: Arc<OwnedFd>,
    before: Termios,
}

impl Terminal {
    /// Makes one where standard input and output are a terminal; the other end is for the agent.
    pub fn make() -> anyhow::Result<Option<(Terminal, OwnedFd)>> {
        if !isatty(stdin()) || !isatty(stdout()) {
            return Ok(None);
        }
        let make = || -> Result<(Terminal, OwnedFd), Errno> {
            let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
            grantpt(&ours)?;
            unlockpt(&ours)?;
            let theirs = ioctl_tiocgptpeer(&ours, OpenptFlags::RDWR | OpenptFlags::NOCTTY)?;
            let before = tcgetattr(stdin())?;
            tcsetattr(&theirs, OptionalActions::Now, &before)?;
            let terminal = Terminal { ours: Arc::new(ours), before };
            terminal.resize();
            Ok((terminal, theirs))
        };
        make().map(Some).context("cannot make a terminal for the agent")
    }

    /// From now on what is typed goes to the agent, each key as it is, and what it writes comes here.
    pub fn connect(self) -> anyhow::Result<Connected> {
        let mut raw = self.before.clone();
        raw.make_raw();
        tcsetattr(stdin(), OptionalActions::Now, &raw).context("cannot change this terminal")?;
        let typed = Arc::clone(&self.ours);
        // Ends with this process: nobody can tell a read of a terminal to stop.
        thread::spawn(move || pass(stdin().as_fd(), typed.as_fd()));
        Ok(Connected { terminal: self })
    }

    /// As large as ours.
    pub fn resize(&self) {
        if let Ok(size) = tcgetwinsize(stdout()) {
            // A terminal that has no size is no reason to stop.
            let _ = tcsetwinsize(&*self.ours, size);
        }
    }
}

/// A terminal whose keys go to the agent.
pub struct Connected {
    terminal: Terminal,
}

impl Connected {
    /// Shows what the agent writes, in a thread.
    pub fn show(&self) -> thread::JoinHandle<()> {
        let written = Arc::clone(&self.terminal.ours);
        thread::spawn(move || pass(written.as_fd(), stdout().as_fd()))
    }

    /// See [`Terminal::resize`].
    pub fn resize(&self) {
        self.terminal.resize();
    }

    /// Makes this terminal what it was.
    pub fn restore(&self) {
        // Flushed: what was typed for the agent is not for the shell.
        let _ = tcsetattr(stdin(), OptionalActions::Flush, &self.terminal.before);
    }

    /// Waits for what was written last.
    pub fn finish(&self, shown: &thread::JoinHandle<()>) {
        let quiet = || {
            let mut one = [PollFd::new(&*self.terminal.ours, PollFlags::IN)];
            matches!(poll(&mut one, Some(&LAST_WORDS)), Ok(0) | Err(_))
        };
        while !shown.is_finished() && !quiet() {
            thread::yield_now();
        }
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.restore();
    }
}

/// Copies until one end is gone: a terminal whose last user has gone answers EIO.
fn pass(from: BorrowedFd<'_>, to: BorrowedFd<'_>) {
    let mut bytes = [0u8; 4096];
    loop {
        let read = match rustix::io::read(from, &mut bytes) {
            Ok(0) => return,
            Ok(n) => n,
            Err(Errno::INTR) => continue,
            Err(_) => return,
        };
        let mut rest = &bytes[..read];
        while !rest.is_empty() {
            match rustix::io::write(to, rest) {
                Ok(n) => rest = &rest[n..],
                Err(Errno::INTR) => {}
                Err(_) => return,
            }
        }
    }
}
