//! What the next daemon needs to know: agents, the sets that they hold, weights and sums, in a database that lies
//! in memory and lives as long as the kernel state that it describes.
//!
//! [`rows`] is what lies in it, [`owed`] what the log does not have yet, [`save`] looks for what has changed, [`books`] write
//! it, [`stale`] notes of whom something could not be written, [`restore`] takes it up, its sets by [`sets`]. [`files`] are
//! kept open while there is no daemon, by the [`keeper`].

mod books;
mod files;
pub mod keeper;
mod owed;
pub mod restore;
mod rows;
mod save;
mod sets;
mod stale;

use abi::AgentId;
use anyhow::{Context, bail};
use books::Books;
use keeper::Keeper;
use rusqlite::Connection;
use rusqlite::config::DbConfig;
pub use save::Tenants;
use stale::Stale;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The format of the tables. Bodies are JSON, whose readers skip what they do not know.
const VERSION: i64 = 1;

const TABLES: &str = "
    CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT;
    CREATE TABLE agents (aid INTEGER PRIMARY KEY, body TEXT NOT NULL) STRICT;
    CREATE TABLE sets (key INTEGER PRIMARY KEY, body TEXT NOT NULL) STRICT;
    CREATE TABLE tenants (name TEXT PRIMARY KEY, body TEXT NOT NULL) STRICT;
";

/// What came later; a daemon that does not know it leaves it alone.
const LATER: &str = "
    CREATE TABLE IF NOT EXISTS owed (number INTEGER PRIMARY KEY, behind INTEGER NOT NULL,
        entries BLOB NOT NULL) STRICT;
    CREATE TABLE IF NOT EXISTS journals (id TEXT PRIMARY KEY, through INTEGER NOT NULL) STRICT;
";

/// The registry.
pub struct Registry {
    open: Mutex<Open>,
    keeper: Arc<dyn Keeper>,
}

/// What is kept open of an agent, beside the files that its rights stand on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Line {
    /// The reading end of its output.
    Output,
    /// The connection of whoever lent it a terminal.
    Leash,
}

impl Line {
    const ALL: [Line; 2] = [Line::Output, Line::Leash];

    const fn letter(self) -> char {
        match self {
            Line::Output => 'o',
            Line::Leash => 'l',
        }
    }

    /// What it is kept under.
    fn name(self, agent: AgentId) -> String {
        format!("{}{:x}.{:x}", self.letter(), agent.slot(), agent.generation())
    }

    /// Whether something is kept under such a name.
    fn is_one(name: &str) -> bool {
        name.contains('.') && Line::ALL.iter().any(|line| name.starts_with(line.letter()))
    }
}

struct Open {
    database: Connection,
    books: Books,
    stale: Stale,
}

/// Does something to the registry's connection.
pub type Through = Box<dyn FnOnce(&Connection) + Send>;

impl Registry {
    /// Where it lies below `folder`.
    pub fn folder(folder: &Path) -> PathBuf {
        folder.join("registry")
    }

    /// Opens the registry below `folder`; `fresh` throws away what lies there, which is of agents that are gone.
    ///
    /// # Errors
    /// When it cannot be opened, or is of a version that this daemon does not read.
    pub fn open(folder: &Path, fresh: bool, keeper: Arc<dyn Keeper>) -> anyhow::Result<Self> {
        let folder = Self::folder(folder);
        let mut builder = std::fs::DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder.create(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let path = folder.join("agents.db");
        if fresh {
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("cannot begin {}", path.display()));
                }
                _ => {}
            }
        }
        let database = open(&path).with_context(|| format!("the registry {}", path.display()))?;
        let stale = Stale::new().context("a file in memory for what cannot be written")?;
        let books = Books::default();
        Ok(Registry { open: Mutex::new(Open { database, books, stale }), keeper })
    }

    /// Has something done to the connection, by who looks on.
    pub(crate) fn through(&self, around: Through) {
        around(&self.open_now().database);
    }

    /// What an earlier daemon noted; where there was none, a place for it is kept.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn take_up_stale(&self, kept: Option<OwnedFd>) -> std::io::Result<()> {
        let mut open = self.open_now();
        match kept {
            Some(kept) => open.stale = Stale::taken_up(kept)?,
            None => self.keeper.keep(Stale::NAME, open.stale.file()),
        }
        Ok(())
    }

    /// Why changes cannot be written down for the next daemon now.
    pub fn stuck(&self) -> Option<String> {
        self.open_now().stale.why().cloned()
    }

    fn open_now(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn open(path: &Path) -> anyhow::Result<Connection> {
    let database = Connection::open(path)?;
    // One that ends in order leaves what one leaves that is killed.
    database.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    // A process that is killed within a transaction leaves those before it (a journal in its own memory would not);
    // a power cut ends the agents, too.
    database.execute_batch(
        "PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF;",
    )?;
    let version: i64 = database.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    match version {
        0 => database
            .execute_batch(&format!("BEGIN; {TABLES} PRAGMA user_version = {VERSION}; COMMIT;"))?,
        VERSION => {}
        other => bail!(
            "it has the format {other}, this coconutd reads {VERSION}: start the version that wrote it, or \
             restart the machine, which ends every agent"
        ),
    }
    database.execute_batch(LATER)?;
    Ok(database)
}
