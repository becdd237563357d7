//! System calls that no safe wrapper offers.
#![allow(unsafe_code)]

use crate::{Error, Result};
use abi::control::{Control, Policy};
use std::io;
use std::mem::offset_of;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use zerocopy::IntoBytes;

/// Landlock's ABI version, 0 where the kernel has none.
pub(crate) fn landlock_abi() -> u32 {
    const VERSION: libc::c_uint = 1;
    // SAFETY: with a null attribute and size 0 the call reads nothing and only returns a number.
    let n = unsafe {
        libc::syscall(libc::SYS_landlock_create_ruleset, core::ptr::null::<u8>(), 0usize, VERSION)
    };
    u32::try_from(n).unwrap_or(0)
}

/// The kernel programs' switches, mapped here; lives as long as the process.
pub(crate) struct SharedPolicy(NonNull<Policy>);

// SAFETY: the mapping is never unmapped, and every access goes through an atomic.
unsafe impl Send for SharedPolicy {}
// SAFETY: as above.
unsafe impl Sync for SharedPolicy {}

impl SharedPolicy {
    /// Maps the data section whose only variable is the policy.
    pub fn map(fd: BorrowedFd<'_>) -> Result<SharedPolicy> {
        const PAGE: usize = 4096;
        const { assert!(size_of::<Policy>() <= PAGE) };
        // SAFETY: a fresh mapping at an address of the kernel's choice touches nothing else.
        let at = unsafe {
            libc::mmap(
                core::ptr::null_mut(),
                PAGE,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                fd.as_raw_fd(),
                0,
            )
        };
        match NonNull::new(at.cast::<Policy>()) {
            Some(p) if at != libc::MAP_FAILED => Ok(SharedPolicy(p)),
            _ => Err(last("map the switches of the kernel programs")),
        }
    }

    /// Publishes who the daemon is and what it asks for; the rest the kernel writes itself, or is counted on.
    pub fn publish(&self, new: &Policy) {
        self.word(offset_of!(Policy, daemon_tgid)).store(new.daemon_tgid, ORDER);
        self.long(offset_of!(Policy, high_water)).store(new.high_water, ORDER);
        self.long(offset_of!(Policy, seal_water)).store(new.seal_water, ORDER);
        self.long(offset_of!(Policy, share_water)).store(new.share_water, ORDER);
        self.word(offset_of!(Policy, share)).store(new.share, ORDER);
        self.long(offset_of!(Policy, grace_ns)).store(new.grace_ns, ORDER);
        self.long(offset_of!(Policy, successor.dev)).store(new.successor.dev, ORDER);
        self.long(offset_of!(Policy, successor.ino)).store(new.successor.ino, ORDER);
        for (i, id) in new.guarded.into_iter().enumerate() {
            self.long(offset_of!(Policy, guarded) + i * size_of::<u64>()).store(id, ORDER);
        }
    }

    /// How many times an agent was stopped because the ring was nearly full.
    pub fn throttles(&self) -> u64 {
        self.long(offset_of!(Policy, throttles)).load(ORDER)
    }

    /// Which file only the daemon opens.
    pub fn set_secret(&self, file: abi::caps::FileKey) {
        self.long(offset_of!(Policy, secret.dev)).store(file.dev, ORDER);
        self.long(offset_of!(Policy, secret.ino)).store(file.ino, ORDER);
    }

    /// Which folders are the daemon's own, and what they lie on.
    pub fn set_own(&self, own: &Policy) {
        let files = [
            (offset_of!(Policy, own), &own.own[..]),
            (offset_of!(Policy, own_above), &own.own_above[..]),
        ];
        for (at, list) in files {
            for (i, file) in list.iter().enumerate() {
                let at = at + i * size_of::<abi::caps::FileKey>();
                self.long(at + offset_of!(abi::caps::FileKey, dev)).store(file.dev, ORDER);
                self.long(at + offset_of!(abi::caps::FileKey, ino)).store(file.ino, ORDER);
            }
        }
        let words = [
            (offset_of!(Policy, own_devices), &own.own_devices[..]),
            (offset_of!(Policy, own_disks), &own.own_disks[..]),
            (offset_of!(Policy, own_passthrough), &own.own_passthrough[..]),
        ];
        for (at, list) in words {
            for (i, device) in list.iter().enumerate() {
                self.word(at + i * size_of::<u32>()).store(*device, ORDER);
            }
        }
    }

