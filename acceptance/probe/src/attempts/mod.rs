//! The table of attempts, and how one is made.
//!
//! Each runs in a forked child, so that what it does to its own process ends with it. `Ok(evidence)` is
//! the harm done; an error is the refusal.

pub mod files;
pub mod holds;
pub mod limits;
pub mod machine;
pub mod names;
pub mod neighbours;
pub mod network;
pub mod process;
pub mod rings;
pub mod sockets;
pub mod system;
pub mod uring;

use crate::{say, sys};
use anyhow::bail;
use probe::{Outcome, errno_name};
use std::ffi::CString;
use std::io::{self, Read};
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

/// One system call with these arguments; its result, or the error.
macro_rules! syscall {
    ($number:expr $(, $argument:expr)* $(,)?) => {
        // SAFETY: one system call on memory of the caller, which outlives it.
        $crate::sys::checked(unsafe { libc::syscall($number, $($argument),*) })
    };
}
use syscall;

/// What an attempt got, or the error that refused it.
pub type Got = io::Result<String>;

/// The argument of an attempt, split at its commas.
pub struct Target<'a>(Vec<&'a str>);

impl<'a> Target<'a> {
    fn new(argument: &'a str) -> Self {
        Target(argument.split(',').collect())
    }

    /// The n-th part; an attempt without it is a mistake of the caller.
    pub fn text(&self, n: usize) -> io::Result<&'a str> {
        let missing = || io::Error::other(format!("argument {} is missing", n + 1));
        self.0.get(n).copied().filter(|t| !t.is_empty()).ok_or_else(missing)
    }

    /// The n-th part as a path.
    pub fn path(&self, n: usize) -> io::Result<&'a Path> {
        self.text(n).map(Path::new)
    }

    /// The n-th part for a syscall.
    pub fn c_path(&self, n: usize) -> io::Result<CString> {
        c_text(self.text(n)?)
    }

    /// The n-th part as a number or address.
    pub fn parse<T: FromStr>(&self, n: usize) -> io::Result<T> {
        let text = self.text(n)?;
        text.parse().map_err(|_| io::Error::other(format!("{text:?} is not what it should be")))
    }
}

/// One hostile thing.
pub struct Attempt {
    /// Stable name.
    pub name: &'static str,
    /// What the argument is.
    pub argument: &'static str,
    /// What it wants.
    pub wants: &'static str,
    /// Does it.
    pub run: fn(&Target) -> Got,
}

/// Every attempt.
pub fn all() -> impl Iterator<Item = &'static Attempt> {
    let tables = [
        files::ATTEMPTS,
        names::ATTEMPTS,
        holds::ATTEMPTS,
        uring::ATTEMPTS,
        rings::ATTEMPTS,
        network::ATTEMPTS,
        sockets::ATTEMPTS,
        process::ATTEMPTS,
        neighbours::ATTEMPTS,
        system::ATTEMPTS,
        machine::ATTEMPTS,
        limits::ATTEMPTS,
    ];
    tables.into_iter().flatten()
}

/// Prints the table.
pub fn list() {
    for Attempt { name, argument, wants, .. } in all() {
        println!("{name:20} {argument:22} {wants}");
    }
}

/// Makes each attempt and prints its line. `label`: the process of each is called by its number and name, which a
/// record of what it was refused shows.
pub fn try_all(specs: &[String], limit: Duration, label: bool) -> anyhow::Result<()> {
    let mut found = Vec::new();
    for spec in specs {
        let (name, argument) = spec.split_once('=').unwrap_or((spec, ""));
        let Some(attempt) = all().find(|a| a.name == name) else {
            bail!("there is no attempt {name:?}; `coconut-probe list` names all");
        };
        found.push((attempt, argument));
    }
    for (number, (attempt, argument)) in found.into_iter().enumerate() {
        let label = label.then(|| format!("{number}.{}", attempt.name));
        say(&try_one(attempt, argument, limit, label.as_deref())?)?;
    }
    Ok(())
}

fn try_one(
    attempt: &Attempt,
    argument: &str,
    limit: Duration,
    label: Option<&str>,
) -> anyhow::Result<Outcome> {
    let begun_ns = sys::wall_ns();
    let outcome = |ok, errno, signal, evidence| Outcome {
        attempt: attempt.name.to_owned(),
        target: argument.to_owned(),
        ok,
        errno,
        signal,
        evidence,
        begun_ns,
        ended_ns: sys::wall_ns(),
    };
    let ended = sys::in_child(limit, || {
        if let Some(name) = label.and_then(|label| c_text(label).ok()) {
            let _ = rustix::thread::set_name(&name);
        }
        let outcome = match (attempt.run)(&Target::new(argument)) {
            Ok(evidence) => outcome(true, None, None, evidence),
            Err(e) => outcome(false, e.raw_os_error().map(errno_name), None, e.to_string()),
        };
        serde_json::to_vec(&outcome).unwrap_or_default()
    })?;
    Ok(match ended {
        sys::Ended::Said(line) => serde_json::from_slice(&line)?,
        sys::Ended::Signal(n) => outcome(false, None, Some(n), format!("killed by signal {n}")),
        sys::Ended::Late => outcome(false, None, None, probe::LATE.to_owned()),
    })
}

/// A text for a system call.
pub fn c_text(text: &str) -> io::Result<CString> {
    CString::new(text).map_err(io::Error::other)
}

/// The first bytes of something, as evidence.
pub fn first_bytes(mut from: impl Read) -> Got {
    let mut bytes = [0u8; 64];
    let n = from.read(&mut bytes)?;
    Ok(printable(&bytes[..n]))
}

/// Bytes as one line of text.
pub fn printable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>().trim().to_owned()
}

/// A mount namespace of its own from which nothing spreads to others.
pub fn private_mounts() -> io::Result<()> {
    use rustix::mount::{MountPropagationFlags as Flags, mount_change};
    step("unshare(CLONE_NEWNS)", sys::unshare(libc::CLONE_NEWNS))?;
    step("private", mount_change("/", Flags::PRIVATE | Flags::REC))
}

/// Says at which step something was refused, and keeps its error number.
pub fn step<T, E: Into<io::Error>>(name: &str, result: Result<T, E>) -> io::Result<T> {
    result.map_err(|e| {
        let e = e.into();
        // The number is what the reader needs; the step goes to stderr for a person who looks.
        eprintln!("  {name}: {e}");
        e
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_without_separators() {
        let mut names: Vec<_> = all().map(|a| a.name).collect();
        assert!(names.iter().all(|n| !n.contains(['=', ',', ' '])));
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn an_ordinary_process_reads_what_its_user_may_read() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("f");
        std::fs::write(&file, "SECRET\n").unwrap();
        let argument = file.display().to_string();
        for name in ["open", "openat2", "opath-reopen", "mmap"] {
            let attempt = all().find(|a| a.name == name).unwrap();
            let got = (attempt.run)(&Target::new(&argument)).unwrap();
            assert_eq!(got, "SECRET", "{name}");
        }
    }

    #[test]
    fn a_refusal_keeps_its_number() {
        let attempt = all().find(|a| a.name == "open").unwrap();
        let error = (attempt.run)(&Target::new("/does/not/exist")).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOENT));
    }
}
