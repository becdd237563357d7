//! `./x bench`: every figure beside its bare or rival counterpart, from one run. Results in `target/bench`.

mod kernel;
mod plot;
mod scale;
mod summary;
mod table;

use crate::build::{self, cargo};
use crate::channels::pass_through;
use crate::context::Context;
use crate::life::Patience;
use crate::prepare::{self, Ready, direct};
use crate::ui::{Ui, seconds};
use crate::vm::Vm;
use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

/// Which benchmarks to run.
#[derive(clap::Args)]
pub struct Args {
    /// Only these: kernel, audit, vm, broker; or scale, which runs only where it is named
    #[arg(value_name = "PART")]
    only: Vec<String>,
    /// A third of the time, and figures that vary more
    #[arg(long)]
    quick: bool,
    /// Memory of the VM of vm and scale, in MiB [default: 4096 and 6144]
    #[arg(long, value_name = "MIB")]
    memory: Option<u32>,
    /// Options of scale, as `-- --agents 250`
    #[arg(last = true, value_name = "OPTION")]
    more: Vec<String>,
}

/// What every part needs.
struct Bench<'a> {
    cx: &'a Context,
    ui: &'a Ui,
    out: PathBuf,
    quick: bool,
    memory_mib: Option<u32>,
    more: Vec<String>,
    /// None if no part is wanted that boots something.
    ready: Option<Ready>,
}

