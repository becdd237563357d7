//! The one way to executable memory that no LSM hook sees: `personality(READ_IMPLIES_EXEC)`, after which `brk()` makes
//! the heap so (`VM_DATA_DEFAULT_FLAGS`). A seccomp filter (seccomp(2)) refuses that flag to a strict agent.

use libc::sock_filter;

/// `EM_*` with the flags for word size and byte order (`linux/audit.h`), and the number of `personality` there.
#[cfg(target_arch = "x86_64")]
const CALLS: [(u32, u32); 2] = [(0xc000_003e, 135), (0x4000_0003, 136)];
#[cfg(target_arch = "aarch64")]
const CALLS: [(u32, u32); 2] = [(0xc000_00b7, 92), (0x4000_0028, 136)];

/// Set in the numbers of x32, which are those of x86-64 otherwise.
const X32: u32 = 0x4000_0000;
/// `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENT: u32 = 16;

const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const AND: u16 = (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16;
const EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const ANY: u16 = (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

const fn line(code: u16, k: u32) -> sock_filter {
    branch(code, k, 0, 0)
}

const fn branch(code: u16, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

/// `EPERM` for that flag, whatever the call is made as; a question (`0xffffffff`) and other flags pass.
pub(crate) const NO_EXEC_BY_DEFAULT: [sock_filter; 13] = [
    line(LOAD, ARCHITECTURE),
    branch(EQUAL, CALLS[0].0, 0, 3),
    line(LOAD, NUMBER),
    line(AND, !X32),
    branch(EQUAL, CALLS[0].1, 3, 7),
    branch(EQUAL, CALLS[1].0, 0, 6),
    line(LOAD, NUMBER),
    branch(EQUAL, CALLS[1].1, 0, 4),
    line(LOAD, ARGUMENT),
    branch(EQUAL, u32::MAX, 2, 0),
    branch(ANY, libc::READ_IMPLIES_EXEC as u32, 0, 1),
    line(RETURN, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
    line(RETURN, libc::SECCOMP_RET_ALLOW),
];

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel's interpreter makes of it.
    fn verdict(architecture: u32, number: u32, argument: u32) -> u32 {
        let data = |at| match at {
            NUMBER => number,
            ARCHITECTURE => architecture,
            ARGUMENT => argument,
            other => panic!("nothing is loaded from {other}"),
        };
        let (mut at, mut word) = (0, 0);
        loop {
            let sock_filter { code, jt, jf, k } = NO_EXEC_BY_DEFAULT[at];
            let jump = |holds: bool| usize::from(if holds { jt } else { jf });
            at += 1;
            match code {
                LOAD => word = data(k),
                AND => word &= k,
                EQUAL => at += jump(word == k),
                ANY => at += jump(word & k != 0),
                RETURN => return k,
                other => panic!("no such instruction: {other}"),
            }
        }
    }

    #[test]
    fn the_flag_is_refused_however_it_is_asked_for() {
        let flag = libc::READ_IMPLIES_EXEC as u32;
        let refused = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
        let [(native, number), (other, its)] = CALLS;
        let calls = [(native, number), (native, number | X32), (other, its)];
        for (architecture, number) in calls {
            for (argument, want) in [
                (flag, refused),
                (flag | libc::ADDR_NO_RANDOMIZE as u32, refused),
                (libc::ADDR_NO_RANDOMIZE as u32, libc::SECCOMP_RET_ALLOW),
                (0, libc::SECCOMP_RET_ALLOW),
                (u32::MAX, libc::SECCOMP_RET_ALLOW),
            ] {
                assert_eq!(verdict(architecture, number, argument), want, "{number} {argument:#x}");
            }
        }
        assert_eq!(verdict(native, its, flag), libc::SECCOMP_RET_ALLOW);
        assert_eq!(verdict(other, number, flag), libc::SECCOMP_RET_ALLOW);
        assert_eq!(verdict(0, number, flag), libc::SECCOMP_RET_ALLOW);
    }
}
