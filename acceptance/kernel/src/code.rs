//! Ways to code that is in no file that may be executed: each writes or maps `mov eax, 42; ret` and calls it. They
//! answer 42 if it ran, or with the negative errno of the step that was refused.
#![allow(unsafe_code)]
#![allow(clippy::undocumented_unsafe_blocks)] // every block is one system call, or the call that the attack is about

use crate::child::in_child;
use crate::uring::answer;
use libc::*;
use std::ffi::CString;
use std::ptr::{null, null_mut};

/// `mov eax, 42; ret`.
pub const CODE: [u8; 6] = [0xb8, 42, 0, 0, 0, 0xc3];
/// The same with 7, for what is to be overwritten.
pub const OTHER: [u8; 6] = [0xb8, 7, 0, 0, 0, 0xc3];
const PAGE: usize = 4096;
const READ_WRITE: c_int = PROT_READ | PROT_WRITE;
const READ_EXEC: c_int = PROT_READ | PROT_EXEC;

/// Runs one command line.
pub fn act(words: &[&str]) -> i64 {
    let path = CString::new(words.get(1).copied().unwrap_or("")).unwrap_or_default();
    let way: unsafe fn(&CString) -> Result<i64, i64> = match words.first().copied().unwrap_or("") {
        "code-anonymous" => |_| unsafe { filled(map(READ_WRITE | PROT_EXEC, anonymous(), -1)?) },
        "code-later" => |_| unsafe { hardened(filled_page(map(READ_WRITE, anonymous(), -1)?)) },
        "code-memfd" => |_| unsafe {
            let fd = succeeded(memfd_create(c"code".as_ptr(), 0).into())? as c_int;
            succeeded(write(fd, CODE.as_ptr().cast(), CODE.len()) as i64)?;
            Ok(call(map(READ_EXEC, MAP_PRIVATE, fd)?))
        },
        "code-shm" => |_| unsafe { attached() },
        "code-file" => {
            |path| unsafe { Ok(call(map(READ_EXEC, MAP_PRIVATE, opened(path, O_RDONLY)?)?)) }
        }
        "code-file-later" => {
            |path| unsafe { hardened(map(PROT_READ, MAP_PRIVATE, opened(path, O_RDONLY)?)?) }
        }
        "code-copied" => |path| unsafe {
            hardened(filled_page(map(READ_WRITE, MAP_PRIVATE, opened(path, O_RDONLY)?)?))
        },
        "code-both" => |path| unsafe {
            filled(map(READ_WRITE | PROT_EXEC, MAP_PRIVATE, opened(path, O_RDONLY)?)?)
        },
        "code-device" => |path| unsafe { twice(opened(path, O_RDWR)?) },
        "code-heap" => |_| unsafe { heap() },
        "code-mem" => |path| unsafe { behind(path) },
        "code-traced" => |path| unsafe { traced(path) },
        _ => return -i64::from(ENOSYS),
    };
    in_child(|| unsafe { way(&path).unwrap_or_else(|refused| refused) })
}

fn anonymous() -> c_int {
    MAP_PRIVATE | MAP_ANONYMOUS
}

fn succeeded(result: i64) -> Result<i64, i64> {
    if result < 0 { Err(answer(-1)) } else { Ok(result) }
}

unsafe fn opened(path: &CString, flags: c_int) -> Result<c_int, i64> {
    Ok(succeeded(unsafe { open(path.as_ptr(), flags) }.into())? as c_int)
}

unsafe fn map(prot: c_int, flags: c_int, fd: c_int) -> Result<*mut u8, i64> {
    let at = unsafe { mmap(null_mut(), PAGE, prot, flags, fd, 0) };
    if at == MAP_FAILED { Err(answer(-1)) } else { Ok(at.cast()) }
}

unsafe fn call(at: *mut u8) -> i64 {
    let code: extern "C" fn() -> c_int = unsafe { std::mem::transmute(at) };
    code().into()
}

