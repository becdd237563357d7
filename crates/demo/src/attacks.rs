//! Every attack of the isolation demonstration: the claim, the probe's attempt, and who is its control.

use crate::scene::Scene;

/// Who can do it without Coconut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// An ordinary process of the same user.
    User,
    /// Only root: the agent's missing privilege and the kernel's check both stand in the way.
    Root,
    /// An ordinary process of the same user, where the kernel has the feature at all.
    UserIfThere,
    /// Nobody on a sealed machine, root included.
    Nobody,
}

/// One attack.
#[derive(Clone, Debug)]
pub struct Attack {
    /// The probe's attempt; also the check's name.
    pub attempt: &'static str,
    /// What an agent cannot do, for people.
    pub claim: &'static str,
    /// The attempt's argument on this scene.
    pub argument: String,
    /// Its control.
    pub who: Who,
    /// The evidence of a success must hold the secret.
    pub secret: bool,
}

impl Attack {
    /// As the probe wants it: `open=/some/file`.
    pub fn spec(&self) -> String {
        match self.argument.is_empty() {
            true => self.attempt.to_owned(),
            false => format!("{}={}", self.attempt, self.argument),
        }
    }
}

/// The process that is attacked, and what else is not part of the scene's files.
#[derive(Clone, Debug)]
pub struct Target {
    /// Its process id in the initial PID namespace.
    pub pid: u32,
    /// Where its secret lies.
    pub address: usize,
    /// How long that is.
    pub length: usize,
    /// A descriptor of its on a file with the secret.
    pub fd: i32,
    /// Its cgroup.
    pub cgroup: String,
    /// The attacker's own cgroup.
    pub own_cgroup: String,
    /// Name of a key in the user's keyring.
    pub key: String,
    /// A program that the attacker may read and not run.
    pub readable_program: String,
    /// A program that it may not even read.
    pub hidden_program: String,
}

fn attack(who: Who, attempt: &'static str, claim: &'static str, argument: String) -> Attack {
    Attack { attempt, claim, argument, who, secret: false }
}

fn theft(attempt: &'static str, claim: &'static str, argument: String) -> Attack {
    Attack { attempt, claim, argument, who: Who::User, secret: true }
}

/// Ways to another's file contents.
pub fn reading(s: &Scene) -> Vec<Attack> {
    let (file, own) = (s.theirs("secret.txt"), s.own_dir());
    let with_own = |file: &str| format!("{},{own}", s.theirs(file));
    vec![
        theft("open", "read another agent's file", file.clone()),
        theft("openat2", "… by openat2", file.clone()),
        theft("opath-reopen", "… by O_PATH and /proc/self/fd", file.clone()),
        theft("dotdot", "… by way of its own directory", with_own("secret.txt")),
        theft("mmap", "… by mapping it", file.clone()),
        theft("hardlink", "… by a hard link", with_own("secret.txt")),
        theft("symlink", "… by a symbolic link", with_own("secret.txt")),
        theft("bind-mount", "… by a bind mount", with_own("secret.txt")),
        theft("rename-out", "… by moving it home", with_own("to-rename")),
        theft("exchange", "… by swapping it with a bait", with_own("to-exchange")),
        theft("uring-open", "… by io_uring", file.clone()),
        theft("uring-worker", "… by an io_uring worker", file.clone()),
        Attack {
            who: Who::UserIfThere,
            ..theft("uring-sqpoll", "… by an io_uring kernel poller", file.clone())
        },
        attack(Who::User, "stat", "learn its size and owner", file),
        attack(Who::User, "list", "list the other's directory", s.other.display().to_string()),
        attack(Who::User, "watch", "be told what happens in it", s.other.display().to_string()),
    ]
}

/// The user's private key.
pub fn key_theft(s: &Scene) -> Vec<Attack> {
    vec![theft("open", "read the user's SSH key", s.ssh_key.display().to_string())]
}

/// Ways to change what is another's.
pub fn writing(s: &Scene) -> Vec<Attack> {
    let dir = s.other.display().to_string();
    let user = Who::User;
    vec![
        attack(user, "write", "append to another's file", s.theirs("to-append")),
        attack(user, "truncate", "empty it", s.theirs("to-empty")),
        attack(user, "unlink", "remove it", s.theirs("to-unlink")),
        attack(user, "uring-unlink", "… by io_uring", s.theirs("to-unlink-by-ring")),
        attack(user, "chmod", "open it to everybody", s.theirs("to-chmod")),
        attack(Who::UserIfThere, "xattr", "tag it", s.theirs("to-tag")),
        attack(user, "utimes", "forge its times", s.theirs("to-touch")),
        attack(user, "create", "make a file beside it", dir.clone()),
        attack(user, "mkdir", "make a directory beside it", dir.clone()),
        attack(user, "mknod", "make a FIFO beside it", dir),
    ]
}

