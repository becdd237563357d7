//! `coconut-probe`: does one hostile thing at a time and prints a JSON line for each.
//!
//! Inside an agent every line should say `"ok":false`; the same command outside, as an ordinary
//! process of the same user, is the control and shows the harm.
#![allow(unsafe_code)] // an attack tool: it makes the calls that safe crates do not offer

mod attempts;
mod hold;
mod sys;
mod victim;

use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "coconut-probe", version, about, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Every attempt: its name, its argument and what it wants
    List,
    /// Make attempts, one after another: `open=/etc/shadow signal=1`
    Try {
        /// NAME or NAME=ARGUMENT; several arguments are separated by commas.
        #[arg(required = true)]
        attempts: Vec<String>,
        /// Seconds that one attempt may take.
        #[arg(long, default_value_t = 300)]
        limit: u64,
        /// Wait for this file to be readable or this many seconds, then begin.
        #[arg(long)]
        pause: Option<u64>,
        /// Call the process of each attempt by its number and name, as its records will show.
        #[arg(long)]
        label: bool,
    },
    /// Hold a secret in memory, in the environment and in an open file until told to end
    Victim {
        /// The secret.
        #[arg(long)]
        secret: String,
        /// A file of its own to keep open.
        #[arg(long)]
        file: PathBuf,
        /// Put the secret into the user's keyring under this name.
        #[arg(long)]
        key: Option<String>,
        /// Put it into shared memory, queues and files under names made of this number.
        #[arg(long)]
        ipc: Option<i32>,
    },
    /// Use something in a loop until it is refused, and say when that was
    Hold(hold::Hold),
    /// Only wait to be ended
    Sleep {
        /// Seconds.
        #[arg(default_value_t = 3600)]
        seconds: u64,
    },
    /// Exit with this status
    Exit {
        /// The status.
        status: u8,
    },
    /// Print user and group ids and open descriptors, as JSON
    Whoami,
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("coconut-probe: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::List => attempts::list(),
        Command::Try { attempts, limit, pause, label } => {
            if let Some(seconds) = pause {
                std::thread::sleep(std::time::Duration::from_secs(seconds));
            }
            attempts::try_all(&attempts, std::time::Duration::from_secs(limit), label)?;
        }
        Command::Victim { secret, file, key, ipc } => {
            victim::wait(&secret, &file, key.as_deref(), ipc)?;
        }
        Command::Hold(hold) => return hold.run(),
        Command::Sleep { seconds } => {
            println!("{{\"pid\":{}}}", std::process::id());
            std::thread::sleep(std::time::Duration::from_secs(seconds));
        }
        Command::Exit { status } => return Ok(ExitCode::from(status)),
        Command::Whoami => victim::whoami(),
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints one JSON line at once: the reader waits for it.
fn say<T: serde::Serialize>(line: &T) -> anyhow::Result<()> {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    serde_json::to_writer(&mut out, line)?;
    out.write_all(b"\n")?;
    Ok(out.flush()?)
}
