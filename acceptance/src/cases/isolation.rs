//! Isolation: one hostile agent tries everything once; each case judges a part of it, control included.

use super::Case;
use crate::world::World;
use anyhow::{Result, ensure};
use demo::attacks::{self, Attack};
use demo::isolation::{aftermath, judge_all};
use demo::report::{Check, Recorder, Say};
use demo::{limits, revocation};

/// The table.
pub const CASES: &[Case] = &[
    Case {
        name: "isolation.reading",
        promise: "an agent reads no file that it was not given, by any call",
        run: |w| {
            part(
                w,
                &[
                    "open",
                    "openat2",
                    "opath-reopen",
                    "dotdot",
                    "mmap",
                    "hardlink",
                    "symlink",
                    "bind-mount",
                    "rename-out",
                    "exchange",
                    "stat",
                    "list",
                    "watch",
                ],
            )
        },
    },
    Case {
        name: "isolation.io-uring",
        promise: "io_uring is covered: inline, by workers, by the kernel's poller",
        run: |w| {
            part(
                w,
                &["uring-open", "uring-worker", "uring-sqpoll", "uring-unlink", "uring-connect"],
            )
        },
    },
    Case {
        name: "isolation.writing",
        promise: "an agent changes, makes and removes nothing that it was not given",
        run: |w| {
            part(
                w,
                &[
                    "write", "truncate", "unlink", "chmod", "xattr", "utimes", "create", "mkdir",
                    "mknod",
                ],
            )
        },
    },
    Case {
        name: "isolation.network",
        promise: "an agent reaches no address, port or socket that it was not given",
        run: |w| {
            part(
                w,
                &[
                    "tcp-connect",
                    "tcp-fastopen",
                    "tcp-mptcp",
                    "tcp-mapped",
                    "udp-send",
                    "udp-connected",
                    "unix-connect",
                    "unix-dgram",
                    "abstract-connect",
                    "bind",
                    "socket-raw",
                    "socket-packet",
                    "socket-vsock",
                ],
            )
        },
    },
    Case {
        name: "isolation.processes",
        promise: "an agent neither sees, signals, traces nor reads another",
        run: |w| {
            part(
                w,
                &[
                    "see-others",
                    "signal",
                    "pidfd-signal",
                    "ptrace",
                    "vm-read",
                    "proc-mem",
                    "proc-environ",
                    "proc-fd",
                    "proc-root",
                    "pidfd-getfd",
                    "prlimit",
                ],
            )
        },
    },
    Case {
        name: "isolation.leaked-handles",
        promise: "a pidfd that leaked into an agent is of no use",
        run: |w| part(w, &["leaked-getfd", "leaked-signal", "leaked-setns"]),
    },
    Case {
        name: "isolation.programs",
        promise: "an agent runs no program that it was not given, copied or not",
        run: |w| part(w, &["exec", "exec-copy", "exec-memfd", "exec-loader"]),
    },
    Case {
        name: "isolation.privileges",
        promise: "an agent gains no privilege: set-uid, namespaces, mounts, keys, BPF, perf, kexec",
        run: |w| {
            part(
                w,
                &[
                    "setuid-program",
                    "keyring",
                    "userns",
                    "setuid-root",
                    "capset",
                    "realtime",
                    "renice",
                    "chroot",
                    "mount-tmpfs",
                    "mount-new-api",
                    "perf",
                    "dmesg",
                    "fanotify",
                    "sethostname",
                    "bpf-list",
                    "bpf-map",
                    "kexec",
                ],
            )
        },
    },
    Case {
        name: "isolation.own-limits",
        promise: "an agent cannot leave its cgroup, lift its limits or touch those of others",
        run: |w| {
            part(
                w,
                &[
                    "cgroup-join",
                    "cgroup-write",
                    "cgroup-make",
                    "sysctl",
                    "sysfs",
                    "proc1-environ",
                    "proc1-root",
                ],
            )
        },
    },
    Case {
        name: "isolation.every-attack",
        promise: "each attack of the demonstration is in one of the cases above",
        run: complete,
    },
    Case {
        name: "isolation.aftermath",
        promise: "the victim is whole; each denial is exactly one record; `explain` names it",
        run: after,
    },
    Case { name: "isolation.limits", promise: "memory and process limits bite", run: limit },
    Case {
        name: "isolation.revocation",
        promise: "revocation bites on an open file, io_uring, a connection and a mapping",
        run: revoked,
    },
];

fn all_checks(world: &World) -> Result<Vec<(&Attack, Check)>> {
    let attack = world.attack()?;
    let checks = judge_all(&attack.attacked, &attack.control, &attack.harm);
    Ok(attack.attacked.side.attacks.iter().zip(checks).collect())
}

/// Every attack by one of these attempts must have been refused, and its control must have done harm.
fn part(world: &World, attempts: &[&str]) -> Result<String> {
    let checks = all_checks(world)?;
    let mine = checks.into_iter().filter(|(a, _)| attempts.contains(&a.attempt));
    all_pass(&mine.map(|(_, check)| check).collect::<Vec<_>>())
}

pub(super) fn all_pass(checks: &[Check]) -> Result<String> {
    let failed: Vec<String> = checks.iter().filter(|c| !c.passed).map(words).collect();
    ensure!(failed.is_empty(), "{} of {}: {}", failed.len(), checks.len(), failed.join("; "));
    ensure!(!checks.is_empty(), "nothing was checked");
    let controls = checks.iter().filter(|c| c.control.is_some()).count();
    Ok(format!("({} refused, {controls} with a control)", checks.len()))
}

fn words(check: &Check) -> String {
    let control = check.control.as_ref().map_or("none".to_owned(), |c| {
        format!("{} {}", if c.harm { "harm:" } else { "NO HARM:" }, c.observed)
    });
    format!("{} [{}] control {control}", check.name, check.observed)
}

/// No attack may fall between the cases.
fn complete(world: &World) -> Result<String> {
    let checks = all_checks(world)?;
    let text = include_str!("isolation.rs");
    let lost: Vec<&str> = checks
        .iter()
        .map(|(a, _)| a.attempt)
        .filter(|name| !text.contains(&format!("\"{name}\"")))
        .collect();
    ensure!(lost.is_empty(), "in no case: {}", lost.join(", "));
    let key = attacks::key_theft(&world.attack()?.attacked.side.scene);
    ensure!(checks.iter().any(|(a, _)| a.claim == key[0].claim), "the SSH key was not tried");
    Ok(format!("({} attacks)", checks.len()))
}

fn after(world: &World) -> Result<String> {
    let attack = world.attack()?;
    all_pass(&aftermath(&world.ctx, &attack.attacked, &attack.control)?)
}

fn recorded(add: impl FnOnce(&mut Recorder) -> Result<()>) -> Result<String> {
    let mut recorder = Recorder::new(Say { quiet: true });
    add(&mut recorder)?;
    all_pass(&recorder.finish("case", "", Ok(())).checks)
}

fn limit(world: &World) -> Result<String> {
    recorded(|r| limits::demonstrate(&world.ctx, r))
}

fn revoked(world: &World) -> Result<String> {
    recorded(|r| revocation::demonstrate(&world.ctx, r))
}
