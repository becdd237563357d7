//! Agents as the API shows them.

use crate::caller::Caller;
use crate::clock;
use crate::state::{API, Daemon, Info, Inner};
use crate::translate;
use abi::{AgentId, Capability};
use api::agent::{Counters, ExplanationList};
use api::{Agent, AgentDetail, AgentList, Explanation, HeldCapability};
use manifest::Origin;
use uuid::Uuid;

impl Inner {
    /// One agent, as in a list.
    pub fn view(&self, agent: &supervisor::Agent) -> Option<Agent> {
        let info = self.info.get(&agent.aid)?;
        let parent = agent.parent.and_then(|parent| self.supervisor.get(parent).ok());
        Some(Agent {
            aid: agent.uuid,
            name: agent.name.clone(),
            tenant: agent.tenant.clone(),
            parent: parent.map(|parent| parent.uuid),
            state: agent.state(),
            pid: info.pid,
            uid: info.uid,
            owner: info.owner,
            command: info.command.clone(),
            weight: agent.weight,
            started_ns: info.started_ns,
            ended_ns: info.ended_ns,
            exit: info.exit.clone(),
            denials: info.kernel_denials + info.daemon_denials,
            uses: info.uses,
        })
    }

    /// The agents behind `after` that a caller may see, in the order of their birth, at most `limit`.
    /// For nobody are more looked at than that, or than are his.
    pub fn page(&self, caller: &Caller, all: bool, after: Option<Uuid>, limit: usize) -> AgentList {
        // One more tells whether there is a next page.
        let mut seen = self.seen(caller, all, after, limit + 1);
        let more = seen.len() > limit;
        seen.truncate(limit);
        let next = seen.last().filter(|_| more).map(|agent| agent.uuid.to_string());
        AgentList { agents: seen.into_iter().filter_map(|agent| self.view(agent)).collect(), next }
    }

    fn seen(
        &self,
        caller: &Caller,
        all: bool,
        after: Option<Uuid>,
        limit: usize,
    ) -> Vec<&supervisor::Agent> {
        let living = |agent: &&supervisor::Agent| all || !agent.state().is_terminal();
        let later = |uuid: &Uuid| after.is_none_or(|after| *uuid > after);
        let known = |aid: AgentId| self.supervisor.get(aid).ok();
        match caller {
            Caller::Operator { .. } if all => {
                self.supervisor.all_since(after).take(limit).collect()
            }
            Caller::Operator { .. } => self.supervisor.living_since(after).take(limit).collect(),
            Caller::Broker { .. } => Vec::new(),
            Caller::User { uid, .. } => {
                let own = self.by_owner.get(uid).into_iter().flatten();
                let own = own.filter(|(uuid, _)| later(uuid)).filter_map(|(_, aid)| known(*aid));
                own.filter(living).take(limit).collect()
            }
            Caller::Agent { aid, .. } => {
                let mut below = self.supervisor.descendants(*aid);
                below.push(*aid);
                let mut below: Vec<_> = below.into_iter().filter_map(known).collect();
                below.sort_by_key(|agent| agent.uuid);
                below.retain(|agent| living(agent) && later(&agent.uuid));
                below.truncate(limit);
                below
            }
        }
    }
}

/// Everything about one agent.
pub fn detail(daemon: &Daemon, aid: AgentId) -> Option<AgentDetail> {
    let kernel = daemon.kernel.counters(aid).ok();
    let inner = daemon.inner();
    let agent = inner.supervisor.get(aid).ok()?;
    let info = inner.info.get(&aid)?;
    let kernel = kernel.or(info.last_counters).unwrap_or_default();
    let children = agent.children().filter_map(|child| inner.supervisor.get(child).ok());
    Some(AgentDetail {
        agent: inner.view(agent)?,
        slot: format!("{aid:?}"),
        cgroup: format!("/sys/fs/cgroup/coconut.slice/{}/{}", agent.tenant, agent.uuid),
        origin: info.origin.clone(),
        capabilities: held(daemon, agent, info),
        counters: Counters {
            kernel_denials: kernel.denials,
            log_kernel_denials: info.kernel_denials,
            log_daemon_denials: info.daemon_denials,
            kernel_uses: kernel.uses,
            log_uses: info.uses,
        },
        children: children.map(|child| child.uuid).collect(),
        program_digest: info.program_digest.clone(),
        log_file: info.log_file.clone(),
        log_dropped: daemon.shelf.dropped(info.uuid),
    })
}

/// What an agent holds, in order of rule numbers; then what it has from its launch on, which no
/// rule names and which is nobody's to pass on.
pub fn held(daemon: &Daemon, agent: &supervisor::Agent, info: &Info) -> Vec<HeldCapability> {
    let left = |counter: supervisor::Counter| {
        let left = daemon.kernel.uses_left(counter.key);
        left.inspect_err(|error| tracing::warn!(%error, "uses that are left")).ok().flatten()
    };
    let mut list: Vec<HeldCapability> = agent
        .held()
        .map(|held| HeldCapability {
            rule: held.id,
            capability: held.rule.rule.to_string(),
            kind: held.rule.rule.capability(),
            source: source(&held.rule.origin),
            expires_ns: held.rule.expires_ns.map(clock::wall_of),
            uses_left: held.rule.counter.and_then(left),
        })
        .collect();
    list.sort_by_key(|held| held.rule);
    list.extend(info.launch.iter().map(|given| HeldCapability {
        rule: 0,
        capability: format!("{}={}", given.kind, given.object),
        kind: given.kind,
        source: "launch".to_owned(),
        expires_ns: None,
        uses_left: None,
    }));
    list
}

