//! Agents whose rows say less than what was decided of them, because a write to the registry failed. They are noted in
//! a file in memory that the service manager keeps open, and which needs no room on any disk; the next daemon ends them,
//! for what they may do is not known to it. Nobody gets a right back that way that was taken away.

use abi::AgentId;
use rustix::fs::{MemfdFlags, memfd_create};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Who is noted, and why.
pub(super) struct Stale {
    /// Their ids, eight bytes each, the lowest first.
    file: File,
    agents: BTreeSet<AgentId>,
    why: Option<String>,
}

impl Stale {
    /// What it is kept under.
    pub const NAME: &'static str = "unwritten";

    /// Nobody yet.
    ///
    /// # Errors
    /// When there is no memory for the file.
    pub fn new() -> std::io::Result<Stale> {
        let file = File::from(memfd_create("coconut-unwritten", MemfdFlags::CLOEXEC)?);
        Ok(Stale { file, agents: BTreeSet::new(), why: None })
    }

    /// What an earlier daemon has noted.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn taken_up(kept: OwnedFd) -> std::io::Result<Stale> {
        let (mut file, mut bytes) = (File::from(kept), Vec::new());
        file.seek(SeekFrom::Start(0))?;
        file.read_to_end(&mut bytes)?;
        let ids = bytes.as_chunks::<8>().0;
        file.seek(SeekFrom::Start(8 * ids.len() as u64))?;
        let agents = ids.iter().map(|id| AgentId(u64::from_le_bytes(*id))).collect();
        Ok(Stale { file, agents, why: None })
    }

    /// To be kept open.
    pub fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Whether it is noted.
    pub fn has(&self, agent: AgentId) -> bool {
        self.agents.contains(&agent)
    }

    /// Why nothing can be written now.
    pub const fn why(&self) -> Option<&String> {
        self.why.as_ref()
    }

    /// What was decided of these is not written. True where what was before is.
    pub fn failed(&mut self, agents: impl IntoIterator<Item = AgentId>, why: String) -> bool {
        for agent in agents {
            if self.agents.insert(agent)
                && let Err(error) = self.file.write_all(&agent.0.to_le_bytes())
            {
                tracing::error!(?agent, %error, "the next daemon will not know that its row is old");
            }
        }
        self.why.replace(why).is_none()
    }

    /// Everything is written. True where something was not.
    pub fn written(&mut self) -> bool {
        if !std::mem::take(&mut self.agents).is_empty() {
            let emptied = self.file.set_len(0).and_then(|()| self.file.rewind());
            if let Err(error) = emptied {
                tracing::error!(%error, "the next daemon will end agents whose rows are true");
            }
        }
        self.why.take().is_some()
    }
}
