//! The table of hooks: what is done at each place where the kernel asks its security modules.
//!
//! Which hooks have a program, the compiled object says; for every other one that the kernel lets a BPF program
//! attach to, a reason stands here. `docs/hooks.md` is made of this table, and the kernel suite compares it with
//! the running kernel: a hook that nobody has thought about fails it.

use crate::{Result, object};

/// What happens at a hook.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Duty {
    /// A program decides.
    Decides,
    /// A program takes note of what happens and decides nothing; why.
    Notes(&'static str),
    /// Nobody is attached; why that is enough.
    Left(&'static str),
}

/// One hook, by its name without `bpf_lsm_`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HookRow {
    /// As in the kernel's `lsm_hook_defs.h`.
    pub hook: String,
    /// What is done there.
    pub duty: Duty,
}

/// Hooks with a program that decides nothing.
const NOTES: [(&str, &str); 2] = [
    (
        "bprm_committed_creds",
        "from here on it is the new program; a successor of the daemon is let in",
    ),
    ("file_free_security", "what was remembered of the open file goes with it"),
];

/// Hooks without a program, by the reason.
const LEFT: &[(&str, &[&str])] = &[
    (
        "labels of other security modules: nothing here has labels",
        &[
            "cred_getlsmprop",
            "cred_getsecid",
            "current_getlsmprop_subj",
            "dentry_create_files_as",
            "dentry_init_security",
            "inode_getlsmprop",
            "inode_getsecctx",
            "inode_invalidate_secctx",
            "inode_notifysecctx",
            "inode_setintegrity",
            "inode_setsecctx",
            "ipc_getlsmprop",
            "kernel_act_as",
            "kernel_create_files_as",
            "kernfs_init_security",
            "lsmprop_to_secctx",
            "release_secctx",
            "req_classify_flow",
            "secctx_to_secid",
            "secid_to_secctx",
            "sk_getsecid",
            "socket_getpeersec_dgram",
            "socket_getpeersec_stream",
            "task_getlsmprop_obj",
            "task_to_inode",
            "sb_clone_mnt_opts",
            "sb_mnt_opts_compat",
            "sb_set_mnt_opts",
            "inode_init_security",
            "inode_init_security_anon",
            "inode_copy_up",
            "inode_xattr_skipcap",
            "inode_setsecurity",
        ],
    ),
    (
        "an object comes or goes: what it may be used for is decided where it is used",
        &[
            "backing_file_alloc",
            "backing_file_free",
            "bdev_alloc_security",
            "bdev_free_security",
            "bdev_setintegrity",
            "cred_alloc_blank",
            "cred_free",
            "cred_prepare",
            "cred_transfer",
            "d_instantiate",
            "file_release",
            "inode_alloc_security",
            "inode_free_security",
            "inode_free_security_rcu",
            "msg_msg_alloc_security",
            "msg_msg_free_security",
            "msg_queue_alloc_security",
            "msg_queue_free_security",
            "sb_alloc_security",
            "sb_delete",
            "sb_free_mnt_opts",
            "sb_free_security",
            "sem_alloc_security",
            "sem_free_security",
            "shm_alloc_security",
            "shm_free_security",
            "sk_alloc_security",
            "sk_clone_security",
            "sk_free_security",
            "sock_graft",
            "socket_post_create",
            "task_alloc",
            "task_free",
            "bpf_map_free",
            "bpf_prog_free",
            "bpf_token_free",
            "initramfs_populated",
        ],
    ),
    (
        "told after the fact: what comes before it was decided",
        &[
            "bprm_committing_creds",
            "file_post_open",
            "inode_post_create_tmpfile",
            "inode_post_remove_acl",
            "inode_post_removexattr",
            "inode_post_set_acl",
            "inode_post_setattr",
            "inode_post_setxattr",
            "kernel_post_load_data",
            "kernel_post_read_file",
            "key_post_create_or_update",
            "path_post_mknod",
        ],
    ),
    (
        "asked behind the hook of the same name with `path_`, which knows the mount",
        &[
            "inode_create",
            "inode_link",
            "inode_mkdir",
            "inode_mknod",
            "inode_rmdir",
            "inode_symlink",
            "inode_unlink",
        ],
    ),
    (
        "part of a call that is decided as a whole",
        &[
            "bprm_creds_for_exec",
            "bprm_creds_from_file",
            "inode_file_getattr",
            "inode_follow_link",
            "inode_killpriv",
            "mmap_addr",
            "mmap_backing_file",
            "sb_eat_lsm_opts",
            "sb_show_options",
            "fs_context_dup",
            "fs_context_parse_param",
            "fs_context_submount",
        ],
    ),
    (
        "an agent holds no POSIX capability and never gains one, and the kernel refuses without it",
        &[
            "capset",
            "capable",
            "path_chroot",
            "settime",
            "task_fix_setgid",
            "task_fix_setgroups",
            "task_fix_setuid",
            "quota_on",
            "quotactl",
            "xfrm_policy_alloc_security",
            "xfrm_policy_clone_security",
            "xfrm_policy_delete_security",
            "xfrm_policy_free_security",
            "xfrm_policy_lookup",
            "xfrm_state_alloc",
            "xfrm_state_alloc_acquire",
            "xfrm_state_delete_security",
            "xfrm_state_free_security",
            "xfrm_state_pol_flow_match",
            "secmark_refcount_dec",
            "secmark_refcount_inc",
            "secmark_relabel_packet",
            "audit_rule_free",
            "audit_rule_init",
            "audit_rule_known",
        ],
    ),
    (
        "`bpf` refuses the call itself, to agents always and to others once the seal is closed",
        &[
            "bpf_map",
            "bpf_map_create",
            "bpf_prog",
            "bpf_prog_load",
            "bpf_token_capable",
            "bpf_token_cmd",
            "bpf_token_create",
        ],
    ),
    (
        "it costs everybody 175 guest instructions for each folder of a path, and access() tells what open() tells: \
         whether a name exists (decision 7)",
        &["inode_permission"],
    ),
    (
        "the signal is decided where the kernel sends it, in `file_send_sigiotask`",
        &["file_set_fowner"],
    ),
    (
        "`perf_event_open` refuses the descriptor, so there is none to read or write",
        &["perf_event_read", "perf_event_write"],
    ),
    (
        "tells a process about one that it can name: another agent's has no number in its PID namespace",
        &[
            "capget",
            "task_getioprio",
            "task_getpgid",
            "task_getscheduler",
            "task_getsid",
            "task_prlimit",
            "task_setpgid",
            "setselfattr",
        ],
    ),
    (
        "about the caller itself; what others are told is decided elsewhere",
        &["task_prctl", "uring_allowed"],
    ),
    (
        "System V IPC: agents have IPC namespaces of their own, and in the one that others share nothing can be made",
        &[
            "ipc_permission",
            "msg_queue_associate",
            "msg_queue_msgctl",
            "msg_queue_msgrcv",
            "msg_queue_msgsnd",
            "sem_associate",
            "sem_semctl",
            "sem_semop",
            "shm_associate",
            "shm_shmat",
            "shm_shmctl",
        ],
    ),
    (
        "a socket's own state; making, naming, connecting, sending and receiving are decided",
        &[
            "socket_getpeername",
            "socket_getsockname",
            "socket_getsockopt",
            "socket_shutdown",
            "socket_socketpair",
        ],
    ),
    (
        "the network's side of a connection, in nobody's name: connect, accept, send and receive are decided",
        &[
            "inet_conn_established",
            "inet_conn_request",
            "inet_csk_clone",
            "socket_sock_rcv_skb",
            "mptcp_add_subflow",
            "sctp_assoc_established",
            "sctp_assoc_request",
            "sctp_sk_clone",
        ],
    ),
    (
        "routes and addresses may be read; changing them needs a privilege, and other families of netlink do not open",
        &["netlink_send"],
    ),
    (
        "a device node that an agent would have to be given",
        &[
            "binder_set_context_mgr",
            "binder_transaction",
            "binder_transfer_binder",
            "binder_transfer_file",
            "ib_alloc_security",
            "ib_endport_manage_subnet",
            "ib_pkey_access",
            "tun_dev_alloc_security",
        ],
    ),
];

