//! `./x demo`: build, boot, show; what comes of it lies in `target/demo`.

use crate::channels::pass_through;
use crate::context::Context;
use crate::life::Patience;
use crate::prepare::{self, direct};
use crate::sandbox::remove_tree;
use crate::ui::{Ui, seconds};
use crate::vm::Vm;
use anyhow::{Context as _, Result};
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

/// What to show.
#[derive(clap::Args)]
pub struct Args {
    /// A source tree for the Dream Team to review [default: Coconut's own]
    #[arg(long, value_name = "DIR")]
    input: Option<PathBuf>,
    /// How many processors the VM has
    #[arg(long, default_value_t = 2)]
    cpus: u32,
    /// How much memory the VM has, in MiB
    #[arg(long, default_value_t = 4096, value_name = "MIB")]
    memory: u32,
    /// For `coconut demo`: isolation, audit, fairness, dream-team, all; its options after `--`
    #[arg(default_value = "all")]
    what: Vec<String>,
    #[arg(last = true, hide = true)]
    more: Vec<String>,
}

/// Fairness where processors are emulated: its verdicts are counts, which two pairs of blocks show as well as three do;
/// the milliseconds that more pairs would be for say nothing there.
const PAIRS_EMULATED: &str = "2";

/// Runs it; the exit status is the demonstration's.
pub fn run(cx: &Context, ui: &Ui, args: &Args) -> Result<ExitCode> {
    let out = cx.path("target/demo");
    eprintln!("Building (cached by content; the first time takes long)");
    let ready = prepare::image(cx, ui)?;
    remove_tree(&out)?;
    fs::create_dir_all(&out).with_context(|| format!("cannot make {}", out.display()))?;
    let vm = Vm {
        boot: direct(&ready),
        accel: ready.accel,
        cpus: args.cpus,
        memory_mib: args.memory,
        share: args.input.clone(),
        out: Some(out.clone()),
        append: String::new(),
        qemu: Vec::new(),
        patience: Patience::Progress,
    };
    let mut command: Vec<String> = ["coconut", "demo"].map(str::to_owned).into();
    command.extend(args.what.iter().cloned());
    command.extend(["--out", "/mnt/out"].map(str::to_owned));
    if args.input.is_some() {
        command.extend(["--input", "/mnt/share"].map(str::to_owned));
    }
    let is_told = args.more.iter().any(|word| word.starts_with("--pairs"));
    if ready.accel.is_slow() && !is_told {
        command.extend(["--pairs", PAIRS_EMULATED].map(str::to_owned));
    }
    command.extend(args.more.iter().cloned());
    eprintln!(
        "Booting Coconut OS in a VM{}",
        if ready.accel.is_slow() { " (emulated: about 20 times slower than metal)" } else { "" }
    );
    let start = Instant::now();
    let status = vm.run(cx, &ready.tools, &command, pass_through())?;
    eprintln!("\nIn the VM: {}. What came of it:", seconds(start.elapsed()));
    for file in ["report.json", "report/index.html", "report/report.html", "report/report.md"] {
        if out.join(file).exists() {
            eprintln!("  {}", out.join(file).display());
        }
    }
    Ok(ExitCode::from(u8::try_from(status).unwrap_or(1)))
}
