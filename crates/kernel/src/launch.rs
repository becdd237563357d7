//! Starts an agent's program: clone into the cgroup, prepare, grant, go.
//!
//! The child is cloned into the cgroup while checks are off there, with a small table of descriptors
//! (seats.rs). It prepares itself (child.rs), says so and waits. The daemon then gives it its private mounts and
//! what its standard files were opened for. It waits on until it is told to go ([`Waiting::go`]): then checks are
//! switched on, and from the `execve` on everything is checked.

use crate::child::{self, Plan};
use crate::commons::Part;
use crate::handle::{self, Seen};
use crate::lock::lock;
use crate::rooms::{self, HAS_SHM, HAS_TERMINALS};
use crate::seats::Seat;
use crate::state::{Agent, Shared};
use crate::{Error, Handle, Launch, Namespaces, Process, Result, SpawnStep, sys};
use abi::agent::FLAG_SETUP;
use abi::caps::*;
use abi::control::{CONTROL_CLEAR_FLAGS, CONTROL_EXPECT, Control};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use zerocopy::FromZeros;

/// Every right on the agent's own `/tmp`; a strict one runs nothing from there.
const TMP_RIGHTS: u32 =
    RIGHT_READ | RIGHT_WRITE | RIGHT_EXEC | RIGHT_CREATE | RIGHT_DELETE | RIGHT_UNIX;

/// A process that has all it needs and runs nothing of the agent's yet. One that is dropped is ended.
pub struct Waiting {
    shared: Arc<Shared>,
    agent: Arc<Agent>,
    process: Option<Process>,
    told: OwnedFd,
    let_go: OwnedFd,
}

impl Waiting {
    /// Waits until the child has its own table of descriptors, or has ended: until then it has the daemon's, and
    /// so the other end of the pipe.
    fn await_table(&self) -> Result<()> {
        let Some(process) = &self.process else { return Ok(()) };
        let mut both =
            [PollFd::new(&self.told, PollFlags::IN), PollFd::new(&process.pidfd, PollFlags::IN)];
        loop {
            match poll(&mut both, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(e) => return Err(failed(SpawnStep::Table, e.into())),
            }
            if both[0].revents().contains(PollFlags::IN) {
                break;
            }
            if !both[1].revents().is_empty() {
                return Err(failed(SpawnStep::Table, io::ErrorKind::UnexpectedEof.into()));
            }
        }
        match hear(&self.told)? {
            Some((SpawnStep::Table, 0)) => Ok(()),
            Some((step, errno)) => Err(failed(step, io::Error::from_raw_os_error(errno))),
            None => Err(failed(SpawnStep::Table, io::ErrorKind::UnexpectedEof.into())),
        }
    }

    /// Switches checks on and starts the program; on failure no process is left.
    pub fn go(mut self) -> Result<Process> {
        let setup = FLAG_SETUP.into();
        self.shared.control(CONTROL_CLEAR_FLAGS, self.agent.id, setup)?;
        rustix::io::write(&self.let_go, &[1]).map_err(|e| failed(SpawnStep::Await, e.into()))?;
        match hear(&self.told)? {
            // The pipe closed with the execve: the program runs.
            None => {}
            Some((step, errno)) => return Err(failed(step, io::Error::from_raw_os_error(errno))),
        }
        self.process.take().ok_or_else(|| failed(SpawnStep::Await, io::ErrorKind::NotFound.into()))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(process) = self.process.take() {
            sys::kill_and_reap(process.pidfd.as_fd());
        }
    }
}

/// Runs all steps but the last; whatever refuses, no process is left.
pub(crate) fn prepare(shared: &Arc<Shared>, agent: Arc<Agent>, launch: Launch) -> Result<Waiting> {
    let no_pipe = |e: Errno| failed(SpawnStep::Prepare, e.into());
    let expected = expected(shared, &launch)?;
    let room = Room::new(shared, &agent)?;
    let (told, tell) = pipe_with(PipeFlags::CLOEXEC).map_err(no_pipe)?;
    let (go, let_go) = pipe_with(PipeFlags::CLOEXEC).map_err(no_pipe)?;
    let strings = Strings::new(&launch)?;
    let mut seat = shared.seats.take();
    let plan = sit(&mut seat, &launch, &strings, &room, [&tell, &go])
        .map(|plan| Plan { strict: agent.strict, ..plan })
        .map_err(|e| failed(SpawnStep::Prepare, e))?;
    let (pid, pidfd) = child::clone_into(agent.cgroup.as_raw_fd(), &plan)
        .map_err(|e| failed(SpawnStep::Clone, e))?;
    let process = Some(Process { pid, pidfd });
    let waiting = Waiting { shared: Arc::clone(shared), agent, process, told, let_go };
    // What else it was lent is the child's now.
    let stdio = launch.stdio;
    waiting.await_table()?;
    // The child has its own ends; the daemon's must go, or the end of the pipe is never seen.
    drop((tell, go, seat, room));
    accompany(&waiting, pid, &stdio, &expected)?;
    Ok(waiting)
}

