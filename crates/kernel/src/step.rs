//! A system call of the cloned child, and which step it belongs to.
#![allow(unsafe_code)]

use crate::SpawnStep;

/// The step that was refused, and its errno.
pub(crate) type Step = Result<(), (SpawnStep, i32)>;

/// What a system call returned.
pub(crate) fn check(step: SpawnStep, result: i64) -> Step {
    if result < 0 { Err((step, errno())) } else { Ok(()) }
}

/// Of the call before.
pub(crate) fn errno() -> i32 {
    // SAFETY: this thread's errno, in the child's copy of the address space.
    unsafe { *libc::__errno_location() }
}
