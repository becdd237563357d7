//! The commands of `./x`.

use crate::channels::pass_through;
use crate::context::Context;
use crate::kernel::Kernel;
use crate::life::Patience;
use crate::prepare::{self, direct};
use crate::ui::Ui;
use crate::vm::{Boot, Vm};
use crate::{bench, demo, fuzz, sandbox, test};
use anyhow::{Result, bail};
use clap::{Args, Parser, Subcommand};
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Builds, boots, tests and measures Coconut OS. What is built is kept: a second run starts in seconds.
#[derive(Parser)]
#[command(
    name = "./x",
    bin_name = "./x",
    after_help = "Logs of every step: target/x/logs. Cache shared by all checkouts: ~/.cache/coconut-os.\n\
        COCONUT_CACHE=DIR moves the cache, COCONUT_MIRROR=URL names a Debian mirror,\n\
        COCONUT_ACCEL=tcg|kvm decides how the VM's processor is made."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Boot Coconut OS in a VM and show isolation, audit, fairness and 31 agents at work
    Demo(demo::Args),
    /// Everything that CI checks; the last line is `N passed, N failed`
    Test(test::Args),
    /// Boot the image and run a command in it as root (none: a root console)
    Vm(VmArgs),
    /// Build the image: target/image/coconut.raw boots any VM with UEFI firmware
    Image(ImageArgs),
    /// Measure, side by side with the bare or rival counterpart
    Bench(bench::Args),
    /// Fuzz what the daemons read from others, for minutes (`./x test fuzz` is the short run)
    Fuzz(fuzz::Args),
    /// Format all sources
    Fmt,
    /// Fetch and build all that the other commands need, and run nothing
    Setup,
    /// Remove what this checkout built (`--all`: the shared cache too)
    Clean(CleanArgs),
}

#[derive(Args)]
struct VmArgs {
    /// Show this folder in the VM, read-only, at /mnt/share
    #[arg(long, value_name = "DIR")]
    share: Option<PathBuf>,
    /// Give the VM this folder to write to, at /mnt/out
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// How many processors
    #[arg(long, default_value_t = 2)]
    cpus: u32,
    /// How much memory, in MiB
    #[arg(long, default_value_t = 4096, value_name = "MIB")]
    memory: u32,
    /// Boot through UEFI, systemd-boot and a verity root instead of straight from the kernel
    #[arg(long)]
    uefi: bool,
    /// End the command after this many seconds
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u64>,
    /// More of the kernel's command line (not with --uefi)
    #[arg(long, default_value = "", hide_default_value = true)]
    append: String,
    /// The command, after `--`; its output and exit status are passed through
    #[arg(last = true)]
    command: Vec<String>,
}

#[derive(Args)]
struct ImageArgs {
    /// Ask the mirror for newer packages and a newer kernel
    #[arg(long)]
    update: bool,
}

#[derive(Args)]
struct CleanArgs {
    /// The shared cache too: tools tree, Debian and Python packages
    #[arg(long)]
    all: bool,
}

/// Runs what the command line asks for.
pub fn run() -> Result<ExitCode> {
    let cli = Cli::parse();
    let cx = Context::new()?;
    let ui = Ui::new(cx.work.join("logs"));
    match cli.command {
        Command::Demo(args) => demo::run(&cx, &ui, &args),
        Command::Test(args) => test::run(&cx, &ui, &args),
        Command::Vm(args) => vm(&cx, &ui, args),
        Command::Image(args) => image(&cx, &ui, &args),
        Command::Bench(args) => bench::run(&cx, &ui, &args),
        Command::Fuzz(args) => fuzz::run(&cx, &ui, &args),
        Command::Fmt => fmt(&cx),
        Command::Setup => prepare::image(&cx, &ui).map(|_| ExitCode::SUCCESS),
        Command::Clean(args) => clean(&cx, &args),
    }
}

fn vm(cx: &Context, ui: &Ui, args: VmArgs) -> Result<ExitCode> {
    let (ready, boot) = if args.uefi {
        let (ready, disk) = prepare::image_and_disk(cx, ui)?;
        (ready, Boot::Uefi { disk: disk.file })
    } else {
        let ready = prepare::image(cx, ui)?;
        let boot = direct(&ready);
        (ready, boot)
    };
    let vm = Vm {
        boot,
        accel: ready.accel,
        cpus: args.cpus,
        memory_mib: args.memory,
        share: args.share,
        out: args.out,
        append: args.append,
        qemu: Vec::new(),
        patience: args.timeout.map_or(Patience::Alive, |s| Patience::Until(Duration::from_secs(s))),
    };
    if args.command.is_empty() {
        eprintln!("A root console of the VM; `poweroff` ends it.");
        vm.console(cx, &ready.tools)?;
        return Ok(ExitCode::SUCCESS);
    }
    let status = vm.run(cx, &ready.tools, &args.command, pass_through())?;
    Ok(ExitCode::from(u8::try_from(status).unwrap_or(1)))
}

fn image(cx: &Context, ui: &Ui, args: &ImageArgs) -> Result<ExitCode> {
    if args.update {
        Kernel::forget(cx);
        sandbox::remove_tree(&cx.work.join("mkosi-cache"))?;
        sandbox::remove_tree(&cx.work.join("stamps"))?;
        fs::create_dir_all(cx.work.join("stamps"))?;
    }
    let (ready, disk) = prepare::image_and_disk(cx, ui)?;
    println!("{}  boots through UEFI: the disk of a VM", disk.file.display());
    println!("{}  what exactly is in it", cx.image().join("manifest.json").display());
    println!("{}  our Debian packages", crate::packages::folder(cx).display());
    println!("{}  the disk that ./x vm boots", ready.tree.disk.display());
    Ok(ExitCode::SUCCESS)
}

fn fmt(cx: &Context) -> Result<ExitCode> {
    let status = std::process::Command::new("cargo")
        .args(["fmt", "--all"])
        .current_dir(&cx.root)
        .status()?;
    if !status.success() {
        bail!("cargo fmt failed\nhint: rustup component add rustfmt");
    }
    Ok(ExitCode::SUCCESS)
}

fn clean(cx: &Context, args: &CleanArgs) -> Result<ExitCode> {
    let keep_running = cx.cargo_target.join("release/xtask");
    for dir in ["x", "image", "python", "source", "signed", "trust", "model", "demo"] {
        sandbox::remove_tree(&cx.root.join("target").join(dir))?;
    }
    println!(
        "removed the image and what belongs to it; `cargo clean` removes {} too",
        keep_running.display()
    );
    if args.all {
        sandbox::remove_tree(&cx.cache)?;
        println!("removed {}", cx.cache.display());
    }
    Ok(ExitCode::SUCCESS)
}
