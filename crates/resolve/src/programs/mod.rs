//! The program that will run: the very file that is hashed is the one that is executed.
//!
//! A digest says nothing about a file that somebody may write to. So a read lease is taken first,
//! then the file is hashed through that descriptor, and the lease is kept until the program runs:
//! whoever opens the file for writing meanwhile waits. That also makes digests worth remembering: as
//! long as the lease is held, nobody has written. Size and times are never asked; a writer can set
//! most of them.

mod guard;
mod remembered;
mod script;

pub use guard::{Basis, Guard};

use crate::paths::{self, OpenError};
use manifest::AbsPath;
use remembered::{Known, Remembered};
use rustix::fs::{FileType, fstat};
use rustix::io::pread;
use script::Head;
use sha2::{Digest, Sha256};
use std::ffi::OsString;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};

/// Programs whose digests are remembered; each costs an open descriptor.
pub const REMEMBERED: usize = 64;

/// The calls for leases, which no safe wrapper offers.
pub trait Leases: Send + Sync {
    /// Takes a read lease: `fcntl(F_SETLEASE, F_RDLCK)`.
    ///
    /// # Errors
    /// `WouldBlock` if the file is open for writing; `InvalidInput` where there are no leases.
    fn take(&self, file: BorrowedFd<'_>) -> io::Result<()>;

    /// Gives it back: `fcntl(F_SETLEASE, F_UNLCK)`.
    ///
    /// # Errors
    /// Those of `fcntl`.
    fn give_back(&self, file: BorrowedFd<'_>) -> io::Result<()>;

    /// Whether it is held and nobody waits for its end: `fcntl(F_GETLEASE)`.
    ///
    /// # Errors
    /// Those of `fcntl`.
    fn is_held(&self, file: BorrowedFd<'_>) -> io::Result<bool>;

    /// The digest that fs-verity holds the file to: `ioctl(FS_IOC_MEASURE_VERITY)`.
    ///
    /// # Errors
    /// Those of `ioctl`.
    fn verity_digest(&self, file: BorrowedFd<'_>) -> io::Result<Option<Vec<u8>>>;

    /// Whether a block device is checked by dm-verity, which makes every file on it immutable.
    fn is_verity_image(&self, major: u32, minor: u32) -> bool {
        let uuid = std::fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/dm/uuid"));
        uuid.is_ok_and(|uuid| uuid.starts_with("CRYPT-VERITY-"))
    }
}

/// Why a program cannot be run as what it is.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // the messages say it
pub enum ProgramError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error("{0} is not a regular file, so it is no program")]
    NotRegular(AbsPath),
    #[error(
        "{0} is open for writing by somebody, so what will run cannot be told\nhint: try again when it is written"
    )]
    Busy(AbsPath),
    #[error("{0} was changed while it was read\nhint: try again")]
    Changed(AbsPath),
    #[error("cannot {action} {path}")]
    Io {
        action: &'static str,
        path: AbsPath,
        #[source]
        source: io::Error,
    },
    #[error(
        "the first line of {0} names no interpreter within {max} bytes\nhint: write #!/usr/bin/…",
        max = script::HEAD
    )]
    NoInterpreter(AbsPath),
    #[error(
        "the first line of {script} names the interpreter {name:?}, not the absolute path of one\nhint: write #!/usr/bin/…"
    )]
    BadInterpreter { script: AbsPath, name: OsString },
    #[error("{script} cannot be interpreted")]
    Interpreter {
        script: AbsPath,
        #[source]
        source: Box<ProgramError>,
    },
    #[error("{0} is the end of more than {max} scripts that interpret one another", max = script::DEPTH)]
    TooDeep(AbsPath),
}

/// A program, held as it was hashed. Keep it until the program runs, then drop it.
#[derive(Debug)]
pub struct Program {
    /// To be executed; opened for reading, shared with nobody.
    pub file: OwnedFd,
    /// Its name, without links.
    pub real: AbsPath,
    /// SHA-256 of its content.
    pub digest: [u8; 32],
    /// What the kernel will execute instead, if this is a script.
    pub interpreter: Option<Box<Program>>,
    guard: Arc<Guard>,
}

impl Program {
    /// What holds this file's content.
    pub fn basis(&self) -> &Basis {
        self.guard.basis()
    }

    /// False if this file or an interpreter lies where nothing holds its content: to be told to
    /// whoever asks for the program, for its digest may not be that of what runs.
    pub fn guarded(&self) -> bool {
        self.chain().all(|program| *program.basis() != Basis::Nothing)
    }

    /// True if every file is held and nobody has written to one, or waits to. A writer waits
    /// `/proc/sys/fs/lease-break-time` seconds at most, so ask when the program has started.
    pub fn holds(&self) -> bool {
        self.chain().all(|program| program.guard.holds())
    }

    /// The program and its interpreters, in the order in which the kernel comes to them.
    pub fn chain(&self) -> impl Iterator<Item = &Program> {
        std::iter::successors(Some(self), |program| program.interpreter.as_deref())
    }
}

/// Opens programs, and remembers digests as long as they are true.
pub struct Programs {
    leases: Arc<dyn Leases>,
    known: Remembered,
}

