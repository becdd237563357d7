//! What `./x` runs: the tools, the packages, the image, the VM, the tests and the benchmarks of Coconut OS.

mod accel;
mod bench;
mod build;
mod channels;
mod checks;
mod cli;
mod context;
mod demo;
mod disk;
mod family;
mod fuzz;
mod host;
mod kernel;
mod key;
mod life;
mod packages;
mod prepare;
mod python;
mod quiet;
mod run;
mod sandbox;
mod source;
mod test;
mod tools;
mod tree;
mod ui;
mod vm;

use std::process::ExitCode;

fn main() -> ExitCode {
    match cli::run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
