//! Programs of the policy that the kernel left out. It runs a program on entry to a function, or behind it, not a second
//! time on a processor where it runs already; who was preempted in it keeps it from whoever comes next there.
#![allow(unsafe_code)]
#![allow(clippy::undocumented_unsafe_blocks)] // every block is one system call on local memory

use libc::*;

const NEXT_ID: c_int = 11;
const FD_BY_ID: c_int = 13;
const INFO_BY_FD: c_int = 15;
/// `struct bpf_prog_info`: where its name lies, and `recursion_misses`.
const NAME: usize = 64;
const MISSES: usize = 208;

/// Each program of the kernel that was left out, and how often.
pub fn all() -> Vec<(String, u64)> {
    let (mut id, mut found) = (0u32, Vec::new());
    loop {
        let mut attributes = [0u32; 32];
        attributes[0] = id;
        if call(NEXT_ID, &mut attributes) < 0 {
            return found;
        }
        id = attributes[1];
        let mut attributes = [0u32; 32];
        attributes[0] = id;
        let fd = call(FD_BY_ID, &mut attributes);
        let mut info = [0u8; 224];
        let at = (info.as_mut_ptr() as u64).to_ne_bytes();
        let mut attributes = [0u32; 32];
        attributes[0] = fd as u32;
        attributes[1] = info.len() as u32;
        for (word, bytes) in attributes[2..].iter_mut().zip(at.chunks(4)) {
            *word = u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        }
        let told = call(INFO_BY_FD, &mut attributes);
        unsafe { close(fd as c_int) };
        let mut count = [0u8; 8];
        count.copy_from_slice(&info[MISSES..MISSES + 8]);
        let count = u64::from_ne_bytes(count);
        if told >= 0 && count > 0 {
            let name = info[NAME..NAME + 16].split(|b| *b == 0).next().unwrap_or_default();
            found.push((String::from_utf8_lossy(name).into_owned(), count));
        }
    }
}

fn call(command: c_int, attributes: &mut [u32; 32]) -> i64 {
    crate::uring::answer(unsafe { syscall(SYS_bpf, command, attributes.as_mut_ptr(), 128) })
}
