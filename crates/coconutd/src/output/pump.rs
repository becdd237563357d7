//! From an agent's pipe to its files.

use super::shelf::Kept;
use crate::change::blocking;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::pipe::{PipeFlags, pipe_with};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// Bytes of one read: what a pipe holds.
const CHUNK: usize = 64 << 10;
/// Bytes a second that are taken from one agent; one that writes faster waits, as for a slow terminal.
const RATE: u64 = 16 << 20;
/// Most bytes in a pipe (`/proc/sys/fs/pipe-max-size` for the unprivileged).
const PIPE_MAX: u64 = 1 << 20;
const SECOND: Duration = Duration::from_secs(1);

/// The end of an agent's pipe that is ours, and where what comes goes.
pub struct Output {
    pipe: OwnedFd,
    kept: Kept,
}

/// What takes an agent's output as long as it runs.
pub struct Pump {
    over: Arc<Notify>,
    task: JoinHandle<()>,
}

impl Output {
    /// A pipe for standard output and error; the agent's end of it, too.
    ///
    /// # Errors
    /// When there are too many descriptors.
    pub fn new(kept: Kept) -> std::io::Result<(Output, OwnedFd)> {
        let (pipe, theirs) = pipe_with(PipeFlags::CLOEXEC)?;
        fcntl_setfl(&pipe, fcntl_getfl(&pipe)? | OFlags::NONBLOCK)?;
        Ok((Output { pipe, kept }, theirs))
    }

    /// The same of an agent that an earlier daemon started.
    pub fn of(pipe: OwnedFd, kept: Kept) -> Output {
        Output { pipe, kept }
    }

    /// Its end of the pipe.
    pub fn reading(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }

    /// Where it is kept.
    pub fn path(&self) -> std::path::PathBuf {
        self.kept.path()
    }

    /// The agent came to be: what it writes is taken from now on.
    pub fn start(mut self) -> Pump {
        self.kept.stays = true;
        let over = Arc::new(Notify::new());
        let told = over.clone();
        Pump { over, task: tokio::spawn(async move { take(self, &told).await }) }
    }
}

impl Pump {
    /// Nothing of the agent runs any more: returns when all that it wrote is kept. Somebody whom it
    /// handed its pipe to is not waited for.
    pub async fn finish(self) {
        self.over.notify_one();
        if let Err(error) = self.task.await {
            tracing::error!(%error, "an agent's output was not taken to its end");
        }
    }
}

async fn take(output: Output, over: &Notify) {
    let Output { pipe, mut kept } = output;
    // Its successor is `unsafe`, which no crate but `kernel` may be; an `OwnedFd` keeps what that
    // one asks for.
    #[allow(deprecated)]
    let pipe = match AsyncFd::with_interest(pipe, Interest::READABLE) {
        Ok(pipe) => pipe,
        Err(error) => {
            tracing::error!(%error, "an agent's output cannot be taken");
            return;
        }
    };
    let (mut since, mut came) = (Instant::now(), 0);
    loop {
        tokio::select! {
            biased;
            () = over.notified() => break,
            ready = pipe.readable() => {
                let Ok(mut ready) = ready else { return };
                match ready.try_io(|pipe| read(pipe.get_ref(), &mut kept)) {
                    Ok(Ok(0)) => return,
                    Ok(Ok(bytes)) => came += bytes,
                    Ok(Err(error)) => {
                        tracing::error!(%error, "an agent's output cannot be read");
                        return;
                    }
                    Err(_) => continue,
                }
            }
        }
        if since.elapsed() >= SECOND {
            (since, came) = (Instant::now(), 0);
        }
        if came >= RATE {
            tokio::select! {
                biased;
                () = over.notified() => break,
                () = tokio::time::sleep_until(since + SECOND) => {}
            }
        }
    }
    // What the agent left in it; somebody whom it handed its end to may go on writing.
    let mut left = PIPE_MAX;
    while let Ok(bytes @ 1..) = read(pipe.get_ref(), &mut kept) {
        left = left.saturating_sub(bytes);
        if left == 0 {
            return;
        }
    }
}

fn read(pipe: &impl AsFd, kept: &mut Kept) -> std::io::Result<u64> {
    let mut bytes = vec![0; CHUNK];
    let count = rustix::io::read(pipe, &mut bytes)?;
    if count > 0 {
        // It may wait for a disk.
        blocking(|| kept.write(&bytes[..count]));
    }
    Ok(count as u64)
}

#[cfg(test)]
mod tests {
    use super::super::{Limits, Shelf};
    use super::*;
    use std::io::Write;
    use uuid::Uuid;

    #[tokio::test(flavor = "multi_thread")]
    async fn all_that_was_written_is_there_when_it_is_finished() {
        let dir = tempfile::tempdir().unwrap();
        let shelf =
            Shelf::open(dir.path(), Limits { each: 64 << 20, all: 1 << 30, agents: 9 }).unwrap();
        let kept = shelf.keep(Uuid::from_u128(1), "maya").unwrap();
        let (output, theirs) = Output::new(kept).unwrap();
        // A copy that somebody else holds for ever keeps nobody waiting.
        let held = theirs.try_clone().unwrap();
        let pump = output.start();
        let writer = tokio::task::spawn_blocking(move || {
            let mut file = std::fs::File::from(theirs);
            (0..20_000).for_each(|n| writeln!(file, "line {n}").unwrap());
        });
        writer.await.unwrap();
        pump.finish().await;
        let text = std::fs::read_to_string(shelf.newer(Uuid::from_u128(1))).unwrap();
        assert!(text.ends_with("line 19999\n") && text.lines().count() == 20_000);
        drop(held);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn nobody_waits_for_somebody_else_who_writes_on() {
        let dir = tempfile::tempdir().unwrap();
        let shelf =
            Shelf::open(dir.path(), Limits { each: 1 << 20, all: 1 << 30, agents: 9 }).unwrap();
        let (output, theirs) =
            Output::new(shelf.keep(Uuid::from_u128(1), "maya").unwrap()).unwrap();
        let pump = output.start();
        let stranger = std::thread::spawn(move || {
            let mut file = std::fs::File::from(theirs);
            // Until nobody reads any more.
            while file.write_all(&[b'x'; 4096]).is_ok() {}
        });
        tokio::time::sleep(Duration::from_millis(50)).await;
        pump.finish().await;
        stranger.join().unwrap();
        assert!(shelf.bytes() <= 1 << 20);
    }
}
