//! Attempts through io_uring, which no syscall filter sees.

use super::{Attempt, Got, Target, printable, step};
use io_uring::{IoUring, opcode, squeue, types};
use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;

/// The table.
pub const ATTEMPTS: &[Attempt] = &[
    Attempt {
        name: "uring-open",
        argument: "FILE",
        wants: "open and read it by io_uring",
        run: open,
    },
    Attempt {
        name: "uring-worker",
        argument: "FILE",
        wants: "the same by a worker thread",
        run: worker,
    },
    Attempt {
        name: "uring-sqpoll",
        argument: "FILE",
        wants: "the same by a kernel poller",
        run: poller,
    },
    Attempt {
        name: "uring-connect",
        argument: "IP:PORT",
        wants: "connect by io_uring",
        run: connect,
    },
    Attempt { name: "uring-unlink", argument: "FILE", wants: "remove it by io_uring", run: unlink },
];

/// A ring that runs one request at a time.
pub struct Ring(IoUring);

impl Ring {
    /// An ordinary ring.
    pub fn new() -> io::Result<Ring> {
        IoUring::new(4).map(Ring)
    }

    fn polled() -> io::Result<Ring> {
        IoUring::builder().setup_sqpoll(500).build(4).map(Ring)
    }

    /// Runs one request and gives its result.
    pub fn run(&mut self, entry: &squeue::Entry) -> io::Result<i32> {
        self.run_linked(std::slice::from_ref(entry))
    }

    /// Submits all at once, each linked to the next by its flags; the last one's result, or the first error.
    pub fn run_linked(&mut self, entries: &[squeue::Entry]) -> io::Result<i32> {
        for entry in entries {
            // SAFETY: every caller keeps what the entry points to alive until this returns, and this
            // returns only after the completion of that entry.
            unsafe { self.0.submission().push(entry) }.map_err(io::Error::other)?;
        }
        // Whoever is interrupted has not waited; the entry is submitted all the same.
        while let Err(error) = self.0.submit_and_wait(entries.len()) {
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
        let mut last = Err(io::Error::other("io_uring gave no completion"));
        for done in self.0.completion() {
            match done.result() {
                code if code < 0 => return Err(io::Error::from_raw_os_error(-code)),
                result => last = Ok(result),
            }
        }
        last
    }

    /// Room for so many files of the ring's own.
    pub fn slots(&self, count: u32) -> io::Result<()> {
        self.0.submitter().register_files_sparse(count)
    }

    /// Keeps this process's credentials for requests to come.
    pub fn register_credentials(&self) -> io::Result<u16> {
        self.0.submitter().register_personality()
    }

    /// Reads the first byte of an open file.
    pub fn read_one(&mut self, file: &File) -> io::Result<()> {
        let mut byte = [0u8];
        let fd = types::Fd(file.as_raw_fd());
        match self.run(&opcode::Read::new(fd, byte.as_mut_ptr(), 1).build())? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    fn open_and_read(&mut self, t: &Target, flags: squeue::Flags) -> Got {
        let path = t.c_path(0)?;
        let open = opcode::OpenAt::new(types::Fd(libc::AT_FDCWD), path.as_ptr());
        let fd = step("open", self.run(&open.build().flags(flags)))?;
        let mut bytes = [0u8; 64];
        let read = opcode::Read::new(types::Fd(fd), bytes.as_mut_ptr(), bytes.len() as u32);
        let n = step("read", self.run(&read.build().flags(flags)))?;
        Ok(printable(&bytes[..n as usize]))
    }
}

fn open(t: &Target) -> Got {
    Ring::new()?.open_and_read(t, squeue::Flags::empty())
}

fn worker(t: &Target) -> Got {
    Ring::new()?.open_and_read(t, squeue::Flags::ASYNC)
}

fn poller(t: &Target) -> Got {
    step("io_uring_setup(SQPOLL)", Ring::polled())?.open_and_read(t, squeue::Flags::empty())
}

fn unlink(t: &Target) -> Got {
    let path = t.c_path(0)?;
    let entry = opcode::UnlinkAt::new(types::Fd(libc::AT_FDCWD), path.as_ptr()).build();
    Ring::new()?.run(&entry)?;
    Ok(format!("removed {}", std::ffi::OsStr::from_bytes(path.as_bytes()).display()))
}

/// On a busy machine the kernel's own notes to the task may interrupt a connection that it begins.
fn connect(t: &Target) -> Got {
    loop {
        match connect_once(t) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

fn connect_once(t: &Target) -> Got {
    let SocketAddr::V4(to) = t.parse(0)? else {
        return Err(io::Error::other("give an IPv4 address"));
    };
    use rustix::net::{AddressFamily, SocketType, socket};
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None)?;
    // SAFETY: all-zero is a valid sockaddr_in.
    let mut address: libc::sockaddr_in = unsafe { std::mem::zeroed() };
    address.sin_family = libc::AF_INET as u16;
    address.sin_port = to.port().to_be();
    address.sin_addr.s_addr = u32::from_ne_bytes(to.ip().octets());
    let length = size_of::<libc::sockaddr_in>() as libc::socklen_t;
    let fd = types::Fd(socket.as_raw_fd());
    Ring::new()?.run(&opcode::Connect::new(fd, (&raw const address).cast(), length).build())?;
    super::network::banner(TcpStream::from(socket))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_reads_a_file_where_the_kernel_offers_rings() {
        let Ok(mut ring) = Ring::new() else { return };
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, "S").unwrap();
        ring.read_one(&File::open(&path).unwrap()).unwrap();
    }
}
