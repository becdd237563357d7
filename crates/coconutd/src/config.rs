//! Where everything lies. One place, so that a test can have its own.

use crate::callers::Sizes;
use crate::output::Limits;
use std::path::{Path, PathBuf};

/// Paths and names of one daemon.
#[derive(Clone, Debug)]
pub struct Config {
    /// Folder of the sockets.
    pub run: PathBuf,
    /// The audit log.
    pub audit: PathBuf,
    /// Secret keys.
    pub keys: PathBuf,
    /// Output of background agents.
    pub agent_logs: PathBuf,
    /// Profiles that replace or add to the built-in ones.
    pub profiles: PathBuf,
    /// Keys that may sign manifests, in the order in which they are read.
    pub trust: Vec<PathBuf>,
    /// User of agents that root starts.
    pub agent_user: String,
    /// User of the broker.
    pub broker_user: String,
    /// Members may do what root may.
    pub operator_group: String,
    /// Bytes of an agent's private `/tmp`.
    pub tmp_size: u64,
    /// Processes that an agent may have.
    pub pids_max: u64,
    /// Bytes of records that are kept; none is a tenth of the file system, at most 16 GiB.
    pub log_bytes: Option<u64>,
    /// What is kept of agents' output.
    pub output: Limits,
    /// What callers may hold.
    pub sizes: Sizes,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            run: "/run/coconut".into(),
            audit: api::audit::LOG_DIRECTORY.into(),
            keys: "/var/lib/coconut/keys".into(),
            agent_logs: "/var/log/coconut/agents".into(),
            profiles: "/usr/share/coconut/profiles".into(),
            trust: vec!["/usr/share/coconut/trust".into(), "/etc/coconut/trust".into()],
            agent_user: "coconut-agent".into(),
            broker_user: "coconut-broker".into(),
            operator_group: "coconut".into(),
            tmp_size: 256 << 20,
            pids_max: 1024,
            log_bytes: None,
            output: Limits { each: 16 << 20, all: 1 << 30, agents: 65_536 },
            sizes: Sizes::default(),
        }
    }
}

impl Config {
    /// A whole daemon below `root`: for tests.
    pub fn below(root: &Path) -> Self {
        Config {
            run: root.join("run"),
            audit: root.join("audit"),
            keys: root.join("keys"),
            agent_logs: root.join("agents"),
            profiles: root.join("profiles"),
            trust: vec![root.join("trust")],
            ..Config::default()
        }
    }

    /// The API's socket.
    pub fn api_socket(&self) -> PathBuf {
        self.run.join("api.sock")
    }

    /// The socket that takes descriptors.
    pub fn stdio_socket(&self) -> PathBuf {
        self.run.join("stdio.sock")
    }

    /// A folder that only operators enter: its sockets are the same, with queues of their own.
    pub fn operators(&self) -> PathBuf {
        self.run.join(api::OPERATORS)
    }

    /// The operators' own of one of the sockets.
    pub fn operator_socket(&self, socket: &Path) -> PathBuf {
        self.operators().join(socket.file_name().unwrap_or_default())
    }

    /// The broker's socket.
    pub fn broker_socket(&self) -> PathBuf {
        self.run.join("broker.sock")
    }
}