/// Where a right comes from: `line 6`, `command line`, `@base`, `infer`, `grant`…
pub fn source(origin: &Origin) -> String {
    match origin {
        Origin::Line { line: 0, .. } => "command line".to_owned(),
        Origin::Line { line, .. } => format!("line {line}"),
        Origin::Profile { name } => format!("@{name}"),
        Origin::Implied { by } => by.name().to_owned(),
        other => other.to_string(),
    }
}

/// The last denials of an agent, explained.
pub fn explain(daemon: &Daemon, aid: AgentId) -> Option<ExplanationList> {
    let inner = daemon.inner();
    let agent = inner.supervisor.get(aid).ok()?;
    let hex = agent.uuid.simple().to_string();
    let short = &hex[hex.len() - 8..];
    let denials = inner.supervisor.explain(aid).ok()?;
    // Rights of an ended agent cannot be changed.
    let short = (!agent.state().is_terminal()).then_some(short);
    let explained = denials.into_iter().map(|one| explained(one, short));
    Some(ExplanationList {
        aid: agent.uuid,
        name: agent.name.clone(),
        total: agent.denials().total(),
        denials: explained.collect(),
    })
}

fn explained(one: supervisor::Explanation, living: Option<&str>) -> Explanation {
    let attempt = &one.attempt;
    let command = one.allow.as_ref().zip(living);
    let command = command.map(|(rule, short)| format!("coconut cap grant {short} '{rule}'"));
    Explanation {
        time_ns: attempt.time_ns,
        count: attempt.count,
        tried: tried(attempt),
        program: attempt.program.clone(),
        refused_by: match attempt.operation.strip_prefix(API) {
            Some(why) => why.to_owned(),
            None => one.reason.to_string(),
        },
        errno: translate::errno_name(attempt.errno),
        capability: attempt.capability,
        object: attempt.object.clone(),
        manifest_line: one.manifest_line,
        command,
    }
}

/// What was tried, as a person says it.
fn tried(attempt: &supervisor::Attempt) -> String {
    let object = &attempt.object;
    let with_purpose = |verb: &str| {
        let purpose = match attempt.capability {
            Capability::FsRead => " for reading",
            Capability::FsWrite => " for writing",
            Capability::FsExec => " for executing",
            Capability::FsCreate => " to make it",
            Capability::FsDelete => " to delete it",
            _ => "",
        };
        format!("{verb} {object}{purpose}")
    };
    match attempt.operation.as_str() {
        "file_open" => with_purpose("open"),
        "file_permission" => with_purpose("use the open file"),
        "mmap_file" | "file_mprotect" => with_purpose("map"),
        "file_receive" => format!("receive a descriptor of {object}"),
        "file_truncate" | "path_truncate" => format!("truncate {object}"),
        "inode_getattr" => format!("look at {object}"),
        "path_notify" => format!("watch {object}"),
        "sb_statfs" => format!("ask how full the file system of {object} is"),
        "file_lock" => format!("lock {object}, which stops others"),
        "file_fcntl" => format!("lease {object}, or change how it is kept"),
        "file_ioctl" => format!("control {object} by ioctl()"),
        "file_ioctl_change" => format!("change {object} by ioctl()"),
        "inode_setattr" | "inode_xattr" | "path_chmod" | "path_chown" => {
            format!("change the attributes of {object}")
        }
        "path_mknod" | "path_mkdir" | "path_symlink" | "path_link" => format!("make {object}"),
        "path_unlink" | "path_rmdir" => format!("delete {object}"),
        "path_rename" => format!("rename {object}"),
        "bprm_check" => format!("run {object}"),
        "socket_create" => format!("open a socket of {object}"),
        "socket_connect" => format!("connect to {object}"),
        "socket_bind" | "socket_listen" => format!("listen on {object}"),
        "socket_sendmsg" => format!("send to {object}"),
        "socket_recvmsg" => format!("receive from {object}"),
        "unix_find" | "unix_stream_connect" | "unix_may_send" => {
            format!("connect to the socket {object}")
        }
        "task_kill" => format!("signal {object}"),
        "file_sigio" => format!("have the kernel signal {object}"),
        "ptrace_access" | "ptrace_traceme" => format!("trace {object}"),
        "sb_mount" | "move_mount" => format!("mount {object}"),
        "sb_umount" => format!("unmount {object}"),
        "bpf" => "call bpf()".to_owned(),
        "socket_setsockopt" => "send packets by another way than to their address".to_owned(),
        "sctp_bind_connect" => "add addresses to an association".to_owned(),
        "syslog" => "read the kernel's log".to_owned(),
        "kernel_module" => "have the kernel fetch a module".to_owned(),
        "kernel_load" => "load something into the kernel".to_owned(),
        "code_memory" if object.is_empty() => {
            "make memory executable that it can write to".to_owned()
        }
        "code_memory" => format!("map {object} as code"),
        "proc_read" => format!("ask {object}, which is about all of the machine"),
        "lockdown" => "reach into the kernel".to_owned(),
        "tun_device" => "use a network device of its own".to_owned(),
        "sb_remount" => "mount a file system anew".to_owned(),
        "userns_create" => "make a user namespace".to_owned(),
        "perf_event_open" => "open perf events".to_owned(),
        "cgroup_write" => format!("write to the cgroup file {object}"),
        by_daemon if by_daemon.starts_with(API) => format!("ask coconutd to {object}"),
        other if object.is_empty() => other.replace('_', " "),
        other => format!("{} {object}", other.replace('_', " ")),
    }
}
