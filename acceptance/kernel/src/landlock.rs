//! The rights of the benchmark's agent as a Landlock ruleset (landlock(7)), which a process takes upon itself: what the
//! policy's cost is compared with.
#![allow(unsafe_code)]
#![allow(clippy::undocumented_unsafe_blocks)] // every block is one system call on local memory

use crate::uring::answer;
use libc::*;

/// `LANDLOCK_CREATE_RULESET_VERSION`.
const VERSION: c_ulong = 1;
const PATH_BENEATH: c_ulong = 1;
const NET_PORT: c_ulong = 2;

/// `LANDLOCK_ACCESS_FS_*`: the sixteen of ABI 5, from executing to ioctls of devices.
const FS_ALL: u64 = (1 << 16) - 1;
const FS_EXECUTE: u64 = 1;
const FS_WRITE_FILE: u64 = 1 << 1;
const FS_READ: u64 = 1 << 2 | 1 << 3;
const FS_REMOVE_FILE: u64 = 1 << 5;
const FS_MAKE_REG: u64 = 1 << 8;
const NET_BIND: u64 = 1;
const NET_CONNECT: u64 = 2;

#[repr(C)]
struct RulesetAttr {
    fs: u64,
    net: u64,
}

#[repr(C, packed)]
struct PathBeneath {
    allowed: u64,
    parent: i32,
}

#[repr(C)]
struct NetPort {
    allowed: u64,
    port: u64,
}

/// Holds this process to those rights; the ABI of this kernel, or a negative errno.
pub fn hold() -> i64 {
    unsafe {
        let abi = syscall(SYS_landlock_create_ruleset, 0, 0, VERSION);
        let all = RulesetAttr { fs: FS_ALL, net: NET_BIND | NET_CONNECT };
        let size = size_of::<RulesetAttr>();
        let ruleset = syscall(SYS_landlock_create_ruleset, &raw const all, size, 0);
        if abi < 0 || ruleset < 0 {
            return answer(-1);
        }
        let changes = FS_WRITE_FILE | FS_REMOVE_FILE | FS_MAKE_REG;
        let files =
            [(c"/data/ok", FS_READ), (c"/data/exe", FS_READ | FS_EXECUTE), (c"/data/out", changes)];
        for (path, allowed) in files {
            let rule = PathBeneath { allowed, parent: open(path.as_ptr(), O_PATH | O_CLOEXEC) };
            if syscall(SYS_landlock_add_rule, ruleset, PATH_BENEATH, &raw const rule, 0) < 0 {
                return answer(-1);
            }
            close(rule.parent);
        }
        for (allowed, port) in [(NET_CONNECT, 1401), (NET_CONNECT | NET_BIND, 1402)] {
            let rule = NetPort { allowed, port };
            if syscall(SYS_landlock_add_rule, ruleset, NET_PORT, &raw const rule, 0) < 0 {
                return answer(-1);
            }
        }
        if prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0
            || syscall(SYS_landlock_restrict_self, ruleset, 0) < 0
        {
            return answer(-1);
        }
        close(ruleset as c_int);
        abi
    }
}
