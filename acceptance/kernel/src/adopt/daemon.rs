//! A daemon that does what it is told over its standard input, and can end at any time; and who starts it.
#![allow(unsafe_code)]

use super::{GRACE, tricks};
use crate::world::{OWN, SELF};
use crate::{actor, ops};
use abi::event::Event;
use abi::{AgentId, AgentState, Capability};
use anyhow::{Context, Result};
use kernel::{
    EventReader, Footing, Found, Kernel, KernelRule, KernelScope, Launch, LoadOptions, NewAgent,
    SetId, Standing, Waiting,
};
use std::collections::HashMap;
use std::ffi::OsString;
use std::io::Write;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// Where events go, a line each, as into a log.
pub const LOG: &str = "/data/out/log";

/// What an agent of these tests may read.
const READS: &str = "/data/ok";

struct Daemon {
    kernel: Arc<Kernel>,
    reader: EventReader,
    sets: HashMap<AgentId, Vec<SetId>>,
}

/// Runs until the wire is closed or it is told to end.
pub fn serve() {
    let mut daemon = None;
    actor::serve(|line, wire| {
        let words: Vec<&str> = line.split(' ').collect();
        let done = match words[0] {
            "take-fd" | "bpf" | "open" | "mmap" => Ok(ops::act(line, wire)),
            "die" => std::process::abort(),
            "start" => start(&words).map(|started| {
                let adopted = started.kernel.adopted();
                daemon = Some(started);
                i64::from(adopted)
            }),
            _ => daemon.as_mut().context("it was not started").and_then(|d| d.act(&words)),
        };
        done.unwrap_or_else(|error| {
            println!("note: {line}: {error:#}");
            -1
        })
    });
}

fn start(words: &[&str]) -> Result<Daemon> {
    let grace = words.get(1).and_then(|ms| ms.parse().ok()).map_or(GRACE, Duration::from_millis);
    let mut options = LoadOptions { ring_bytes: 1 << 20, grace, ..LoadOptions::default() };
    if let Some(layout) = words.get(2).and_then(|layout| layout.parse().ok()) {
        options.layout = layout;
    }
    let kernel = Arc::new(Kernel::start(&options)?);
    let reader = kernel.events()?;
    kernel.seal()?;
    Ok(Daemon { kernel, reader, sets: HashMap::new() })
}

impl Daemon {
    fn act(&mut self, words: &[&str]) -> Result<i64> {
        let number = |i: usize| words.get(i).and_then(|w| w.parse::<i64>().ok()).unwrap_or(0);
        let aid = AgentId::new(number(1) as u32, 1);
        Ok(match words[0] {
            "agent" => self.agent(aid, number(2) as i32)?,
            "adopt" => self.adopt(aid)?,
            "done" => self.kernel.adoption_done()?.len() as i64,
            "sets" => self.kernel.sets() as i64,
            "assign-none" => {
                let base = self.base()?;
                i64::from(self.kernel.assign(aid, &[base])? == kernel::Remains::Mapped)
            }
            "denials" => self.kernel.counters(aid)?.denials as i64,
            "uses" => self.kernel.counters(aid)?.uses as i64,
            "exit-of" => match self.kernel.exit_of(aid)? {
                None => -2,
                Some(exited) => i64::from(exited.status.unwrap_or(-3)),
            },
            "signal-of" => {
                i64::from(self.kernel.exit_of(aid)?.and_then(|exited| exited.signal).unwrap_or(-3))
            }
            "kill" => {
                self.kernel.kill(aid)?;
                0
            }
            "remove" => {
                while self.kernel.populated(aid)? {
                    std::thread::sleep(Duration::from_millis(2));
                }
                self.kernel.remove_agent(aid)?;
                0
            }
            // As one that ends between reading and writing.
            "read" => self.read(|_, _| Ok(()))? as i64,
            "waiting" => self.reader.waiting(0).values().map(|c| (c.denials + c.uses) as i64).sum(),
            "log" => {
                let mut log = std::fs::OpenOptions::new().append(true).create(true).open(LOG)?;
                let count = self.read(|event, _| {
                    let Event { kind, aid, hook, wanted, cpu, sequence, .. } = event;
                    writeln!(log, "{kind} {aid} {hook} {wanted} {cpu} {sequence}")
                })?;
                self.reader.release(self.reader.position());
                count as i64
            }
            "lost" => self.reader.lost()? as i64,
            "unload" => {
                self.kernel.unload()?;
                0
            }
            other => anyhow::bail!("no such order: {other}"),
        })
    }

    fn read(&mut self, mut each: impl FnMut(&Event, u64) -> std::io::Result<()>) -> Result<usize> {
        let mut failed = None;
        let count = self.reader.poll(Duration::ZERO, |event, at| {
            if let Err(error) = each(event, at) {
                failed = Some(error);
            }
        })?;
        failed.map_or(Ok(count), |error| Err(error.into()))
    }