/// Everything that the child needs on a seat, and where.
fn sit<'a>(
    seat: &mut Seat,
    launch: &'a Launch,
    strings: &'a Strings,
    room: &'a Room,
    [tell, go]: [&OwnedFd; 2],
) -> io::Result<Plan<'a>> {
    let [input, output, error] = &launch.stdio;
    Ok(Plan {
        argv: strings.argv(),
        env: strings.env(),
        cwd: &strings.cwd,
        stdio: [seat.put(input)?, seat.put(output)?, seat.put(error)?],
        program: match launch.interpreter {
            Some(_) => None,
            None => Some(seat.put(&launch.program)?),
        },
        tell: seat.put(tell)?,
        go: seat.put(go)?,
        room: room.plan(seat)?,
        seat: seat.numbers(),
        end: seat.end(),
        strict: false,
        uid: launch.uid,
        gid: launch.gid,
        groups: &launch.groups,
    })
}

/// The daemon's half of the conversation.
fn accompany(child: &Waiting, pid: u32, stdio: &[OwnedFd], expected: &Expected) -> Result<()> {
    let made = match hear(&child.told)? {
        Some((SpawnStep::Report, made)) => made,
        Some((step, errno)) => return Err(failed(step, io::Error::from_raw_os_error(errno))),
        None => return Err(failed(SpawnStep::Report, io::ErrorKind::UnexpectedEof.into())),
    };
    expect(&child.shared, &child.agent, expected)?;
    grant(&child.shared, &child.agent, (pid, made), stdio)
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

/// The files that the agent may start with, by their numbers.
struct Expected {
    program: FileKey,
    interpreter: FileKey,
}

fn expected(shared: &Shared, launch: &Launch) -> Result<Expected> {
    let numbers = |fd: &OwnedFd| {
        let seen = handle::look(&shared.maps, fd.as_fd());
        seen.map(|seen| seen.node.key()).map_err(|e| failed(SpawnStep::Prepare, e))
    };
    let nothing = FileKey { dev: 0, ino: 0 };
    Ok(Expected {
        program: numbers(&launch.program)?,
        interpreter: launch.interpreter.as_ref().map_or(Ok(nothing), numbers)?,
    })
}

/// What no rule names: the agent's own mounts, its standard files, the root to be looked at.
fn grant(shared: &Shared, agent: &Agent, (pid, made): (u32, i32), stdio: &[OwnedFd]) -> Result<()> {
    let error = |source| failed(SpawnStep::Grants, source);
    let mut private: Vec<(FileKey, u32)> = Vec::new();
    let tmp = if agent.strict { TMP_RIGHTS & !RIGHT_EXEC } else { TMP_RIGHTS };
    let both = RIGHT_READ | RIGHT_WRITE;
    let mut own = vec![("proc", both), ("tmp", tmp)];
    if made & HAS_SHM != 0 {
        own.push(("dev/shm", TMP_RIGHTS & !RIGHT_EXEC));
    }
    if made & HAS_TERMINALS != 0 {
        own.extend([("dev/pts", both), ("dev/ptmx", both)]);
    }
    for (mount, rights) in own {
        let path = format!("/proc/{pid}/root/{mount}");
        let fd = rustix::fs::openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
            .map_err(|e| error(e.into()))?;
        let seen = handle::look(&shared.maps, fd.as_fd()).map_err(error)?;
        private.push((seen.node.key(), rights));
    }
    private.push((own_limits(shared, agent)?, RIGHT_READ));
    private.push((shared.root().map_err(error)?, RIGHT_TRAVERSE));
    let mut kept = Vec::new();
    for fd in stdio {
        private.extend(standard_file(shared, fd, &mut kept)?);
    }
    let set = shared.sets.make_private(&private, kept)?;
    let mut rights = lock(&agent.rights);
    rights.private = Some(set);
    shared.publish(agent, &mut rights)
}

/// Its control group, where programs look for how much they may use (`memory.max`, `cpu.max`).
fn own_limits(shared: &Shared, agent: &Agent) -> Result<FileKey> {
    let error = |e: io::Error| failed(SpawnStep::Grants, e);
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let domain = rustix::fs::openat(CWD, &agent.domain, flags, Mode::empty());
    let domain = domain.map_err(|e| error(e.into()))?;
    Ok(handle::look(&shared.maps, domain.as_fd()).map_err(error)?.node.key())
}

/// The rights that an open descriptor stands for, and a handle that keeps the file its own; none for
/// pipes and the like, which need no right.
fn standard_file(
    shared: &Shared,
    fd: &OwnedFd,
    kept: &mut Vec<Arc<Handle>>,
) -> Result<Option<(FileKey, u32)>> {
    let error = |source| failed(SpawnStep::Grants, source);
    let seen: Seen = handle::look(&shared.maps, fd.as_fd()).map_err(error)?;
    if seen.is_internal() {
        return Ok(None);
    }
    if seen.node.directory {
        return Err(error(io::ErrorKind::IsADirectory.into()));
    }
    // By this descriptor, not by a name; without the access that keeps others from running the file.
    let own = format!("/proc/self/fd/{}", fd.as_raw_fd());
    let path = rustix::fs::openat(CWD, own, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .map_err(|e| error(e.into()))?;
    let handle = handle::handle(&shared.maps, path)?;
    kept.push(Arc::new(handle));
    let flags = rustix::fs::fcntl_getfl(fd).map_err(|e| error(e.into()))?;
    Ok(Some((seen.node.key(), rights_of_mode(flags))))
}

/// What was opened for appending is not cut, overwritten or, unless it was opened for both, read.
fn rights_of_mode(flags: OFlags) -> u32 {
    let write = if flags.contains(OFlags::APPEND) { RIGHT_APPEND } else { RIGHT_WRITE };
    match flags & OFlags::RWMODE {
        OFlags::WRONLY => write,
        OFlags::RDWR => RIGHT_READ | write,
        _ => RIGHT_READ,
    }
}

/// Only the expected program may be started. Told in place: a state or rights that change meanwhile are
/// not undone.
fn expect(shared: &Shared, agent: &Agent, expected: &Expected) -> Result<()> {
    let (op, cgroup) = (CONTROL_EXPECT, agent.id);
    let Expected { program: file, interpreter } = *expected;
    let command = Control { op, cgroup, file, interpreter, ..Control::new_zeroed() };
    sys::control(&shared.maps.control, command)
}

/// What the child makes of `/proc`, `/tmp` and its IPC namespace.
enum Room {
    Own { tmp_options: CString },
    Shared(Part),
}

impl Room {
    fn new(shared: &Shared, agent: &Agent) -> Result<Room> {
        match agent.namespaces {
            Namespaces::Shared => shared.commons.part(&agent.folder_name()).map(Room::Shared),
            Namespaces::Own { tmp_size } => {
                let options = format!("size={tmp_size},mode=1777");
                Ok(Room::Own { tmp_options: text(OsStr::new(&options))? })
            }
        }
    }

    fn plan(&self, seat: &mut Seat) -> io::Result<rooms::Room<'_>> {
        Ok(match self {
            Room::Own { tmp_options } => rooms::Room::Own { tmp_options },
            Room::Shared(part) => rooms::Room::Shared {
                tmp: seat.put(&part.tmp)?,
                mounts: seat.put(&part.mounts)?,
                ipc: seat.put(&part.ipc)?,
            },
        })
    }
}

fn failed(step: SpawnStep, source: io::Error) -> Error {
    Error::Spawn { step, source }
}

/// Everything that the child needs as C strings, made before the clone.
struct Strings {
    args: Vec<CString>,
    vars: Vec<CString>,
    cwd: CString,
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
        Ok(Strings { args, vars, cwd: text(launch.cwd.as_os_str())? })
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
