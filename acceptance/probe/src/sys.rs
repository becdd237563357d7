//! The syscalls that no safe crate offers, one thin function each.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

type Got<T> = io::Result<T>;

/// The result of a system call, or its error.
pub fn checked(result: libc::c_long) -> Got<i64> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// How a forked child ended.
pub enum Ended {
    /// It wrote these bytes.
    Said(Vec<u8>),
    /// A signal ended it first.
    Signal(i32),
    /// It was still at it after the limit, and was killed.
    Late,
}

/// Runs `work` in a forked child, so that what it does to itself ends with it.
pub fn in_child(limit: Duration, work: impl FnOnce() -> Vec<u8>) -> Got<Ended> {
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    // SAFETY: the probe has one thread, so the child may use everything that it inherited.
    let pid = checked(unsafe { libc::fork() }.into())? as libc::pid_t;
    if pid == 0 {
        drop(reader);
        let said = work();
        let _ = rustix::io::write(&writer, &said);
        // SAFETY: ends the child at once; its parent's exit handlers are not its own to run.
        unsafe { libc::_exit(0) };
    }
    drop(writer);
    let mut said = Vec::new();
    let late = !read_until(&reader, limit, &mut said)?;
    if late {
        // SAFETY: `pid` is our child and was not waited for yet, so the number is still its own.
        unsafe { libc::kill(pid, libc::SIGKILL) };
    }
    let mut status = 0;
    // SAFETY: `status` outlives the call.
    unsafe { libc::waitpid(pid, &mut status, 0) };
    Ok(match (late, said.is_empty() && libc::WIFSIGNALED(status)) {
        (true, _) => Ended::Late,
        (false, true) => Ended::Signal(libc::WTERMSIG(status)),
        (false, false) => Ended::Said(said),
    })
}

fn read_until(reader: &OwnedFd, limit: Duration, said: &mut Vec<u8>) -> Got<bool> {
    use rustix::event::{PollFd, PollFlags, poll};
    let end = Instant::now() + limit;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let timeout = rustix::event::Timespec {
            tv_sec: left.as_secs() as i64,
            tv_nsec: left.subsec_nanos().into(),
        };
        if poll(&mut [PollFd::new(reader, PollFlags::IN)], Some(&timeout))? == 0 {
            return Ok(false);
        }
        let mut chunk = [0u8; 4096];
        match rustix::io::read(reader, &mut chunk)? {
            0 => return Ok(true),
            n => said.extend_from_slice(&chunk[..n]),
        }
    }
}

/// Whether whoever writes to our stdin has closed it.
pub fn stdin_ended() -> io::Result<bool> {
    use rustix::event::{PollFd, PollFlags, poll};
    let stdin = io::stdin();
    let mut ready = [PollFd::new(&stdin, PollFlags::IN)];
    let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    Ok(poll(&mut ready, Some(&now))? > 0 && ready[0].revents().contains(PollFlags::HUP))
}

/// Forks a child that only waits to be killed; for filling `pids.max`.
pub fn fork_sleeper() -> Got<i32> {
    // SAFETY: one thread; the child only waits.
    let pid = checked(unsafe { libc::fork() }.into())? as i32;
    if pid == 0 {
        loop {
            // SAFETY: waits for a signal, touches no memory.
            unsafe { libc::pause() };
        }
    }
    Ok(pid)
}

/// `ptrace(PTRACE_SEIZE)`, then `PTRACE_PEEKDATA` where that is given.
pub fn ptrace_peek(pid: i32, address: usize) -> Got<[u8; 8]> {
    // SAFETY: seizing reads no memory of ours.
    checked(unsafe { libc::ptrace(libc::PTRACE_SEIZE, pid, 0usize, 0usize) })?;
    // SAFETY: as above; the tracee is ours now and stops at the next chance.
    checked(unsafe { libc::ptrace(libc::PTRACE_INTERRUPT, pid, 0usize, 0usize) })?;
    let mut status = 0;
    // SAFETY: `status` outlives the call.
    checked(unsafe { libc::waitpid(pid, &mut status, libc::__WALL) }.into())?;
    // SAFETY: the kernel reads the tracee's memory and gives one word back.
    let word = unsafe { libc::ptrace(libc::PTRACE_PEEKDATA, pid, address, 0usize) };
    // SAFETY: lets the tracee go on.
    unsafe { libc::ptrace(libc::PTRACE_DETACH, pid, 0usize, 0usize) };
    Ok(word.to_ne_bytes())
}

/// `process_vm_readv` of `into.len()` bytes at `address` of another process.
pub fn vm_read(pid: i32, address: usize, into: &mut [u8]) -> Got<usize> {
    let local = libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: into.len() };
    let remote = libc::iovec { iov_base: address as *mut libc::c_void, iov_len: into.len() };
    // SAFETY: `local` covers exactly `into`; the remote address is read by the kernel only.
    let n = unsafe { libc::process_vm_readv(pid, &local, 1, &remote, 1, 0) };
    checked(n as libc::c_long).map(|n| n as usize)
}