    fn set(&self, capability: Capability, paths: &[&str]) -> Result<SetId> {
        let mut rules = Vec::new();
        for path in paths.iter().filter(|path| std::path::Path::new(path).exists()) {
            let mut options = std::fs::OpenOptions::new();
            let open = options.read(true).custom_flags(libc::O_PATH).open(path)?;
            let scope = KernelScope::File(Arc::new(self.kernel.handle(open.into())?));
            rules.push(KernelRule { capability, scope, expires_ns: 0, code: false, uses: None });
        }
        Ok(self.kernel.make_set(&rules)?)
    }

    fn base(&self) -> Result<SetId> {
        self.set(Capability::FsExec, &[SELF, "/lib", "/lib64"])
    }

    fn own_sets(&mut self, aid: AgentId) -> Result<Vec<SetId>> {
        let sets = vec![self.set(Capability::FsRead, &[READS])?, self.base()?];
        self.sets.insert(aid, sets.clone());
        Ok(sets)
    }

    /// An agent whose program is an actor at the other end of a socket; returns its process.
    fn agent(&mut self, aid: AgentId, wire: i32) -> Result<i64> {
        let sets = self.own_sets(aid)?;
        let new = NewAgent {
            aid,
            agent: Uuid::from_u128(u128::from(aid.slot())),
            parent: AgentId::NOBODY,
            tenant: "adopt".to_owned(),
            weight: 100,
            ram_max: None,
            swap_max: None,
            pids_max: Some(64),
            may_spawn: false,
            strict: false,
            namespaces: OWN,
        };
        self.kernel.create_agent(&new, &sets)?;
        self.kernel.set_state(aid, AgentState::Active)?;
        let null = || std::fs::OpenOptions::new().write(true).open("/dev/null");
        let launch = Launch {
            program: std::fs::File::open(SELF)?.into(),
            interpreter: None,
            argv: vec![OsString::from(SELF), OsString::from("actor")],
            env: Vec::new(),
            cwd: PathBuf::from("/"),
            uid: 0,
            gid: 0,
            groups: Vec::new(),
            // SAFETY: it was taken over the wire, and nobody else has it.
            stdio: [unsafe { OwnedFd::from_raw_fd(wire) }, null()?.into(), null()?.into()],
        };
        let process = self.kernel.prepare(aid, launch).and_then(Waiting::go)?;
        self.keep(aid)?;
        Ok(process.pid.into())
    }

    /// For the next daemon, as a registry would.
    fn keep(&self, aid: AgentId) -> Result<()> {
        let footing = self.kernel.footing(aid)?;
        let mut text = format!("{}\n", footing.folder.display());
        for (file, rights) in footing.private {
            text += &format!("{} {} {rights}\n", file.dev, file.ino);
        }
        Ok(std::fs::write(format!("/data/out/footing-{}", aid.slot()), text)?)
    }

    /// 1 for one that runs, 2 for one that has ended, 0 for nothing.
    fn adopt(&mut self, aid: AgentId) -> Result<i64> {
        let text = std::fs::read_to_string(format!("/data/out/footing-{}", aid.slot()))?;
        let mut lines = text.lines();
        let folder = PathBuf::from(lines.next().unwrap_or_default());
        let private = lines.filter_map(|line| {
            let mut numbers = line.split(' ').filter_map(|word| word.parse::<u64>().ok());
            let (dev, ino) = (numbers.next()?, numbers.next()?);
            Some((abi::caps::FileKey { dev, ino }, numbers.next()? as u32))
        });
        let footing = Footing { folder, private: private.collect(), handles: Vec::new() };
        let standing = Standing {
            aid,
            agent: Uuid::from_u128(u128::from(aid.slot())),
            tenant: "adopt".to_owned(),
            namespaces: OWN,
            pid: None,
            footing,
        };
        let sets = self.own_sets(aid)?;
        Ok(match self.kernel.adopt_agent(&standing, &sets)? {
            Found::Running(_) => 1,
            Found::Ended(_) => 2,
            Found::Gone => 0,
        })
    }
}

/// Is left by its parent, so that it is PID 1's child, does something to itself, and becomes the daemon.
pub fn orphan(trick: &str, program: &str) -> Result<()> {
    // SAFETY: single-threaded; the parent only ends.
    if unsafe { libc::fork() } != 0 {
        return Ok(());
    }
    while std::os::unix::process::parent_id() != 1 {
        std::thread::sleep(Duration::from_millis(1));
    }
    let mut command = std::process::Command::new(program);
    command.arg("daemon").env_clear();
    tricks::play(trick, &mut command)?;
    Err(std::os::unix::process::CommandExt::exec(&mut command).into())
}
