//! Hands this process's own standard descriptors to coconutd, for a foreground agent.

use crate::failure::Failure;
use api::ErrorCode;
use api::agent::Stdio;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use rustix::termios::isatty;
use std::io::{IoSlice, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use uuid::Uuid;

/// The descriptors stay lent as long as this lives: when it goes, coconutd ends the agent.
pub struct Lent {
    _connection: UnixStream,
    /// What the spawn request names.
    pub stdio: Stdio,
}

/// The stdio socket beside the API's.
fn beside(api_socket: &Path) -> PathBuf {
    let standard = Path::new(api::STDIO_SOCKET);
    standard.file_name().map_or(standard.to_owned(), |name| api_socket.with_file_name(name))
}

/// Sends descriptors 0, 1 and 2 with a fresh token and waits until coconutd has them; `terminal` in place of those
/// that are one.
pub fn lend(api_socket: &Path, terminal: Option<&OwnedFd>) -> Result<Lent, Failure> {
    let socket = beside(api_socket);
    let token = Uuid::new_v4();
    let unreachable = |source| {
        Failure::from(api::client::ClientError::Unreachable { socket: socket.clone(), source })
    };
    let mut connection = UnixStream::connect(&socket).map_err(unreachable)?;
    let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    let own = [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()];
    let descriptors = own.map(|fd| match terminal {
        Some(terminal) if isatty(fd) => terminal.as_fd(),
        _ => fd,
    });
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&descriptors));
    sendmsg(&connection, &[IoSlice::new(token.as_bytes())], &mut control, SendFlags::NOSIGNAL)
        .map_err(|e| anyhow::Error::new(e).context("cannot hand over stdin, stdout and stderr"))?;
    let mut taken = [0u8; 1];
    connection.read_exact(&mut taken).map_err(|e| {
        anyhow::Error::new(e).context("coconutd did not take stdin, stdout and stderr")
    })?;
    if taken == [0] {
        return Err(refused(connection));
    }
    Ok(Lent { _connection: connection, stdio: Stdio { token } })
}

/// Why they were not taken, as coconutd says it.
fn refused(connection: UnixStream) -> Failure {
    const LONGEST: u64 = 512;
    let mut why = String::new();
    let _ = connection.take(LONGEST).read_to_string(&mut why);
    Failure::new(
        ErrorCode::Denied,
        format!("coconutd did not take stdin, stdout and stderr: {why}"),
    )
    .hint("for a child of an agent: … </dev/null 2>&1 | cat")
}