/// `setns` into the namespaces of the process behind a pidfd.
pub fn setns(pidfd: BorrowedFd<'_>, kinds: i32) -> Got<()> {
    // SAFETY: takes a descriptor and a number.
    checked(unsafe { libc::setns(pidfd.as_raw_fd(), kinds) }.into()).map(drop)
}

/// `unshare(flags)`.
pub fn unshare(flags: i32) -> Got<()> {
    // SAFETY: one thread, and the caller is a child of its own (see `in_child`).
    checked(unsafe { libc::unshare(flags) }.into()).map(drop)
}

/// `bpf(BPF_PROG_GET_NEXT_ID)`: lists programs, where that is allowed.
pub fn bpf_next_program() -> Got<u32> {
    const BPF_PROG_GET_NEXT_ID: libc::c_long = 11;
    let mut attributes = [0u32; 32];
    let length = size_of_val(&attributes);
    // SAFETY: the buffer is as long as said, and larger than the kernel's structure may be.
    let r = unsafe {
        libc::syscall(libc::SYS_bpf, BPF_PROG_GET_NEXT_ID, attributes.as_mut_ptr(), length)
    };
    checked(r).map(|_| attributes[1])
}

/// `bpf(BPF_MAP_CREATE)` of a one-element array.
pub fn bpf_map_create() -> Got<OwnedFd> {
    const BPF_MAP_CREATE: libc::c_long = 0;
    const ARRAY: u32 = 2;
    let mut attributes = [0u32; 32];
    attributes[..4].copy_from_slice(&[ARRAY, 4, 4, 1]);
    let length = size_of_val(&attributes);
    // SAFETY: as in `bpf_next_program`.
    let r =
        unsafe { libc::syscall(libc::SYS_bpf, BPF_MAP_CREATE, attributes.as_mut_ptr(), length) };
    // SAFETY: the kernel has just given us this descriptor.
    checked(r).map(|fd| unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// `bpf(BPF_OBJ_GET)`: opens what is pinned at `path`.
pub fn bpf_obj_get(path: &std::ffi::CStr) -> Got<OwnedFd> {
    const BPF_OBJ_GET: libc::c_long = 7;
    let mut attributes = [0u64; 16];
    attributes[0] = path.as_ptr() as u64;
    let length = size_of_val(&attributes);
    // SAFETY: as in `bpf_next_program`; `path` outlives the call.
    let r = unsafe { libc::syscall(libc::SYS_bpf, BPF_OBJ_GET, attributes.as_mut_ptr(), length) };
    // SAFETY: the kernel has just given us this descriptor.
    checked(r).map(|fd| unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// `perf_event_open` of the CPU clock of this process, on any CPU. That of every process the seal refuses to root as well.
pub fn perf_cpu_clock() -> Got<OwnedFd> {
    const TYPE_SOFTWARE: u32 = 1;
    let mut attributes = [0u32; 32];
    attributes[0] = TYPE_SOFTWARE;
    attributes[1] = size_of_val(&attributes) as u32;
    let (own, any, no_group, flags) = (0, -1, -1, 0usize);
    // SAFETY: the structure says its own length; all fields behind the type are zero.
    let r = unsafe {
        libc::syscall(libc::SYS_perf_event_open, attributes.as_ptr(), own, any, no_group, flags)
    };
    // SAFETY: the kernel has just given us this descriptor.
    checked(r).map(|fd| unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

const USER_KEYRING: libc::c_long = -4;

/// Puts a key where every process of this user finds it.
pub fn key_plant(name: &std::ffi::CStr, secret: &[u8]) -> Got<i64> {
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_long = 1;
    const KEYCTL_SETPERM: libc::c_long = 5;
    const KEYCTL_LINK: libc::c_long = 8;
    const SESSION_KEYRING: libc::c_long = -3;
    const OWNER_ALL: libc::c_long = 0x3f3f_0000;
    // A session of its own that leads to the user's keyring, as a login makes one: without it the
    // new key could not be given away.
    // SAFETY: the null name asks for an anonymous keyring.
    checked(unsafe {
        libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, std::ptr::null::<u8>())
    })?;
    // SAFETY: numbers only.
    checked(unsafe {
        libc::syscall(libc::SYS_keyctl, KEYCTL_LINK, USER_KEYRING, SESSION_KEYRING)
    })?;
    // SAFETY: type and name are NUL-terminated, the payload's length is its own.
    let key = checked(unsafe {
        libc::syscall(
            libc::SYS_add_key,
            c"user".as_ptr(),
            name.as_ptr(),
            secret.as_ptr(),
            secret.len(),
            USER_KEYRING,
        )
    })?;
    // SAFETY: numbers only.
    checked(unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_SETPERM, key, OWNER_ALL) })?;
    Ok(key)
}

/// Finds a key of this user by its name and reads it.
pub fn key_read(name: &std::ffi::CStr, into: &mut [u8]) -> Got<usize> {
    const KEYCTL_SEARCH: libc::c_long = 10;
    const KEYCTL_READ: libc::c_long = 11;
    // SAFETY: type and name are NUL-terminated.
    let key = checked(unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            KEYCTL_SEARCH,
            USER_KEYRING,
            c"user".as_ptr(),
            name.as_ptr(),
            0,
        )
    })?;
    // SAFETY: the buffer is as long as said.
    let n = checked(unsafe {
        libc::syscall(libc::SYS_keyctl, KEYCTL_READ, key, into.as_mut_ptr(), into.len())
    })?;
    Ok((n as usize).min(into.len()))
}

/// `finit_module`: loads a kernel module; the kernel unpacks a compressed one.
pub fn load_module(file: BorrowedFd<'_>, compressed: bool) -> Got<()> {
    const MODULE_INIT_COMPRESSED_FILE: libc::c_long = 4;
    let flags = if compressed { MODULE_INIT_COMPRESSED_FILE } else { 0 };
    // SAFETY: a descriptor, an empty parameter string and a number.
    let r = unsafe { libc::syscall(libc::SYS_finit_module, file.as_raw_fd(), c"".as_ptr(), flags) };
    checked(r).map(drop)
}

/// `kexec_load` of nothing, which unloads what was loaded: harmless, and refused alike.
pub fn kexec_nothing() -> Got<()> {
    // SAFETY: no segments, so the null pointer is not read.
    checked(unsafe { libc::syscall(libc::SYS_kexec_load, 0, 0, std::ptr::null::<u8>(), 0) })
        .map(drop)
}

/// `setresuid(0, 0, 0)` of this thread.
pub fn become_root() -> Got<()> {
    // SAFETY: numbers only.
    checked(unsafe { libc::syscall(libc::SYS_setresuid, 0, 0, 0) }).map(drop)
}

/// `capset` of every capability.
pub fn take_all_capabilities() -> Got<()> {
    const VERSION_3: u32 = 0x2008_0522;
    let header = [VERSION_3, 0];
    let all = [u32::MAX, u32::MAX, u32::MAX, 0x1ff, 0x1ff, 0x1ff];
    // SAFETY: header and data have the layout of version 3: two words, twice three words.
    checked(unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), all.as_ptr()) }).map(drop)
}

