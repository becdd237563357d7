//! Techniques on files and names of others, and on a file that may only be read.

use super::{Technique, privileged, theft, user};
use demo::attacks::Who;

pub const TECHNIQUES: &[Technique] = &[
    // What tells of a file without opening it.
    user("statx", "{theirs}/secret.txt", "learn its size by statx"),
    user("stat-opath", "{theirs}/secret.txt", "… by O_PATH and fstat"),
    user("uring-statx", "{theirs}/secret.txt", "… by io_uring"),
    user("statfs", "{theirs}/secret.txt", "learn how full its disk is"),
    theft("getxattr", "{theirs}/secret.txt", "read a tag of it"),
    theft("uring-getxattr", "{theirs}/secret.txt", "… by io_uring"),
    user("listxattr", "{theirs}/secret.txt", "list its tags"),
    theft("readlink", "{theirs}/link", "read where a link leads"),
    theft("open-handle", "{theirs}/secret.txt,{own}", "read it by its handle")
        .who(Who::Root)
        .linux("a handle is opened by who has CAP_DAC_READ_SEARCH"),
    // Ways to its content.
    theft("link-opath", "{theirs}/to-link,{own}", "link it home by O_PATH"),
    theft("uring-link", "{theirs}/to-link-by-ring,{own}", "… by io_uring"),
    theft("uring-rename", "{theirs}/to-move,{own}", "move it home by io_uring"),
    theft("uring-direct", "{theirs}/secret.txt", "read it by a ring's own descriptor"),
    theft("uring-chain", "{theirs}/secret.txt", "… by linked requests"),
    theft("uring-borrowed", "{theirs}/secret.txt", "… with registered credentials"),
    // Ways to change what is another's.
    user("rename-over", "{theirs}/to-replace,{own}", "put a file of its own in its place"),
    user("link-in", "{theirs},{own}", "link a file of its own there"),
    user("symlink-in", "{theirs}", "make a symbolic link there"),
    user("uring-symlink", "{theirs}", "… by io_uring"),
    user("uring-mkdir", "{theirs}", "make a directory there by io_uring"),
    user("socket-in", "{theirs}", "make a socket there"),
    user("tmpfile", "{theirs}", "make a nameless file there"),
    user("rmdir", "{theirs}/empty", "remove its directory"),
    user("chown", "{theirs}/to-give", "give it to another"),
    user("chmod-opath", "{theirs}/to-open", "open it to everybody by O_PATH"),
    user("utimes-opath", "{theirs}/to-touch", "forge its times by O_PATH"),
    user("set-acl", "{theirs}/to-share", "change its access list"),
    user("removexattr", "{theirs}/secret.txt", "take a tag away"),
    user("uring-setxattr", "{theirs}/to-tag", "tag it by io_uring"),
    user("file-setattr", "{theirs}/to-flag", "flag it by path"),
    // What it may read, it may only read.
    user("flock", "{read}", "lock others out of what it may read"),
    user("lock-record", "{read}", "… by fcntl"),
    user("lock-open-file", "{read}", "… by F_OFD_SETLK"),
    user("lease", "{read}", "take a lease on what it may read"),
    user("delegation", "{reads}", "… a delegation"),
    user("write-hint", "{read}", "set a hint on it"),
    user("set-flags", "{read}", "flag it by its descriptor"),
    user("set-project", "{read}", "… by FS_IOC_FSSETXATTR"),
    user("reopen-write", "{read}", "reopen it to write"),
    user("fchmod", "{read}", "change its mode"),
    user("futimens", "{read}", "forge its times"),
    user("fsetxattr", "{read}", "tag it"),
    privileged("open-tree", "{theirs},secret.txt", "read it by a copy of its mount"),
    privileged("move-mount", "{theirs},{own}", "move its mount home"),
];
