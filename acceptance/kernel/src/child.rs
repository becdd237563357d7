//! What an actor must not do to itself it does in a child.
#![allow(unsafe_code)]
#![allow(clippy::undocumented_unsafe_blocks)] // every block is one system call on local memory

use libc::*;

/// Runs `body` in a child; its answer comes back through a pipe.
pub fn in_child(body: impl FnOnce() -> i64) -> i64 {
    unsafe {
        let mut ends = [0; 2];
        pipe(ends.as_mut_ptr());
        let pid = fork();
        if pid == 0 {
            let result = body();
            write(ends[1], (&raw const result).cast(), 8);
            _exit(0);
        }
        close(ends[1]);
        let mut result = i64::MIN;
        read(ends[0], (&raw mut result).cast(), 8);
        close(ends[0]);
        waitpid(pid, std::ptr::null_mut(), 0);
        result
    }
}