/// Measures, and leaves `NAME.json` in `target/bench`.
type Run = fn(&Bench<'_>) -> Result<()>;

/// So many of the parts run where none is named.
const ALL: usize = 4;

/// The parts, the quickest first; whether a part needs the image.
const PARTS: [(&str, &str, bool, Run); ALL + 1] = [
    ("kernel", "guest instructions an operation, with and without policy", true, |b| b.kernel()),
    ("audit", "records a second, sealed and verified", false, |b| b.audit()),
    ("vm", "boot, spawn and revocation in the VM", true, |b| b.vm()),
    ("broker", "the broker beside the bare engine and kvwarden", false, |b| b.broker()),
    ("scale", "ten thousand agents asleep in one VM", true, |b| b.scale()),
];

/// Runs the parts; all of them, even if one fails. The summary is printed and written to `summary.md`.
pub fn run(cx: &Context, ui: &Ui, args: &Args) -> Result<ExitCode> {
    let known: Vec<&str> = PARTS.iter().map(|(name, ..)| *name).collect();
    if let Some(name) = args.only.iter().find(|name| !known.contains(&name.as_str())) {
        bail!("no part {name}\nhint: the parts are {}", known.join(", "));
    }
    let named = |name: &str| args.only.iter().any(|only| only == name);
    let wanted = |n, name| if args.only.is_empty() { n < ALL } else { named(name) };
    let parts = PARTS.into_iter().enumerate().filter(|(n, (name, ..))| wanted(*n, name));
    let parts: Vec<_> = parts.map(|(_, part)| part).collect();
    if !args.more.is_empty() && !named("scale") {
        bail!("only scale takes options after `--`");
    }
    let out = cx.path("target/bench");
    fs::create_dir_all(&out).with_context(|| format!("cannot make {}", out.display()))?;
    let ready = if parts.iter().any(|(_, _, image, _)| *image) {
        Some(prepare::image(cx, ui)?)
    } else {
        build::binaries(cx, ui)?;
        None
    };
    let (memory_mib, more) = (args.memory, args.more.clone());
    let bench = Bench { cx, ui, out, quick: args.quick, memory_mib, more, ready };
    let results: Vec<_> =
        parts.iter().map(|(name, title, _, run)| (*name, bench.part(name, title, *run))).collect();
    bench.report(&results)
}

impl Bench<'_> {
    fn part(&self, name: &str, title: &str, run: Run) -> Result<Value> {
        self.ui.say(&format!("{name}: {title}"));
        let (begin, file) = (Instant::now(), self.json(name));
        // What an earlier run has left must not pass for this one's.
        if file.exists() {
            fs::remove_file(&file)?;
        }
        let result = run(self).and_then(|()| {
            let text = fs::read(&file).with_context(|| format!("no {}", file.display()))?;
            Ok(serde_json::from_slice(&text)?)
        });
        match &result {
            Ok(_) => self.ui.say(&format!("{name}: {}", seconds(begin.elapsed()))),
            Err(error) => self.ui.say(&format!("  ✗ {error:#}")),
        }
        result
    }

    /// The tables, on standard output and as Markdown.
    fn report(&self, results: &[(&str, Result<Value>)]) -> Result<ExitCode> {
        let tables = summary::tables(results);
        let machine = summary::machine(self.quick);
        let file = self.out.join("summary.md");
        let markdown: Vec<String> = tables.iter().map(table::Table::markdown).collect();
        fs::write(&file, format!("# Figures\n\n{machine}\n\n{}", markdown.join("\n")))
            .with_context(|| format!("cannot write {}", file.display()))?;
        println!("\n{machine}");
        tables.iter().for_each(|table| print!("\n{}", table.text()));
        println!("\nresults: {}", self.out.display());
        let complete = results.iter().all(|(_, result)| result.as_ref().is_ok_and(summary::holds));
        Ok(if complete { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn json(&self, name: &str) -> PathBuf {
        self.out.join(format!("{name}.json"))
    }

    fn ready(&self) -> Result<&Ready> {
        self.ready.as_ref().context("the image was not prepared")
    }

    /// In a VM that counts instructions. The whole output stays in `kernel.txt`.
    fn kernel(&self) -> Result<()> {
        let ready = self.ready()?;
        let step = self.ui.step("bench-kernel", "operations in an initramfs");
        let mut command = Command::new(self.cx.path("acceptance/kernel/run"));
        command.arg("bench").current_dir(&self.cx.root);
        command.env("CARGO_TARGET_DIR", &self.cx.cargo_target);
        command.env("COCONUT_TOOLS", &ready.tools.tree).env("COCONUT_VMLINUZ", &ready.tree.vmlinuz);
        step.run(&mut command, "")?;
        let text = fs::read_to_string(step.log())?;
        // The log begins with the command line, which is of this machine.
        let text: String = text.lines().skip(1).map(|line| format!("{line}\n")).collect();
        fs::write(self.out.join("kernel.txt"), &text)?;
        let figures = kernel::parse(&text).map_err(|error| step.failure(&error.to_string(), ""))?;
        write_json(&self.json("kernel"), &figures)?;
        step.done("");
        Ok(())
    }

    fn audit(&self) -> Result<()> {
        let step = self.ui.step("bench-audit", "a log of plain and sealed records");
        // The whole workspace for the same reason as `build::binaries`.
        let examples = ["build", "--release", "--workspace", "--example", "throughput"];
        let examples = [&examples[..], &["--example", "whole_path", "--example", "open"]].concat();
        step.run(&mut cargo(self.cx, &examples), "")?;
        let mut figures = serde_json::Map::new();
        for name in ["examples/throughput", "examples/whole_path", "examples/open"] {
            let mut command = Command::new(self.cx.binary(name));
            command.arg(if self.quick { "200000" } else { "2000000" }).arg(&self.out);
            command.env("TMPDIR", &self.out);
            let done = command.stderr(Stdio::inherit()).output()?;
            if !done.status.success() {
                bail!("{name}: the audit log was not measured: {}", done.status);
            }
            let more: serde_json::Map<_, _> =
                serde_json::from_slice(&done.stdout).context("not JSON")?;
            figures.extend(more);
        }
        write_json(&self.json("audit"), &figures.into())?;
        step.done("");
        Ok(())
    }

    fn vm(&self) -> Result<()> {
        let runs = if self.quick { "7" } else { "20" };
        let command = "/usr/libexec/coconut/coconut-bench-vm --out /mnt/out/vm.json --runs";
        let command: Vec<String> = command.split(' ').chain([runs]).map(str::to_owned).collect();
        let status = self.in_vm(&command, 4096)?;
        if status != 0 {
            bail!("the benchmarks in the VM ended with status {status}");
        }
        Ok(())
    }

    /// Boots the image with the folder of the results at `/mnt/out`; the command's status.
    fn in_vm(&self, command: &[String], memory_mib: u32) -> Result<i32> {
        let ready = self.ready()?;
        let vm = Vm {
            boot: direct(ready),
            accel: ready.accel,
            cpus: 2,
            memory_mib: self.memory_mib.unwrap_or(memory_mib),
            share: None,
            out: Some(self.out.clone()),
            append: String::new(),
            qemu: Vec::new(),
            patience: Patience::Alive,
        };
        vm.run(self.cx, &ready.tools, command, pass_through())
    }

    /// Its own program, which starts and ends the servers and tells how far it is.
    fn broker(&self) -> Result<()> {
        let mut command = Command::new(self.cx.binary("coconut-bench-broker"));
        command.arg("--work").arg(&self.out).arg("--out").arg(self.json("broker"));
        if self.quick {
            command.args(["--seconds", "8", "--warmup", "5"]);
        }
        let status = command.current_dir(&self.cx.root).stdin(Stdio::null()).status()?;
        if !status.success() {
            bail!("coconut-bench-broker: {status}");
        }
        Ok(())
    }
}

fn write_json(file: &Path, figures: &Value) -> Result<()> {
    let text = serde_json::to_string_pretty(figures)?;
    fs::write(file, format!("{text}\n")).with_context(|| format!("cannot write {}", file.display()))
}