    /// The ring is nearly empty: what each agent may put there is counted anew.
    pub fn next_round(&self) {
        self.word(offset_of!(Policy, round)).fetch_add(1, ORDER);
    }

    /// Closes or opens the seal.
    pub fn set_sealed(&self, sealed: bool) {
        self.word(offset_of!(Policy, sealed)).store(sealed.into(), ORDER);
    }

    pub fn is_sealed(&self) -> bool {
        self.word(offset_of!(Policy, sealed)).load(ORDER) != 0
    }

    /// Which process the kernel has as the daemon.
    pub fn daemon(&self) -> u32 {
        self.word(offset_of!(Policy, daemon_tgid)).load(ORDER)
    }

    /// Whether agents were stopped for want of a daemon.
    pub fn halted(&self) -> bool {
        self.word(offset_of!(Policy, halted)).load(ORDER) != 0
    }

    /// They may act again.
    pub fn end_halt(&self) {
        self.word(offset_of!(Policy, halted)).store(0, ORDER);
    }

    /// A number that no list of rights had before, whichever daemon made it.
    pub fn next_list(&self) -> u64 {
        self.long(offset_of!(Policy, next_list)).fetch_add(1, ORDER) + 1
    }

    /// The last number that a list has.
    pub fn last_list(&self) -> u64 {
        self.long(offset_of!(Policy, next_list)).load(ORDER)
    }

    /// As [`SharedPolicy::next_list`], of a set; none when all were given out.
    pub fn next_set(&self) -> Option<u32> {
        let next = self.long(offset_of!(Policy, next_set)).fetch_add(1, ORDER) + 1;
        u32::try_from(next).ok()
    }

    /// The last number that a set has.
    pub fn last_set(&self) -> u64 {
        self.long(offset_of!(Policy, next_set)).load(ORDER)
    }

    /// Says that some rule is counted, for good: from now on the programs look for such.
    pub fn set_counted(&self) {
        self.word(offset_of!(Policy, counted)).store(1, ORDER);
    }

    /// Whether some rule ever was.
    pub fn counted(&self) -> bool {
        self.word(offset_of!(Policy, counted)).load(ORDER) != 0
    }

    /// Says which layout the programs were made for.
    pub fn set_layout(&self, layout: u64) {
        self.long(offset_of!(Policy, layout)).store(layout, ORDER);
    }

    /// Which layout the programs were made for.
    pub fn layout(&self) -> u64 {
        self.long(offset_of!(Policy, layout)).load(ORDER)
    }

    /// Lost events that are on record.
    pub fn lost_told(&self) -> &AtomicU64 {
        self.long(offset_of!(Policy, lost_told))
    }

    fn word(&self, offset: usize) -> &AtomicU32 {
        // SAFETY: an aligned field of a live mapping of a whole page, which the kernel reads and writes with
        // single accesses, and nobody here but through atomics.
        unsafe { AtomicU32::from_ptr(self.0.as_ptr().byte_add(offset).cast()) }
    }

    fn long(&self, offset: usize) -> &AtomicU64 {
        // SAFETY: as in `word`.
        unsafe { AtomicU64::from_ptr(self.0.as_ptr().byte_add(offset).cast()) }
    }
}

const ORDER: Ordering = Ordering::SeqCst;

/// Runs the `control` program; its answer is 0 or a negative errno.
pub(crate) fn control(program: &OwnedFd, mut command: Control) -> Result<()> {
    use libbpf_rs::libbpf_sys::{bpf_prog_test_run_opts, bpf_test_run_opts};
    let mut options = bpf_test_run_opts {
        sz: size_of::<bpf_test_run_opts>() as _,
        ctx_in: command.as_mut_bytes().as_mut_ptr().cast(),
        ctx_size_in: size_of::<Control>() as u32,
        ..Default::default()
    };
    // SAFETY: the context is live and as large as said, and the descriptor is a loaded program.
    let done = unsafe { bpf_prog_test_run_opts(program.as_raw_fd(), &mut options) };
    let answer = if done < 0 { done } else { options.retval.cast_signed() };
    match answer {
        0 => Ok(()),
        e => Err(Error::System {
            action: "change the policy's state in the kernel",
            source: io::Error::from_raw_os_error(-e),
        }),
    }
}

