//! Runs a program of the tools tree in mount, PID and IPC namespaces of its own, with a private `/dev`.
//!
//! The host's `/dev` and mounts are never in reach: image tools run as root have been seen to unlink device nodes.

use crate::context::Context;
use crate::host;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A command in the tools tree, being put together.
pub struct Sandbox {
    args: Vec<OsString>,
    program: Vec<OsString>,
}

impl Sandbox {
    /// `program` of the tools tree; sees nothing of the host but a scratch `/var/tmp`.
    pub fn new(cx: &Context, tools: &Path, program: &str) -> Self {
        let mut sandbox = Self { args: Vec::new(), program: vec![program.into()] };
        for flag in ["--unshare-pid", "--unshare-ipc", "--unshare-uts", "--die-with-parent"] {
            sandbox.args.push(flag.into());
        }
        sandbox.args.extend(["--cap-add".into(), "ALL".into()]);
        sandbox.read_only_at(&tools.join("usr"), "/usr").read_only_at(&tools.join("etc"), "/etc");
        for dir in ["bin", "sbin", "lib", "lib64"] {
            sandbox.pair("--symlink", &format!("usr/{dir}"), &format!("/{dir}"));
        }
        for dir in ["/tmp", "/run", "/var", "/root"] {
            sandbox.args.extend(["--tmpfs".into(), dir.into()]);
        }
        sandbox.args.extend(["--dev".into(), "/dev".into(), "--proc".into(), "/proc".into()]);
        sandbox.read_only_at(Path::new("/sys"), "/sys");
        sandbox.writable_at(&cx.work.join("tmp"), "/var/tmp");
        sandbox.pair("--setenv", "PATH", "/usr/sbin:/usr/bin").pair("--setenv", "HOME", "/root");
        sandbox.pair("--setenv", "LC_ALL", "C.UTF-8").pair("--setenv", "TMPDIR", "/var/tmp");
        sandbox
    }

    /// Shows a path of the host under its own name, read-only.
    pub fn read_only(&mut self, path: &Path) -> &mut Self {
        self.mount("--ro-bind", path, path)
    }

    /// Shows a path of the host elsewhere, read-only.
    pub fn read_only_at(&mut self, path: &Path, at: &str) -> &mut Self {
        self.mount("--ro-bind", path, Path::new(at))
    }

    /// Shows a path of the host under its own name.
    pub fn writable(&mut self, path: &Path) -> &mut Self {
        self.mount("--bind", path, path)
    }

    /// Shows a path of the host elsewhere.
    pub fn writable_at(&mut self, path: &Path, at: &str) -> &mut Self {
        self.mount("--bind", path, Path::new(at))
    }

    /// Gives it one device node of the host.
    pub fn device(&mut self, node: &str) -> &mut Self {
        self.mount("--dev-bind", Path::new(node), Path::new(node))
    }

    /// Lets it resolve names as the host does (the network itself is shared unless `no_network`).
    pub fn network(&mut self) -> &mut Self {
        // A link into /run on hosts with systemd-resolved: show what it points to.
        if let Ok(file) = Path::new("/etc/resolv.conf").canonicalize() {
            self.read_only_at(&file, "/etc/resolv.conf");
        }
        self
    }

    /// Takes the network away.
    pub fn no_network(&mut self) -> &mut Self {
        self.args.push("--unshare-net".into());
        self
    }

    /// Sets an environment variable.
    pub fn env(&mut self, name: &str, value: &str) -> &mut Self {
        self.pair("--setenv", name, value)
    }

    /// Sets the working folder.
    pub fn dir(&mut self, dir: &Path) -> &mut Self {
        self.args.extend(["--chdir".into(), dir.into()]);
        self
    }

    /// Adds an argument of the program.
    pub fn arg(&mut self, arg: impl Into<OsString>) -> &mut Self {
        self.program.push(arg.into());
        self
    }

    /// Adds arguments of the program.
    pub fn args<A: Into<OsString>>(&mut self, args: impl IntoIterator<Item = A>) -> &mut Self {
        self.program.extend(args.into_iter().map(Into::into));
        self
    }

    /// The finished command for the host.
    pub fn command(&self) -> Command {
        let mut command = as_root("bwrap");
        command.args(&self.args).arg("--").args(&self.program);
        command
    }

    fn mount(&mut self, kind: &str, from: &Path, to: &Path) -> &mut Self {
        self.args.extend([kind.into(), from.into(), to.into()]);
        self
    }

    fn pair(&mut self, flag: &str, a: &str, b: &str) -> &mut Self {
        self.args.extend([flag.into(), a.into(), b.into()]);
        self
    }
}

/// A host command as root: as it is for root, else as root of a user namespace that spans the user's subordinate ids.
pub fn as_root(program: &str) -> Command {
    if host::is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--map-auto", "--", program]);
    command
}

/// Removes a tree that may belong to subordinate ids.
pub fn remove_tree(path: &Path) -> std::io::Result<()> {
    if !path.exists() {
        return Ok(());
    }
    let status = as_root("rm").arg("-rf").arg("--").arg(PathBuf::from(path)).status()?;
    if status.success() { Ok(()) } else { Err(std::io::Error::other("rm failed")) }
}
