//! The process at the other end of a UNIX socket.

use std::io;
use tokio::net::UnixStream;
use uuid::Uuid;

/// A peer's credentials at the time that it connected.
#[derive(Clone, Debug)]
pub struct UnixPeer {
    /// Its user.
    pub uid: u32,
    /// Its process; 0 where the system does not say.
    pub pid: i32,
    #[cfg(target_os = "linux")]
    pidfd: Option<std::sync::Arc<std::os::fd::OwnedFd>>,
}

/// Where agents' cgroups are, below the cgroup root.
#[cfg(target_os = "linux")]
const AGENTS: &str = "/coconut.slice/";

impl UnixPeer {
    /// Reads the peer's credentials.
    pub fn of(stream: &UnixStream) -> io::Result<Self> {
        let credentials = stream.peer_cred()?;
        Ok(Self {
            uid: credentials.uid(),
            pid: credentials.pid().unwrap_or(0),
            #[cfg(target_os = "linux")]
            pidfd: nix::sys::socket::getsockopt(stream, nix::sys::socket::sockopt::PeerPidfd)
                .ok()
                .map(Into::into),
        })
    }

    /// The agent that the peer belongs to, by its cgroup; None for a process that is no agent.
    ///
    /// The pidfd pins the process: its number cannot have been given to another while we read.
    #[cfg(target_os = "linux")]
    pub fn agent(&self) -> io::Result<Option<Uuid>> {
        use std::os::fd::AsRawFd;
        let fd = self.pidfd.as_ref().ok_or_else(|| {
            io::Error::new(io::ErrorKind::Unsupported, "the kernel gives no pidfd of the peer")
        })?;
        let pid = pid_of(fd.as_raw_fd())?;
        let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
        // Still there after the read: then it was there during the read.
        pid_of(fd.as_raw_fd())?;
        agent_in(&groups)
    }

    /// Agents exist on Linux only.
    #[cfg(not(target_os = "linux"))]
    pub fn agent(&self) -> io::Result<Option<Uuid>> {
        Ok(None)
    }
}

#[cfg(target_os = "linux")]
fn pid_of(pidfd: i32) -> io::Result<i32> {
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{pidfd}"))?;
    let pid = info.lines().find_map(|l| l.strip_prefix("Pid:")).and_then(|p| p.trim().parse().ok());
    pid.filter(|p| *p > 0)
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the calling process has ended"))
}

#[cfg(target_os = "linux")]
fn agent_in(groups: &str) -> io::Result<Option<Uuid>> {
    let path = groups.lines().find_map(|l| l.strip_prefix("0::")).unwrap_or_default();
    let Some(below) = path.strip_prefix(AGENTS) else { return Ok(None) };
    let odd = || io::Error::other(format!("its cgroup {path} names no agent"));
    let name = below.split('/').nth(1).ok_or_else(odd)?;
    Uuid::parse_str(name).map(Some).map_err(|_| odd())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[tokio::test]
    async fn this_process_is_no_agent() {
        let (a, _b) = UnixStream::pair().unwrap();
        let peer = UnixPeer::of(&a).unwrap();
        assert_eq!(peer.pid, std::process::id().cast_signed());
        assert_eq!(peer.agent().unwrap(), None);
    }

    #[test]
    fn a_cgroup_names_its_agent() {
        let id = "0198c0de-0000-7000-8000-000000000001";
        let of = |path: &str| agent_in(&format!("0::{path}\n"));
        assert_eq!(of(&format!("/coconut.slice/maya/{id}")).unwrap().unwrap().to_string(), id);
        assert_eq!(of(&format!("/coconut.slice/maya/{id}/sub")).unwrap().unwrap().to_string(), id);
        assert_eq!(of("/system.slice/x.service").unwrap(), None);
        assert!(of("/coconut.slice/maya").is_err());
        assert!(of("/coconut.slice/maya/other").is_err());
    }
}