/// Whether the kernel lets a BPF program attach to the hook whose function has this number among its types.
pub(crate) fn takes_program(function: u32) -> bool {
    use libbpf_rs::libbpf_sys::{
        BPF_LSM_MAC, BPF_PROG_TYPE_LSM, bpf_insn, bpf_prog_load, bpf_prog_load_opts,
    };
    let instruction = |code| bpf_insn { code, ..Default::default() };
    // `r0 = 0; exit`.
    let program = [instruction(0xb7), instruction(0x95)];
    let mut options = bpf_prog_load_opts {
        sz: size_of::<bpf_prog_load_opts>() as _,
        expected_attach_type: BPF_LSM_MAC,
        attach_btf_id: function,
        ..Default::default()
    };
    // SAFETY: names, instructions and options are live, and as many as said.
    let fd = unsafe {
        bpf_prog_load(
            BPF_PROG_TYPE_LSM,
            c"probe".as_ptr(),
            c"GPL".as_ptr(),
            program.as_ptr(),
            program.len() as _,
            &raw mut options,
        )
    };
    if fd < 0 {
        return false;
    }
    // SAFETY: fresh, and ours alone.
    drop(unsafe { OwnedFd::from_raw_fd(fd) });
    true
}

/// The caller's id as the kernel programs see it: process in the high half, thread in the low.
pub(crate) fn thread_key() -> u64 {
    let tid = rustix::thread::gettid().as_raw_nonzero().get();
    u64::from(std::process::id()) << 32 | u64::from(tid.cast_unsigned())
}

/// The error that the last system call left.
pub(crate) fn last(action: &'static str) -> Error {
    Error::System { action, source: io::Error::last_os_error() }
}

/// Waits until every check that is under way has ended: they run where RCU waits for them.
pub(crate) fn after_checks() -> Result<()> {
    const GLOBAL: libc::c_int = 1;
    // SAFETY: the call takes plain numbers and touches no memory of this process.
    match unsafe { libc::syscall(libc::SYS_membarrier, GLOBAL, 0, 0) } {
        0 => Ok(()),
        _ => Err(last("wait for the checks that are under way")),
    }
}

/// What the kernel tells of a process by its pidfd (`struct pidfd_info`, Linux 6.13).
#[repr(C)]
#[derive(Default)]
struct PidfdInfo {
    mask: u64,
    cgroup: u64,
    ids: [u32; 11],
    exit_code: i32,
}

/// The cgroup that a process is in; none where the kernel cannot tell, or the process has ended.
pub(crate) fn cgroup_of(pidfd: BorrowedFd<'_>) -> Option<u64> {
    const CGROUP: u64 = 1 << 2;
    const { assert!(size_of::<PidfdInfo>() == 64) };
    // _IOWR(0xFF, 11, struct pidfd_info), of the first published size.
    const GET_INFO: libc::c_ulong = 3 << 30 | 64 << 16 | 0xff << 8 | 11;
    let mut info = PidfdInfo { mask: CGROUP, ..PidfdInfo::default() };
    // SAFETY: the request says how large the live structure is that the answer is written to.
    let done = unsafe { libc::ioctl(pidfd.as_raw_fd(), GET_INFO, &raw mut info) };
    (done == 0 && info.mask & CGROUP != 0).then_some(info.cgroup)
}

/// Gives the calling thread namespaces of its own.
pub(crate) fn unshare(namespaces: libc::c_int) -> io::Result<()> {
    // SAFETY: takes a number; memory and descriptors stay those of all threads.
    match unsafe { libc::unshare(namespaces) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Whether the process of a pidfd has not been reaped.
pub(crate) fn is_alive(pidfd: BorrowedFd<'_>) -> bool {
    let none = core::ptr::null::<u8>();
    // SAFETY: signal 0 with a null siginfo only asks whether the process exists.
    let done = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), 0, none, 0) };
    done == 0 || io::Error::last_os_error().raw_os_error() == Some(libc::EPERM)
}

/// A descriptor that the service manager passed on to this process.
pub fn passed(fd: std::os::fd::RawFd) -> OwnedFd {
    use std::os::fd::FromRawFd;
    // SAFETY: it was passed to this process, whose first threads ask for it once and own it from then on.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Ends a child and waits for it, so that nothing of it is left.
pub(crate) fn kill_and_reap(pidfd: BorrowedFd<'_>) {
    let none = core::ptr::null::<u8>();
    // SAFETY: a null siginfo is allowed; the wait's answer goes into a live local variable.
    unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), libc::SIGKILL, none, 0);
        let mut info: libc::siginfo_t = core::mem::zeroed();
        let id = pidfd.as_raw_fd().cast_unsigned();
        libc::waitid(libc::P_PIDFD, id, &raw mut info, libc::WEXITED);
    }
}
