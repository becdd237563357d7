//! What `coconut demo` is made of: it drives the `coconut` command line as a user would, and puts
//! beside every check its control, the same thing done without Coconut.
//!
//! The acceptance suite uses the same parts, so that a demonstration and a test never differ.

pub mod agent;
pub mod attacks;
pub mod audit;
pub mod coconut;
pub mod control;
pub mod dream_team;
pub mod fairness;
pub mod hostile;
pub mod isolation;
pub mod latency;
pub mod limits;
pub mod lines;
pub mod load;
pub mod plain_log;
pub mod progress;
pub mod report;
pub mod revocation;
pub mod scene;
pub mod statistics;
pub mod tamper;
pub mod turned;

use std::path::PathBuf;

/// What every demonstration is given.
pub struct Context {
    /// The command line under test.
    pub coconut: coconut::Coconut,
    /// The hostile program.
    pub probe: PathBuf,
    /// Where scenes are set; removed afterwards.
    pub work: PathBuf,
    /// Where reports and evidence go.
    pub out: PathBuf,
    /// Where progress goes.
    pub say: report::Say,
}

impl Context {
    /// The probe as an argument of a command.
    pub fn probe_arg(&self) -> String {
        self.probe.display().to_string()
    }

    /// A name that no other run uses, so that an agent can be named by it.
    pub fn unique(&self, what: &str) -> String {
        use std::sync::atomic::{AtomicU32, Ordering};
        static NEXT: AtomicU32 = AtomicU32::new(1);
        format!("{what}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// For tests: an agent that ended clean.
#[cfg(test)]
fn ended_agent(name: &str, command: &[&str]) -> api::agent::Agent {
    api::agent::Agent {
        aid: uuid::Uuid::now_v7(),
        name: name.into(),
        tenant: "t".into(),
        parent: None,
        state: abi::AgentState::TerminatedClean,
        pid: None,
        uid: 1,
        owner: 0,
        command: command.iter().map(ToString::to_string).collect(),
        weight: 100,
        started_ns: 0,
        ended_ns: None,
        exit: None,
        denials: 0,
        uses: 0,
    }
}
