//! The command line; speaks api.
//!
//! [`cli`] is the grammar, [`command`] does, [`render`] shows, [`output`] decides between tables
//! and JSON, [`manual`] prints the man page and completions, [`failure`] turns what went wrong into a message, a hint and an exit code.

mod cli;
mod command;
mod failure;
mod manual;
mod output;
mod render;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    let json = cli.json;
    match command::dispatch(cli) {
        Ok(status) => ExitCode::from(status),
        Err(failure) => {
            output::complain(&failure, json);
            ExitCode::from(failure.code.exit_code())
        }
    }
}