/// `prctl(PR_SET_NO_NEW_PRIVS, 0)`.
pub fn allow_new_privileges() -> Got<()> {
    // SAFETY: numbers only.
    checked(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0) }.into()).map(drop)
}

/// `sched_setscheduler(SCHED_FIFO)` of this thread.
pub fn become_realtime() -> Got<()> {
    let parameter = libc::sched_param { sched_priority: 10 };
    // SAFETY: `parameter` outlives the call.
    checked(unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &parameter) }.into()).map(drop)
}

/// `fanotify_init` and a mark on the mount below `path`.
pub fn fanotify(path: &std::ffi::CStr) -> Got<()> {
    // SAFETY: numbers only.
    let fd = checked(unsafe { libc::fanotify_init(libc::FAN_CLASS_NOTIF, 0) }.into())? as i32;
    // SAFETY: the kernel has just given us this descriptor.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    let flags = libc::FAN_MARK_ADD | libc::FAN_MARK_MOUNT;
    // SAFETY: `path` outlives the call.
    let r = unsafe {
        libc::fanotify_mark(fd.as_raw_fd(), flags, libc::FAN_OPEN, libc::AT_FDCWD, path.as_ptr())
    };
    checked(r.into()).map(drop)
}

/// Reads the kernel's own log (`syslog(2)`, action 3).
pub fn kernel_log(into: &mut [u8]) -> Got<usize> {
    const READ_ALL: i32 = 3;
    // SAFETY: the buffer is as long as said.
    let n = unsafe { libc::klogctl(READ_ALL, into.as_mut_ptr().cast(), into.len() as i32) };
    checked(n.into()).map(|n| n as usize)
}

/// Lets every process of this user trace this one, whatever Yama says: the probe's victim must not
/// owe its safety to anything but the system under test.
pub fn allow_tracers() {
    // SAFETY: numbers only; where Yama is off the call fails and nothing is needed.
    unsafe { libc::prctl(libc::PR_SET_PTRACER, libc::PR_SET_PTRACER_ANY, 0, 0, 0) };
}

/// A shared, readable mapping of one page of a file.
pub struct Mapping(*const u8);

impl Mapping {
    /// Maps the file's first page.
    pub fn of(file: BorrowedFd<'_>) -> Got<Mapping> {
        use rustix::mm::{MapFlags, ProtFlags, mmap};
        // SAFETY: the kernel picks the address, so nothing of ours is replaced.
        let at = unsafe {
            mmap(std::ptr::null_mut(), 4096, ProtFlags::READ, MapFlags::SHARED, file, 0)?
        };
        Ok(Mapping(at.cast()))
    }

    /// Reads one byte from memory; no syscall sees it.
    pub fn byte(&self, index: usize) -> u8 {
        // SAFETY: `index` is reduced to the page that was mapped; the mapping lives as long as we.
        unsafe { self.0.add(index % 4096).read_volatile() }
    }
}

/// Nanoseconds since the UNIX epoch, the clock of the audit records.
pub fn wall_ns() -> u64 {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64
}

/// Nanoseconds of `CLOCK_BOOTTIME`, the clock of the audit records' kernel time.
pub fn boottime_ns() -> u64 {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64
}