unsafe fn filled_page(at: *mut u8) -> *mut u8 {
    unsafe { CODE.as_ptr().copy_to(at, CODE.len()) };
    at
}

unsafe fn filled(at: *mut u8) -> Result<i64, i64> {
    Ok(unsafe { call(filled_page(at)) })
}

/// Made executable, not writable any more.
unsafe fn hardened(at: *mut u8) -> Result<i64, i64> {
    unsafe {
        succeeded(mprotect(at.cast(), PAGE, READ_EXEC).into())?;
        Ok(call(at))
    }
}

/// System V shared memory, written in one place and executable in another.
unsafe fn attached() -> Result<i64, i64> {
    unsafe {
        let id = succeeded(shmget(IPC_PRIVATE, PAGE, IPC_CREAT | 0o700).into())? as c_int;
        let there = shmat(id, null(), 0);
        let code =
            if there as isize == -1 { there } else { shmat(id, null(), SHM_EXEC | SHM_RDONLY) };
        let refused = answer(-1);
        shmctl(id, IPC_RMID, null_mut());
        if code as isize == -1 {
            return Err(refused);
        }
        filled_page(there.cast());
        Ok(call(code.cast()))
    }
}

/// A device whose shared mapping is memory: mapped once to execute, and a second time by mremap() to write.
unsafe fn twice(device: c_int) -> Result<i64, i64> {
    unsafe {
        let code = map(READ_EXEC, MAP_SHARED, device)?;
        let other = mremap(code.cast(), 0, PAGE, MREMAP_MAYMOVE);
        if other == MAP_FAILED {
            return Err(answer(-1));
        }
        succeeded(mprotect(other, PAGE, READ_WRITE).into())?;
        filled_page(other.cast());
        Ok(call(code))
    }
}

/// What `brk()` gives is executable for who says that reading implies it.
unsafe fn heap() -> Result<i64, i64> {
    unsafe {
        succeeded(personality(READ_IMPLIES_EXEC as c_ulong).into())?;
        let end = syscall(SYS_brk, 0);
        let start = (end + PAGE as i64 - 1) & !(PAGE as i64 - 1);
        if syscall(SYS_brk, start + PAGE as i64) == end {
            return Err(-i64::from(ENOMEM));
        }
        filled(start as *mut u8)
    }
}

/// Over what is mapped to execute only, by the file that stands for this process's memory.
unsafe fn behind(path: &CString) -> Result<i64, i64> {
    unsafe {
        let code = map(READ_EXEC, MAP_PRIVATE, opened(path, O_RDONLY)?)?;
        let memory = opened(&CString::from(c"/proc/self/mem"), O_RDWR)?;
        succeeded(pwrite(memory, CODE.as_ptr().cast(), CODE.len(), code as i64) as i64)?;
        Ok(call(code))
    }
}

/// The same by a tracer.
unsafe fn traced(path: &CString) -> Result<i64, i64> {
    unsafe {
        let code = map(READ_EXEC, MAP_PRIVATE, opened(path, O_RDONLY)?)?;
        let child = fork();
        if child == 0 {
            pause();
            _exit(call(code) as c_int);
        }
        let done = tampered(child, code);
        kill(child, SIGKILL);
        waitpid(child, null_mut(), __WALL);
        done
    }
}

unsafe fn tampered(child: pid_t, code: *mut u8) -> Result<i64, i64> {
    unsafe {
        succeeded(ptrace(PTRACE_SEIZE, child, 0, 0))?;
        succeeded(ptrace(PTRACE_INTERRUPT, child, 0, 0))?;
        waitpid(child, null_mut(), __WALL);
        let mut word = [0u8; 8];
        word[..CODE.len()].copy_from_slice(&CODE);
        succeeded(ptrace(PTRACE_POKETEXT, child, code, i64::from_ne_bytes(word)))?;
        // It reads back what the child would run.
        Ok(ptrace(PTRACE_PEEKTEXT, child, code, 0) >> 8 & 0xff)
    }
}