/// Functions of that name that are no hooks, or that the kernel gives to no BPF program. What is asked at
/// `setprocattr` is decided where `/proc/<pid>/attr` is opened.
const CLOSED: &[&str] = &[
    "audit_rule_match",
    "file_alloc_security",
    "find_cgroup_shim",
    "func_proto",
    "get_retval_range",
    "getprocattr",
    "getselfattr",
    "has_d_inode_locked",
    "hook_returns_errno",
    "init",
    "inode_copy_up_xattr",
    "inode_getsecurity",
    "inode_listsecurity",
    "inode_need_killpriv",
    "is_sleepable_hook",
    "is_trusted",
    "ismaclabel",
    "key_getsecurity",
    "setprocattr",
    "verify_prog",
    "vm_enough_memory",
    "xfrm_decode_session",
];

/// Every hook that is known, by name.
///
/// # Errors
/// When the compiled programs cannot be read.
pub fn hooks() -> Result<Vec<HookRow>> {
    let mut rows: Vec<HookRow> = object::hooks()?.into_iter().map(attached).collect();
    for (why, hooks) in LEFT {
        rows.extend(hooks.iter().map(|hook| row(hook, Duty::Left(why))));
    }
    rows.sort_by(|a, b| a.hook.cmp(&b.hook));
    Ok(rows)
}

