//! What the probe prints, for those who read it: the demonstrations and the acceptance suite.
//!
//! The program itself is an attack tool: it does with plain syscalls what a hostile agent would.
//! It never decides what should have happened; that is its reader's work.

use serde::{Deserialize, Serialize};

/// One attempt and what came of it: one JSON line on stdout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outcome {
    /// Name of the attempt, as in `coconut-probe list`.
    pub attempt: String,
    /// What it was tried on.
    pub target: String,
    /// True: the attempt got what it wanted, which is the harm.
    pub ok: bool,
    /// Symbol of the error that ended it, such as `EACCES`.
    pub errno: Option<String>,
    /// Signal that ended it, such as 9 from the memory limit.
    pub signal: Option<i32>,
    /// What it got, or at which step it was refused.
    pub evidence: String,
    /// `CLOCK_REALTIME` nanoseconds before it, which is the clock of the audit records.
    pub begun_ns: u64,
    /// The same after it.
    pub ended_ns: u64,
}

/// [`Outcome::evidence`] of an attempt that neither succeeded nor was refused within its limit.
pub const LATE: &str = "nothing came of it in time";

/// Errors of an attempt that was made wrongly, or that a machine in need ended: nobody refused it.
const NO_REFUSAL: [&str; 4] = ["EBADF", "EFAULT", "EINTR", "EIO"];

impl Outcome {
    /// It was stopped: by an error that is a refusal, by a signal, or by a program's own refusal; not
    /// merely slow, nor for a reason of its own.
    pub fn refused(&self) -> bool {
        let failed = self.errno.as_ref().is_some_and(|e| NO_REFUSAL.contains(&e.as_str()));
        !self.ok && self.evidence != LATE && !failed
    }

    /// A few words: the error's symbol, the signal, or what was got.
    pub fn short(&self) -> String {
        match (&self.errno, self.signal) {
            (Some(errno), _) => errno.clone(),
            (None, Some(signal)) => format!("signal {signal}"),
            (None, None) => self.evidence.clone(),
        }
    }
}

/// What `coconut-probe hold` prints: first that it holds, then when it was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Held {
    /// `file`, `mmap` or `socket`.
    pub held: String,
    /// `holding`, `refused` or `gave-up`.
    pub event: String,
    /// `CLOCK_BOOTTIME` nanoseconds of this event.
    pub at_ns: u64,
    /// `CLOCK_BOOTTIME` nanoseconds just after the last use that worked.
    pub last_ok_ns: u64,
    /// Uses that worked.
    pub uses: u64,
    /// Symbol of the error that ended it.
    pub errno: Option<String>,
}

/// What `coconut-probe victim` prints once: where its secret lies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Victim {
    /// Its process id, as it sees itself.
    pub pid: i32,
    /// Address of the secret in its memory.
    pub address: usize,
    /// Bytes of the secret.
    pub length: usize,
    /// Descriptor that is open on a file with the secret.
    pub fd: i32,
}

/// Symbol of an error number, such as `EACCES`; the number itself for those nobody meets here.
pub fn errno_name(code: i32) -> String {
    const NAMES: &[(i32, &str)] = &[
        (libc::EPERM, "EPERM"),
        (libc::ENOENT, "ENOENT"),
        (libc::ESRCH, "ESRCH"),
        (libc::EINTR, "EINTR"),
        (libc::EIO, "EIO"),
        (libc::ENOEXEC, "ENOEXEC"),
        (libc::EBADF, "EBADF"),
        (libc::ECHILD, "ECHILD"),
        (libc::EAGAIN, "EAGAIN"),
        (libc::ENOMEM, "ENOMEM"),
        (libc::EACCES, "EACCES"),
        (libc::EFAULT, "EFAULT"),
        (libc::EBUSY, "EBUSY"),
        (libc::EEXIST, "EEXIST"),
        (libc::EXDEV, "EXDEV"),
        (libc::ENODEV, "ENODEV"),
        (libc::ENOTDIR, "ENOTDIR"),
        (libc::EINVAL, "EINVAL"),
        (libc::ENOTTY, "ENOTTY"),
        (libc::EFBIG, "EFBIG"),
        (libc::ESPIPE, "ESPIPE"),
        (libc::EROFS, "EROFS"),
        (libc::EPIPE, "EPIPE"),
        (libc::ENOSYS, "ENOSYS"),
        (libc::ENOKEY, "ENOKEY"),
        (libc::ENOTSUP, "ENOTSUP"),
        (libc::EADDRINUSE, "EADDRINUSE"),
        (libc::EAFNOSUPPORT, "EAFNOSUPPORT"),
        (libc::ECONNREFUSED, "ECONNREFUSED"),
        (libc::ECONNRESET, "ECONNRESET"),
        (libc::ENETUNREACH, "ENETUNREACH"),
        (libc::EHOSTUNREACH, "EHOSTUNREACH"),
        (libc::ETIMEDOUT, "ETIMEDOUT"),
        (libc::EINPROGRESS, "EINPROGRESS"),
    ];
    let known = NAMES.iter().find(|(number, _)| *number == code);
    known.map_or_else(|| code.to_string(), |(_, name)| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_the_names_people_know() {
        assert_eq!(errno_name(13), "EACCES");
        assert_eq!(errno_name(1), "EPERM");
        assert_eq!(errno_name(4095), "4095");
    }

    #[test]
    fn an_attempt_that_failed_by_itself_was_not_refused() {
        let ended = |errno: &str| Outcome {
            attempt: "open".into(),
            target: String::new(),
            ok: false,
            errno: Some(errno.into()),
            signal: None,
            evidence: String::new(),
            begun_ns: 0,
            ended_ns: 0,
        };
        assert!(ended("EACCES").refused() && ended("ENOENT").refused());
        assert!(NO_REFUSAL.iter().all(|errno| !ended(errno).refused()));
    }
}
