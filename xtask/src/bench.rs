//! `./x bench`: every figure beside its bare or rival counterpart, from one run. Results in `target/bench`.

use crate::cli::{direct, pass_through};
use crate::context::Context;
use crate::prepare;
use crate::ui::Ui;
use crate::vm::Vm;
use anyhow::{Result, bail};
use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;

/// Which benchmarks to run.
#[derive(clap::Args)]
pub struct Args {
    /// Only these: host (audit, broker), vm (kernel, spawn, revocation, boot)
    #[arg(value_name = "PART")]
    only: Vec<String>,
}

/// Benchmarks that run in the VM.
const LIMIT: Duration = Duration::from_secs(40 * 60);

/// Runs them; results as JSON and text in `target/bench`.
pub fn run(cx: &Context, ui: &Ui, args: &Args) -> Result<ExitCode> {
    let wanted = |name: &str| args.only.is_empty() || args.only.iter().any(|only| only == name);
    let out = cx.path("target/bench");
    fs::create_dir_all(&out)?;
    if let Some(name) = args.only.iter().find(|name| !["host", "vm"].contains(&name.as_str())) {
        bail!("no part {name}\nhint: the parts are host and vm");
    }
    let ready = prepare::image(cx, ui)?;
    if wanted("host") {
        host(cx, &out)?;
    }
    if wanted("vm") {
        let vm = Vm {
            boot: direct(&ready),
            accel: ready.accel,
            cpus: 2,
            memory_mib: 4096,
            share: None,
            out: Some(out.clone()),
            append: String::new(),
            qemu: Vec::new(),
            timeout: Some(LIMIT),
        };
        let command = ["/usr/libexec/coconut/coconut-bench-vm", "--out", "/mnt/out/vm.json"];
        let command: Vec<String> = command.map(str::to_owned).into();
        let status = vm.run(cx, &ready.tools, &command, pass_through())?;
        if status != 0 {
            bail!("the benchmarks in the VM ended with status {status}");
        }
    }
    println!("results: {}", out.display());
    Ok(ExitCode::SUCCESS)
}

/// Every executable `benches/*/run`: on the host, results below `out`.
fn host(cx: &Context, out: &Path) -> Result<()> {
    for bench in fs::read_dir(cx.path("benches"))?.flatten() {
        let script = bench.path().join("run");
        if !script.exists() {
            continue;
        }
        println!("== {}", bench.file_name().to_string_lossy());
        let mut command = Command::new(&script);
        command.current_dir(&cx.root).env("CARGO_TARGET_DIR", &cx.cargo_target);
        if !command.arg(out).status()?.success() {
            bail!("{} failed", script.display());
        }
    }
    Ok(())
}
