//! Techniques on other processes: by number, and by a pidfd that leaked.

use super::{By, Technique, root, theft, user};

/// The number means nobody in an agent's own PID namespace.
pub const NOBODY: &str = "the number is nobody's in its PID namespace";

/// It is held, and lies outside of that namespace.
pub const ELSEWHERE: &str = "a pidfd of another PID namespace tells and does nothing";

pub const TECHNIQUES: &[Technique] = &[
    user("tgkill", "{pid}", "signal its thread").linux(NOBODY),
    user("sigqueue", "{pid}", "signal it with a value").linux(NOBODY),
    user("signal-all", "", "signal all of its user").linux(NOBODY),
    user("own-sigio", "{pid}", "have the kernel signal it").linux(NOBODY),
    user("own-sigio-ex", "{pid}", "… by F_SETOWN_EX").linux(NOBODY),
    user("pidfd-open", "{pid}", "hold it by a pidfd").linux(NOBODY),
    user("kcmp", "{pid}", "compare it with itself").linux(NOBODY),
    user("affinity", "{pid}", "put it on one processor").linux(NOBODY),
    user("scheduler", "{pid}", "have it run behind others").linux(NOBODY),
    user("ioprio", "{pid}", "have it read behind others").linux(NOBODY),
    user("nice-other", "{pid}", "make it nice").linux(NOBODY),
    user("move-pages", "{pid}", "ask where its memory is").linux(NOBODY),
    user("robust-list", "{pid}", "learn an address in it").linux(NOBODY),
    user("getsid", "{pid}", "learn its session").linux(NOBODY),
    user("proc-status", "{pid}", "read of its memory").linux(NOBODY),
    user("proc-maps", "{pid}", "read its map").linux(NOBODY),
    theft("open", "/proc/{pid}/root{theirs}/secret.txt", "read by its root").linux(NOBODY),
    theft("open", "/proc/{pid}/cwd{theirs}/secret.txt", "read by its working directory")
        .linux(NOBODY),
    user("leaked-info", "0", "learn who is behind a leaked pidfd").linux(ELSEWHERE),
    user("leaked-netns", "0", "hold a namespace of its"),
    root("leaked-madvise", "0", "have its memory put away").by(By::Twice(
        "whose memory is not one's own is asked about twice: by tracing, and by CAP_PERFMON",
    )),
];
