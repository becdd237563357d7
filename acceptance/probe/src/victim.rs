//! The other side of an attack: a process with something worth stealing.

use crate::attempts::neighbours::Shared;
use crate::{say, sys};
use anyhow::Context;
use std::os::fd::AsRawFd;
use std::path::Path;

/// Holds the secret wherever secrets lie, says where, and waits until stdin is closed or a signal comes.
pub fn wait(secret: &str, file: &Path, key: Option<&str>, ipc: Option<i32>) -> anyhow::Result<()> {
    let open = std::fs::File::open(file).with_context(|| format!("open {}", file.display()))?;
    if let Some(name) = key {
        sys::key_plant(&std::ffi::CString::new(name)?, secret.as_bytes())
            .context("plant a key in the user's keyring")?;
    }
    let shared = ipc.map(|number| Shared::plant(number, secret)).transpose();
    let _shared = shared.context("share it by names")?;
    sys::allow_tracers();
    // A heap copy that nothing moves: other processes are given its address.
    let held: Box<[u8]> = secret.as_bytes().into();
    say(&probe::Victim {
        pid: std::process::id() as i32,
        address: held.as_ptr() as usize,
        length: held.len(),
        fd: open.as_raw_fd(),
    })?;
    let mut nothing = String::new();
    std::io::stdin().read_line(&mut nothing)?;
    std::hint::black_box(&held);
    Ok(())
}

/// Who the kernel says this process is.
pub fn whoami() {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| {
        let line = status.lines().find_map(|l| l.strip_prefix(name));
        line.unwrap_or("").trim().replace('\t', " ")
    };
    let fds: Vec<String> = std::fs::read_dir("/proc/self/fd")
        .map(|d| d.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect())
        .unwrap_or_default();
    println!(
        "{}",
        serde_json::json!({
            "pid": std::process::id(),
            "uid": field("Uid:"),
            "gid": field("Gid:"),
            "groups": field("Groups:"),
            "capabilities": field("CapEff:"),
            "bounding": field("CapBnd:"),
            "no_new_privs": field("NoNewPrivs:"),
            "seccomp": field("Seccomp:"),
            "cwd": std::env::current_dir().ok(),
            "fds": fds,
        })
    );
}
