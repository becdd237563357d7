//! What the daemon looks up, writes and has kept: each a step.

use super::Fake;
use coconutd::port::{Lookup, Machine, Resolved};
use coconutd::registry::keeper::Keeper;
use coconutd::sink::AuditLog;
use futures_util::future::BoxFuture;
use manifest::AbsPath;
use record::Entry;
use resolve::programs::{Program, ProgramError};
use resolve::targets::{Absent, RuleError};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

/// Keeps files as the service manager does.
pub struct Store(pub Arc<Fake>, pub u64);

impl Keeper for Store {
    fn keep(&self, name: &str, file: BorrowedFd<'_>) {
        self.0.life.go_on(self.1, "keep");
        let copy = file.try_clone_to_owned().unwrap();
        if self.0.kept.lock().unwrap().insert(name.to_owned(), copy).is_some() {
            self.0.wrong.lock().unwrap().push(format!("{name} is kept twice"));
        }
    }
    fn forget(&self, name: &str) {
        self.0.life.go_on(self.1, "forget");
        if self.0.kept.lock().unwrap().remove(name).is_none() {
            self.0.wrong.lock().unwrap().push(format!("{name} is forgotten and was not kept"));
        }
    }
    fn kept(&self) -> Vec<(String, OwnedFd)> {
        let kept = self.0.kept.lock().unwrap();
        kept.iter().map(|(name, fd)| (name.clone(), fd.try_clone().unwrap())).collect()
    }
}

/// Look-ups on this machine, each a step.
pub struct Stepped {
    pub fake: Arc<Fake>,
    pub number: u64,
    pub machine: Machine,
}

impl Lookup for Stepped {
    fn rules<'a>(
        &'a self,
        tenant: &'a str,
        rules: &'a [(manifest::Rule, Absent)],
    ) -> BoxFuture<'a, std::result::Result<Vec<Resolved>, RuleError>> {
        Box::pin(async move {
            let found = self.machine.rules(tenant, rules).await?;
            self.fake.life.go_on(self.number, "look up rules");
            match tokio::task::block_in_place(|| self.fake.fails("look up rules")) {
                true => Err(RuleError::Stopped),
                false => Ok(found),
            }
        })
    }

    fn program<'a>(
        &'a self,
        path: &'a AbsPath,
    ) -> BoxFuture<'a, std::result::Result<Program, ProgramError>> {
        Box::pin(async move {
            let found = self.machine.program(path).await?;
            self.fake.life.go_on(self.number, "open the program");
            match tokio::task::block_in_place(|| self.fake.fails("open the program")) {
                true => Err(ProgramError::Busy(path.clone())),
                false => Ok(found),
            }
        })
    }
}

/// The log, each write a step. It cannot fail for good: the writer tries until it is done.
pub struct Logged {
    pub fake: Arc<Fake>,
    pub number: u64,
    pub log: Box<dyn AuditLog>,
}

impl AuditLog for Logged {
    fn append(&mut self, entries: &[Entry]) -> anyhow::Result<u64> {
        self.fake.life.go_on(self.number, "append to the log");
        match self.fake.fails("append to the log") {
            true => anyhow::bail!("no space left on device"),
            false => self.log.append(entries),
        }
    }
    fn checkpoint(&mut self) -> anyhow::Result<()> {
        self.fake.life.go_on(self.number, "sign a checkpoint");
        self.log.checkpoint()
    }
    fn note(&self) -> String {
        self.log.note()
    }
    fn close(&mut self) -> anyhow::Result<()> {
        self.log.close()
    }
    fn news(&mut self) -> Option<Entry> {
        self.log.news()
    }
}
