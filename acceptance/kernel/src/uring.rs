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
}

const READ: u64 = 22;
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
            Ok(Ring { fd, base: base.cast(), entries: entries.cast(), params })
        }
    }

    fn word(&self, at: usize) -> &AtomicU32 {
        unsafe { &*self.base.add(self.params[at] as usize).cast::<AtomicU32>() }
    }

    /// Reads one byte, inline or (`worker`) on a kernel worker; the result of the request.
    pub fn read(&mut self, file: c_int, worker: bool) -> i64 {
        let mut byte = 0u8;
        unsafe {
            let flags = if worker { ASYNC } else { 0 };
            let request =
                [READ | flags << 8 | (file as u64) << 32, 0, (&raw mut byte) as u64, 1, 0, 0, 0, 0];
            *self.entries = request;
            // Offsets: submission ring head, tail, mask, entries, flags, dropped, array …
            let array = self.base.add(self.params[16] as usize).cast::<u32>();
            *array = 0;
            self.word(11).store(1, Ordering::Release);
            let done = syscall(SYS_io_uring_enter, self.fd, 1, 1, 1, std::ptr::null::<u8>(), 0);
            if done < 0 {
                return answer(done);
            }
            while self.word(21).load(Ordering::Acquire) == 0 {
                usleep(100);
            }
            let completion = self.base.add(self.params[25] as usize).cast::<i32>();
            let result = i64::from(*completion.add(2));
            close(self.fd);
            result
        }
    }
}

/// The call's result, or the negative errno.
pub fn answer(result: impl TryInto<i64>) -> i64 {
    match result.try_into().unwrap_or(i64::MAX) {
        ..0 => -i64::from(unsafe { *__errno_location() }),
        done => done,
    }
}
