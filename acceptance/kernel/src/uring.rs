//! The least of io_uring that the tests need.
#![allow(unsafe_code)]
#![allow(clippy::undocumented_unsafe_blocks)] // every block is one system call on local memory

use libc::*;
use std::sync::atomic::{AtomicU32, Ordering};

/// One ring with four entries.
pub struct Ring {
    fd: c_int,
    base: *mut u8,
    entries: *mut [u64; 8],
    params: [u32; 30],
    /// Requests so far.
    done: u32,
}

const OPENAT: u64 = 18;
const READ: u64 = 22;
const SETXATTR: u64 = 42;
const SPLICE: u64 = 30;
const ASYNC: u64 = 1 << 4;

impl Ring {
    /// `flags` as for `io_uring_setup`; 2 asks for a kernel thread.
    pub fn new(flags: u32) -> Result<Ring, i32> {
        unsafe {
            let mut params = [0u32; 30];
            params[2] = flags;
            let fd = syscall(SYS_io_uring_setup, 4, params.as_mut_ptr()) as c_int;
            if fd < 0 {
                return Err(-*__errno_location());
            }
            let map = |offset| {
                let both = PROT_READ | PROT_WRITE;
                mmap(std::ptr::null_mut(), 8192, both, MAP_SHARED | MAP_POPULATE, fd, offset)
            };
            let (base, entries) = (map(0), map(0x1000_0000));
            if base == MAP_FAILED || entries == MAP_FAILED {
                return Err(-*__errno_location());
            }
            Ok(Ring { fd, base: base.cast(), entries: entries.cast(), params, done: 0 })
        }
    }

    fn word(&self, at: usize) -> &AtomicU32 {
        unsafe { &*self.base.add(self.params[at] as usize).cast::<AtomicU32>() }
    }

    /// Reads one byte, inline or (`worker`) on a kernel worker; the result of the request.
    pub fn read(&mut self, file: c_int, worker: bool) -> i64 {
        self.read_into(file, &mut [0u8], worker)
    }

    /// Reads from the beginning of a file; the result of the request.
    pub fn read_into(&mut self, file: c_int, into: &mut [u8], worker: bool) -> i64 {
        let flags = if worker { ASYNC } else { 0 };
        let (at, length) = (into.as_mut_ptr() as u64, into.len() as u64);
        self.run([READ | flags << 8 | (file as u64) << 32, 0, at, length, 0, 0, 0, 0])
    }

    /// Opens a file to read; the descriptor.
    pub fn open(&mut self, path: &std::ffi::CStr, worker: bool) -> i64 {
        let flags = if worker { ASYNC } else { 0 };
        let here = u64::from(AT_FDCWD.cast_unsigned());
        let how = (O_RDONLY | O_CLOEXEC) as u64;
        self.run([OPENAT | flags << 8 | here << 32, 0, path.as_ptr() as u64, how << 32, 0, 0, 0, 0])
    }

    /// Sets `user.x` of a file; the kernel has a worker do that. The result of the request.
    pub fn setxattr(&mut self, path: &std::ffi::CStr, value: &std::ffi::CStr) -> i64 {
        let length = value.to_bytes().len() as u64;
        let name = c"user.x".as_ptr() as u64;
        let (value, path) = (value.as_ptr() as u64, path.as_ptr() as u64);
        self.run([SETXATTR, value, name, length, 0, 0, path, 0])
    }

    /// Moves a page of a file into a pipe; the result of the request.
    pub fn splice(&mut self, file: c_int, pipe: c_int) -> i64 {
        let here = u64::MAX;
        self.run([SPLICE | (pipe as u64) << 32, here, 0, 4096, 0, (file as u64) << 32, 0, 0])
    }

    /// Puts pages of memory where they stay, mapped or not.
    pub fn register(&self, at: u64, length: u64) -> i64 {
        let part = [at, length];
        unsafe { answer(syscall(SYS_io_uring_register, self.fd, 0, part.as_ptr(), 1)) }
    }

    /// One request after another, each waited for.
    fn run(&mut self, request: [u64; 8]) -> i64 {
        unsafe {
            let slot = (self.done % 4) as usize;
            *self.entries.add(slot) = request;
            // Offsets: submission ring head, tail, mask, entries, flags, dropped, array …
            let array = self.base.add(self.params[16] as usize).cast::<u32>();
            *array.add(slot) = slot as u32;
            self.word(11).store(self.done + 1, Ordering::Release);
            let done = syscall(SYS_io_uring_enter, self.fd, 1, 1, 1, std::ptr::null::<u8>(), 0);
            if done < 0 {
                return answer(done);
            }
            while self.word(21).load(Ordering::Acquire) == self.done {
                usleep(100);
            }
            let place = (self.done % self.word(23).load(Ordering::Relaxed)) as usize;
            let completion = self.base.add(self.params[25] as usize).cast::<[i32; 4]>();
            self.done += 1;
            self.word(20).store(self.done, Ordering::Release);
            i64::from((*completion.add(place))[2])
        }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        unsafe { close(self.fd) };
    }
}

/// The call's result, or the negative errno.
pub fn answer(result: impl TryInto<i64>) -> i64 {
    match result.try_into().unwrap_or(i64::MAX) {
        ..0 => -i64::from(unsafe { *__errno_location() }),
        done => done,
    }
}