/// Hooks of the running kernel that the table does not know; those that this kernel lacks are no fault.
///
/// # Errors
/// When the kernel does not describe itself.
pub fn unknown() -> Result<Vec<String>> {
    let known = hooks()?;
    let is_known = |hook: &str| known.iter().any(|row| row.hook == hook) || CLOSED.contains(&hook);
    Ok(object::named_hooks()?.into_iter().filter(|hook| !is_known(hook)).collect())
}

/// Hooks of the running kernel that it lets a BPF program attach to. Tries each: needs the right to load programs.
///
/// # Errors
/// When the kernel does not describe itself.
pub fn attachable() -> Result<Vec<String>> {
    object::attachable()
}

fn attached(hook: String) -> HookRow {
    let note = NOTES.iter().find(|(name, _)| *name == hook);
    let duty = note.map_or(Duty::Decides, |(_, why)| Duty::Notes(why));
    HookRow { hook, duty }
}

fn row(hook: &str, duty: Duty) -> HookRow {
    HookRow { hook: hook.to_owned(), duty }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::fmt::Write as _;

    #[test]
    fn no_hook_has_two_duties() {
        let rows = hooks().unwrap();
        let names: BTreeSet<&str> = rows.iter().map(|row| row.hook.as_str()).collect();
        assert_eq!(names.len(), rows.len());
        assert!(NOTES.iter().all(|(name, _)| names.contains(name)));
        assert!(CLOSED.iter().all(|name| !names.contains(name)));
    }

    /// After a change: `BLESS=1 cargo test -p coconut-kernel --lib hooks`.
    #[test]
    fn the_page_of_hooks_is_the_table() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/hooks.md");
        let want = page(&hooks().unwrap());
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(path, &want).unwrap();
        }
        let have = std::fs::read_to_string(path).unwrap_or_default();
        assert!(have == want, "docs/hooks.md is not the table\nhint: run this test with BLESS=1");
    }

    fn page(rows: &[HookRow]) -> String {
        let of = |wanted: fn(&Duty) -> bool| rows.iter().filter(move |row| wanted(&row.duty));
        let decided = of(|duty| *duty == Duty::Decides);
        let mut out = format!(
            "# The table of hooks\n\n\
             Made from the compiled kernel programs and `crates/kernel/src/hooks.rs`; do not edit. Each place where Linux\n\
             asks its security modules, and that a BPF program can attach to, is here. K: `hooks` compares the table\n\
             with the running kernel: a hook that is not in it fails, and `coconut doctor` names it.\n\n\
             ## Decided ({})\n\n",
            decided.clone().count()
        );
        let names: Vec<String> = decided.map(|row| format!("`{}`", row.hook)).collect();
        for line in names.chunks(5) {
            let _ = writeln!(out, "{},", line.join(", "));
        }
        let end = out.trim_end_matches(",\n").len();
        out.truncate(end);
        out.push_str("\n\nBeside them, not hooks of security modules: `cgroup_attach_task`, `cap_capable`, `do_file_open`, `vfs_rename`,\n`sched_process_exit`, `task_newtask`, `inet_sock_set_state`, and each packet that leaves a socket of an agent's (`cgroup_skb/egress`).\n\n## Noted\n\n| hook | why |\n|---|---|\n");
        for (hook, why) in NOTES {
            let _ = writeln!(out, "| `{hook}` | {why} |");
        }
        let left = of(|duty| matches!(duty, Duty::Left(_))).count();
        let _ = writeln!(out, "\n## Left alone ({left})\n\n| why | hooks |\n|---|---|");
        for (why, hooks) in LEFT {
            let hooks: Vec<String> = hooks.iter().map(|hook| format!("`{hook}`")).collect();
            let _ = writeln!(out, "| {why} | {} |", hooks.join(", "));
        }
        out
    }
}
