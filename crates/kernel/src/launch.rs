//! Starts an agent's program: clone into the cgroup, prepare, grant, go.
//!
//! The child is cloned into the cgroup while checks are off there. It prepares itself (child.rs),
//! says so and waits. The daemon then grants the private mounts and the inherited descriptors,
//! switches checks on and lets it go; from the `execve` on everything is checked.

use crate::child::{self, Plan};
use crate::resolve::{self, Node};
use crate::state::{Agent, Shared};
use crate::{Error, Launch, Process, Result, SpawnStep, sys};
use abi::agent::FLAG_SETUP;
use abi::caps::*;
use abi::control::CONTROL_CLEAR_FLAGS;
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

/// Every right on the agent's own `/tmp`.
const TMP_RIGHTS: u32 =
    RIGHT_READ | RIGHT_WRITE | RIGHT_EXEC | RIGHT_CREATE | RIGHT_DELETE | RIGHT_UNIX;

/// Runs all steps; whatever refuses, no process is left.
pub(crate) fn launch_process(shared: &Shared, agent: &Agent, launch: Launch) -> Result<Process> {
    let prepare = |e: Errno| failed(SpawnStep::Prepare, e.into());
    // Copies above the standard descriptors, so that moving them there cannot lose one.
    let mut stdio = Vec::with_capacity(3);
    for fd in &launch.stdio {
        stdio.push(rustix::io::fcntl_dupfd_cloexec(fd, 3).map_err(prepare)?);
    }
    let (told, tell) = pipe_with(PipeFlags::CLOEXEC).map_err(prepare)?;
    let (go, let_go) = pipe_with(PipeFlags::CLOEXEC).map_err(prepare)?;
    let strings = Strings::new(&launch)?;
    let plan = Plan {
        argv: strings.argv(),
        env: strings.env(),
        cwd: &strings.cwd,
        tmp_options: &strings.tmp_options,
        uid: launch.uid,
        gid: launch.gid,
        groups: &launch.groups,
        stdio: [stdio[0].as_raw_fd(), stdio[1].as_raw_fd(), stdio[2].as_raw_fd()],
        tell: tell.as_raw_fd(),
        go: go.as_raw_fd(),
    };
    let (pid, pidfd) = child::clone_into(agent.cgroup.as_raw_fd(), &plan)
        .map_err(|e| failed(SpawnStep::Clone, e))?;
    // The child has its own ends; the daemon's must go, or the end of the pipe is never seen.
    drop((tell, go, launch));
    let process = Process { pid, pidfd };
    match accompany(shared, agent, &process, &stdio, &told, let_go) {
        Ok(()) => Ok(process),
        Err(error) => {
            sys::kill_and_reap(process.pidfd.as_fd());
            Err(error)
        }
    }
}

/// The daemon's half of the conversation.
fn accompany(
    shared: &Shared,
    agent: &Agent,
    process: &Process,
    stdio: &[OwnedFd],
    told: &OwnedFd,
    let_go: OwnedFd,
) -> Result<()> {
    match hear(told)? {
        Some((SpawnStep::Report, 0)) => {}
        Some((step, errno)) => return Err(failed(step, io::Error::from_raw_os_error(errno))),
        None => return Err(failed(SpawnStep::Report, io::ErrorKind::UnexpectedEof.into())),
    }
    grant(shared, agent, process.pid, stdio)?;
    rustix::io::write(&let_go, &[1]).map_err(|e| failed(SpawnStep::Await, e.into()))?;
    drop(let_go);
    match hear(told)? {
        // The pipe closed with the execve: the program runs.
        None => Ok(()),
        Some((step, errno)) => Err(failed(step, io::Error::from_raw_os_error(errno))),
    }
}

/// One message of the child: step and errno.
fn hear(told: &OwnedFd) -> Result<Option<(SpawnStep, i32)>> {
    let mut message = [0u8; 8];
    let n = loop {
        match rustix::io::read(told, &mut message) {
            Err(Errno::INTR) => {}
            other => break other.map_err(|e| failed(SpawnStep::Report, e.into()))?,
        }
    };
    if n < message.len() {
        return Ok(None);
    }
    let word = |at: usize| u32::from_ne_bytes([0, 1, 2, 3].map(|i| message[at + i]));
    let step = SpawnStep::try_from(word(0)).unwrap_or(SpawnStep::Report);
    Ok(Some((step, word(4).cast_signed())))
}

/// What the manifest cannot name, then the checks on.
fn grant(shared: &Shared, agent: &Agent, pid: u32, stdio: &[OwnedFd]) -> Result<()> {
    let error = |source| failed(SpawnStep::Grants, source);
    let mut private: Vec<(Node, u32)> = Vec::new();
    for (mount, rights) in [("proc", RIGHT_READ | RIGHT_WRITE), ("tmp", TMP_RIGHTS)] {
        let path = format!("/proc/{pid}/root/{mount}");
        let fd = rustix::fs::openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
            .map_err(|e| error(e.into()))?;
        private.push((resolve::look(&shared.maps, fd.as_fd()).map_err(error)?, rights));
    }
    // The root, so that everything on the way can be looked at by name.
    let root = rustix::fs::openat(CWD, "/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .map_err(|e| error(e.into()))?;
    private.push((resolve::look(&shared.maps, root.as_fd()).map_err(error)?, RIGHT_TRAVERSE));
    for fd in stdio {
        let seen = resolve::look_at_any(&shared.maps, fd.as_fd()).map_err(error)?;
        let Some(node) = seen else { continue };
        if node.directory {
            return Err(error(io::ErrorKind::IsADirectory.into()));
        }
        private.push((node, RIGHT_READ | RIGHT_WRITE));
    }
    shared.add_private(agent, &private)?;
    shared.control(CONTROL_CLEAR_FLAGS, agent.id, FLAG_SETUP)
}

fn failed(step: SpawnStep, source: io::Error) -> Error {
    Error::Spawn { step, source }
}

/// Everything that the child needs as C strings, made before the clone.
struct Strings {
    args: Vec<CString>,
    vars: Vec<CString>,
    cwd: CString,
    tmp_options: CString,
}

impl Strings {
    fn new(launch: &Launch) -> Result<Strings> {
        if launch.argv.first().is_none_or(|p| !p.as_bytes().starts_with(b"/")) {
            return Err(Error::Invalid("the program's path must be absolute".to_owned()));
        }
        let args = launch.argv.iter().map(|a| text(a)).collect::<Result<_>>()?;
        let var = |(k, v): &(std::ffi::OsString, std::ffi::OsString)| {
            text(OsStr::from_bytes(&[k.as_bytes(), b"=", v.as_bytes()].concat()))
        };
        let vars = launch.env.iter().map(var).collect::<Result<_>>()?;
        let tmp_options = format!("size={},mode=1777", launch.tmp_size);
        Ok(Strings {
            args,
            vars,
            cwd: text(launch.cwd.as_os_str())?,
            tmp_options: text(OsStr::new(&tmp_options))?,
        })
    }

    fn argv(&self) -> Vec<*const libc::c_char> {
        pointers(&self.args)
    }

    fn env(&self) -> Vec<*const libc::c_char> {
        pointers(&self.vars)
    }
}

fn pointers(all: &[CString]) -> Vec<*const libc::c_char> {
    all.iter().map(|s| s.as_ptr()).chain([core::ptr::null()]).collect()
}

fn text(text: &OsStr) -> Result<CString> {
    CString::new(text.as_bytes())
        .map_err(|_| Error::Invalid(format!("{text:?} holds a NUL character")))
}