/// Ways out, by every family of sockets.
pub fn network(s: &Scene) -> Vec<Attack> {
    let tcp = s.tcp.to_string();
    let there = Who::UserIfThere;
    vec![
        theft("tcp-connect", "reach a listener on loopback", tcp.clone()),
        theft("tcp-fastopen", "… by TCP Fast Open", tcp.clone()),
        Attack { who: there, ..theft("tcp-mptcp", "… by multipath TCP", tcp.clone()) },
        Attack { who: there, ..theft("tcp-mapped", "… by its IPv6-mapped address", tcp.clone()) },
        theft("uring-connect", "… by io_uring", tcp),
        theft("udp-send", "send a datagram", s.udp.to_string()),
        theft("udp-connected", "… on a connected socket", s.udp.to_string()),
        theft("unix-connect", "reach a UNIX socket", s.unix.display().to_string()),
        attack(Who::User, "unix-dgram", "… of datagrams", s.unix_datagram.display().to_string()),
        theft("abstract-connect", "reach an abstract socket", s.abstract_name.clone()),
        attack(Who::User, "bind", "listen on a port", "127.0.0.1:0".to_owned()),
        attack(Who::Root, "socket-raw", "open a raw socket", String::new()),
        attack(Who::Root, "socket-packet", "see every packet", String::new()),
        attack(there, "socket-vsock", "talk to the hypervisor", String::new()),
    ]
}

/// Ways into another process.
pub fn processes(t: &Target) -> Vec<Attack> {
    let (pid, fd) = (t.pid.to_string(), format!("{},{}", t.pid, t.fd));
    let memory = format!("{},{},{}", t.pid, t.address, t.length);
    let user = Who::User;
    vec![
        attack(user, "see-others", "see processes of others", String::new()),
        attack(user, "signal", "signal another agent", pid.clone()),
        attack(user, "pidfd-signal", "… by pidfd", pid.clone()),
        Attack { secret: false, ..theft("ptrace", "trace it", format!("{},{}", t.pid, t.address)) },
        theft("vm-read", "read its memory", memory.clone()),
        theft("proc-mem", "… by /proc/PID/mem", memory),
        attack(user, "proc-environ", "read its environment", pid.clone()),
        theft("proc-fd", "reopen its file by /proc", fd.clone()),
        attack(user, "proc-root", "enter its root directory", pid.clone()),
        theft("pidfd-getfd", "copy its open descriptor", fd),
        attack(user, "prlimit", "change its limits", pid),
    ]
}

/// What a pidfd that leaked into the agent could be used for; it is the agent's stdin.
pub fn leaked(t: &Target) -> Vec<Attack> {
    vec![
        theft("leaked-getfd", "copy a file by a leaked pidfd", format!("0,{}", t.fd)),
        attack(Who::User, "leaked-signal", "signal by a leaked pidfd", "0".to_owned()),
        attack(Who::Root, "leaked-setns", "enter namespaces by it", "0".to_owned()),
    ]
}

/// Ways to more privilege, and to programs that were not granted.
pub fn privileges(s: &Scene, t: &Target) -> Vec<Attack> {
    let (program, none) = (&t.readable_program, String::new);
    let (user, root, nobody) = (Who::User, Who::Root, Who::Nobody);
    let mut all = vec![
        attack(user, "exec", "run a program it may only read", program.clone()),
        attack(
            user,
            "exec-copy",
            "… a copy in its own directory",
            format!("{program},{}", s.own_dir()),
        ),
        attack(user, "exec-memfd", "… a copy in memory", program.clone()),
        attack(user, "exec-loader", "run one by the dynamic loader", t.hidden_program.clone()),
        theft("keyring", "read a key of the same user", t.key.clone()),
        attack(user, "userns", "be root in a user namespace", none()),
        attack(root, "setuid-root", "become root", none()),
        attack(root, "capset", "take capabilities", none()),
        attack(root, "realtime", "run before everybody", none()),
        attack(root, "renice", "take a better nice value", none()),
        attack(root, "chroot", "change its root", "/".to_owned()),
        attack(root, "mount-tmpfs", "mount over a directory", s.own_dir()),
        attack(root, "mount-new-api", "… by fsopen", none()),
        attack(root, "perf", "open perf events", none()),
        attack(root, "dmesg", "read the kernel log", none()),
        attack(root, "fanotify", "be told of every open", "/".to_owned()),
        attack(root, "sethostname", "rename the machine", none()),
        attack(nobody, "bpf-list", "list the policy's programs", none()),
        attack(nobody, "bpf-map", "make a BPF map", none()),
        attack(nobody, "kexec", "replace the kernel", none()),
    ];
    if let Some(helper) = &s.helper {
        let claim = "be root by a set-uid program";
        all.insert(4, attack(user, "setuid-program", claim, helper.display().to_string()));
    }
    all
}

/// Ways out of its own limits, and into those of others.
pub fn limits(t: &Target) -> Vec<Attack> {
    let (own, other, root) = (&t.own_cgroup, &t.cgroup, Who::Root);
    vec![
        attack(root, "cgroup-join", "leave for another cgroup", other.clone()),
        attack(root, "cgroup-write", "lift its own memory limit", format!("{own}/memory.max,max")),
        attack(root, "cgroup-write", "raise its own CPU weight", format!("{own}/cpu.weight,10000")),
        attack(root, "cgroup-write", "freeze another agent", format!("{other}/cgroup.freeze,1")),
        attack(root, "cgroup-write", "kill another agent", format!("{other}/cgroup.kill,1")),
        attack(root, "cgroup-make", "make a cgroup of its own", own.clone()),
        attack(root, "sysctl", "write below /proc/sys", "/proc/sys/vm/swappiness,60".to_owned()),
        attack(root, "sysfs", "write below /sys", "/sys/kernel/mm/ksm/run,0".to_owned()),
        attack(root, "proc1-environ", "read init's environment", String::new()),
        attack(root, "proc1-root", "enter init's root", String::new()),
    ]
}
