//! What no capability allows.

use crate::world::{World, on};
use abi::Capability::FsRead;
use abi::event::Hook;
use anyhow::Result;
use libc::{EACCES, EPERM};

pub fn run(w: &World) -> Result<()> {
    let a = w.agent(&[on(FsRead, "/data/ok")])?;
    let b = w.outsider()?;
    let refused = [
        ("bpf", Hook::Bpf),
        ("mount /data/out", Hook::SbMount),
        ("umount /tmp", Hook::Capable),
        ("userns", Hook::UsernsCreate),
        ("keyctl", Hook::KeyPermission),
        ("add-key", Hook::KeyPermission),
        ("sqpoll", Hook::UringSqpoll),
        ("module 0", Hook::Capable),
        ("reboot", Hook::Capable),
        ("settime", Hook::Capable),
    ];
    for (line, hook) in refused {
        w.denied(&a, line, EPERM, hook);
    }
    // Debian's kernel asks for a privilege first.
    w.denied(&a, "perf", EACCES, Hook::Capable);
    let controls =
        ["bpf", "mount /data/out", "umount /data/out", "userns", "perf", "keyctl", "sqpoll"];
    for line in controls {
        w.allowed(&b, line);
    }
    w.end(&a)
}
