//! Techniques of one agent on another of the same user, by what programs of one user find by its name.

use super::{Technique, theft, user};

/// Each agent has an IPC namespace of its own.
const OWN_IPC: &str = "its IPC namespace has none of that name";
/// And a `/tmp` and `/dev/shm`.
const OWN_TMP: &str = "its own /tmp and /dev/shm have no such file";

pub const TECHNIQUES: &[Technique] = &[
    theft("shm-key", "{ipc}", "read another's shared memory").linux(OWN_IPC),
    theft("shm-list", "", "… found by its number").linux(OWN_IPC),
    user("shm-remove", "{ipc}", "remove it").linux(OWN_IPC),
    theft("msg-key", "{ipc}", "take a message for another").linux(OWN_IPC),
    user("sem-key", "{ipc}", "let go what another holds").linux(OWN_IPC),
    theft("mq-open", "{ipc}", "take from another's queue").linux(OWN_IPC),
    theft("dev-shm", "{ipc}", "read another's POSIX memory").linux(OWN_TMP),
    theft("tmp-file", "{ipc}", "read another's /tmp").linux(OWN_TMP),
    user("abstract-dgram", "{abstract-dgram}", "send to an abstract name"),
    user("abstract-take", "{abstract-free}", "be who others look for by an abstract name"),
    user("unix-reach", "/run/coconut/api.sock", "ask the daemon about others"),
];