impl Programs {
    /// Starts to listen for broken leases, so within a tokio runtime and before any lease is
    /// taken: unhandled, their signal would end the process. `most` digests are remembered.
    ///
    /// # Errors
    /// When the signal cannot be handled.
    pub fn start(leases: Arc<dyn Leases>, most: usize) -> io::Result<Arc<Programs>> {
        let mut broken = signal(SignalKind::io())?;
        let programs = Arc::new(Programs { leases, known: Remembered::new(most) });
        let listener = Arc::downgrade(&programs);
        tokio::spawn(async move {
            while broken.recv().await.is_some() {
                let Some(programs) = listener.upgrade() else { return };
                programs.on_lease_break();
            }
        });
        Ok(programs)
    }

    /// Opens, holds and hashes what `path` leads to. Reads files: not for a thread that must not
    /// wait.
    ///
    /// # Errors
    /// [`ProgramError::Busy`] while somebody has it open for writing; others name what refused.
    pub fn open(&self, path: &AbsPath) -> Result<Program, ProgramError> {
        self.open_at(path, 0)
    }

    /// Lets writers to remembered programs go on, at once; a program that is just being started
    /// lets go when it runs. Returns how many digests were forgotten. Called on SIGIO by what
    /// [`Programs::start`] starts.
    pub fn on_lease_break(&self) -> usize {
        self.known.let_go()
    }

    /// How many digests are remembered.
    pub fn remembered(&self) -> usize {
        self.known.len()
    }

    fn open_at(&self, path: &AbsPath, scripts: usize) -> Result<Program, ProgramError> {
        let opened = paths::open(path)?;
        if opened.kind != FileType::RegularFile {
            return Err(ProgramError::NotRegular(opened.real));
        }
        let real = opened.real;
        // By its descriptor: opening a FIFO or a device by name would already do something.
        let file = guard::reopen(&opened.fd).map_err(|source| io_error("open", &real, source))?;
        let known = self.hashed(&file, &real)?;
        let interpreter = self.interpreter(&known.guard, &real, scripts)?;
        Ok(Program { file, real, digest: known.digest, interpreter, guard: known.guard })
    }

    fn hashed(&self, file: &OwnedFd, real: &AbsPath) -> Result<Known, ProgramError> {
        let stat = fstat(file).map_err(|errno| io_error("look at", real, errno.into()))?;
        if let Some(known) = self.known.find(&stat) {
            return Ok(known);
        }
        let guard = Guard::take(file, &self.leases).map_err(|source| match source.kind() {
            io::ErrorKind::WouldBlock => ProgramError::Busy(real.clone()),
            _ => io_error("hold", real, source),
        })?;
        let digest = hash(&guard).map_err(|source| io_error("read", real, source))?;
        let unchanged = match guard.basis() {
            Basis::Nothing => fstat(file).is_ok_and(|now| version(&now) == version(&stat)),
            _ => guard.holds(),
        };
        if !unchanged {
            return Err(ProgramError::Changed(real.clone()));
        }
        let known = Known { guard: Arc::new(guard), digest };
        self.known.keep(&known);
        Ok(known)
    }

    fn interpreter(
        &self,
        guard: &Guard,
        real: &AbsPath,
        scripts: usize,
    ) -> Result<Option<Box<Program>>, ProgramError> {
        let mut buffer = [0; script::HEAD];
        let length = read_at(guard, &mut buffer, 0).map_err(|e| io_error("read", real, e))?;
        let name = match script::parse(&buffer[..length]) {
            Head::Other => return Ok(None),
            Head::Unreadable => return Err(ProgramError::NoInterpreter(real.clone())),
            Head::Script(name) => name,
        };
        if scripts == script::DEPTH {
            return Err(ProgramError::TooDeep(real.clone()));
        }
        let path = std::str::from_utf8(name).ok().and_then(|text| AbsPath::parse(text).ok());
        let path = path.ok_or_else(|| ProgramError::BadInterpreter {
            script: real.clone(),
            name: OsString::from_vec(name.to_vec()),
        })?;
        let found = self.open_at(&path, scripts + 1).map_err(|source| {
            ProgramError::Interpreter { script: real.clone(), source: Box::new(source) }
        })?;
        Ok(Some(Box::new(found)))
    }
}

fn io_error(action: &'static str, path: &AbsPath, source: io::Error) -> ProgramError {
    ProgramError::Io { action, path: path.clone(), source }
}

/// Tells a change from none while a file is read that nothing holds; nothing is remembered by it.
fn version(stat: &rustix::fs::Stat) -> (i64, i64, u64, i64, u64) {
    (stat.st_size, stat.st_mtime, stat.st_mtime_nsec, stat.st_ctime, stat.st_ctime_nsec)
}

fn hash(guard: &Guard) -> io::Result<[u8; 32]> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0u8; 1 << 17];
    let mut offset = 0;
    loop {
        match read_at(guard, &mut buffer, offset)? {
            0 => return Ok(hash.finalize().into()),
            length => {
                hash.update(&buffer[..length]);
                offset += length as u64;
            }
        }
    }
}

/// Reads until the buffer is full or the file ends.
fn read_at(guard: &Guard, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match pread(guard.file(), &mut buffer[length..], offset + length as u64) {
            Ok(0) => break,
            Ok(more) => length += more,
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(length)
}
