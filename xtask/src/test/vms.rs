//! The parts of `./x test` that boot VMs.

use super::{Args, Tally};
use crate::channels::Watch;
use crate::context::Context;
use crate::life::Patience;
use crate::prepare::{self, Ready, direct};
use crate::sandbox::remove_tree;
use crate::ui::{Step, Ui};
use crate::vm::{Boot, Vm};
use anyhow::{Result, ensure};
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

/// Where the inner loop of kernel work has its entry: prints `PASS`/`FAIL` lines and a last `N passed, N failed`.
const KERNEL_LOOP: &str = "acceptance/kernel/run";

/// The policy alone, in an initramfs.
pub fn kernel(cx: &Context, ui: &Ui, _: &Args) -> Result<Tally> {
    let script = cx.path(KERNEL_LOOP);
    if !script.exists() {
        ui.say(&format!("  – {KERNEL_LOOP} is not in this tree"));
        return Ok(Tally::default());
    }
    let ready = prepare::image(cx, ui)?;
    let step = ui.step("kernel-loop", "policy in an initramfs");
    let mut command = Command::new(&script);
    command.current_dir(&cx.root).env("CARGO_TARGET_DIR", &cx.cargo_target);
    command.env("COCONUT_TOOLS", &ready.tools.tree).env("COCONUT_VMLINUZ", &ready.tree.vmlinuz);
    let outcome = step.run(&mut command, "");
    let tally = verdicts(&fs::read_to_string(step.log()).unwrap_or_default());
    finish(step, tally, outcome.err())
}

/// What `./x vm` promises: output apart, the status, both folders.
pub fn plumbing(cx: &Context, ui: &Ui, _: &Args) -> Result<Tally> {
    let ready = prepare::image(cx, ui)?;
    let step = ui.step("vm", "./x vm");
    let dir = cx.work.join("tmp/plumbing");
    remove_tree(&dir)?;
    for name in ["in", "out"] {
        fs::create_dir_all(dir.join(name))?;
    }
    fs::write(dir.join("in/word"), "coconut")?;
    let script = "cat /mnt/share/word; echo problem >&2; cp /mnt/share/word /mnt/out/copy; \
        touch /mnt/share/not 2>/dev/null && exit 1; exit 42";
    let mut vm = machine(&ready, direct(&ready));
    vm.share = Some(dir.join("in"));
    vm.out = Some(dir.join("out"));
    step.announce();
    let (watch, seen) = record(None);
    let status = vm.run(cx, &ready.tools, &words(&["sh", "-c", script]), watch)?;
    let (out, err) = seen.lock().map_err(|_| anyhow::anyhow!("a thread fell over"))?.clone();
    ensure!(status == 42, "the exit status 42 arrived as {status}");
    ensure!(out == b"coconut", "wrong standard output: {}", String::from_utf8_lossy(&out));
    ensure!(err == b"problem\n", "wrong standard error: {}", String::from_utf8_lossy(&err));
    ensure!(fs::read(dir.join("out/copy"))? == b"coconut", "/mnt/out did not arrive");
    step.done("");
    Ok(Tally::pass())
}

/// The acceptance suite on the image that users boot.
pub fn acceptance(cx: &Context, ui: &Ui, args: &Args) -> Result<Tally> {
    let ready = prepare::image(cx, ui)?;
    let step = ui.step("acceptance", "acceptance suite");
    let mut vm = machine(&ready, direct(&ready));
    faulty_disk(&mut vm);
    judge(cx, &ready, &vm, &suite(args), step)
}

/// The unit that changes bytes on the disk; nobody can start it later, for the seal keeps the disk.
const FAULTY_DISK: &str = include_str!("../../../acceptance/faulty-disk.service");

/// Gives the machine a disk that goes wrong when the suite asks for it, by a credential and the kernel's command line
/// (systemd.system-credentials(7)).
fn faulty_disk(vm: &mut Vm) {
    let unit = "coconut-faulty-disk.service";
    let text = FAULTY_DISK.replace(',', ",,");
    let credential =
        format!("type=11,value=io.systemd.credential:systemd.extra-unit.{unit}={text}");
    vm.qemu.extend(["-smbios".to_owned(), credential]);
    vm.append = format!("systemd.wants={unit}");
}

/// How often the soak kills the daemon; `COCONUT_SOAK` says otherwise. A kill takes twenty seconds and more where the
/// VM is emulated.
const KILLS: &str = "2";

fn suite(args: &Args) -> Vec<String> {
    let kills = std::env::var("COCONUT_SOAK").unwrap_or(KILLS.to_owned());
    let soak = format!("COCONUT_SOAK={kills}");
    let mut command = words(&["env", &soak, "/usr/libexec/coconut/coconut-acceptance"]);
    if let Some(filter) = &args.filter {
        command.extend(words(&["--filter", filter]));
    }
    command
}

/// Runs the suite in the VM and counts its verdicts.
fn judge(
    cx: &Context,
    ready: &Ready,
    vm: &Vm,
    command: &[String],
    step: Step<'_>,
) -> Result<Tally> {
    step.announce();
    let (watch, seen) = record(Some(step.log()));
    let outcome = vm.run(cx, &ready.tools, command, watch);
    let (out, _) = seen.lock().map_err(|_| anyhow::anyhow!("a thread fell over"))?.clone();
    let tally = verdicts(&String::from_utf8_lossy(&out));
    finish(step, tally, outcome.err())
}

/// As a user's machine boots: firmware, boot loader, signed kernel image, verity root. The same suite holds there; what
/// meets files, the seal, the trusted keys and the daemon's start is run.
pub fn uefi(cx: &Context, ui: &Ui, args: &Args) -> Result<Tally> {
    let (ready, disk) = prepare::image_and_disk(cx, ui)?;
    let step = ui.step("uefi", "the same, booted through UEFI");
    let script = format!("set -e; {VERITY_ROOT}; exec \"$@\"");
    let command = [words(&["sh", "-c", &script, "sh"]), suite(args), elsewhere(args)].concat();
    let vm = machine(&ready, Boot::Uefi { disk: disk.file });
    judge(cx, &ready, &vm, &command, step)
}

/// What does not depend on how the machine was booted or what its root is: it takes minutes, once.
const ELSEWHERE: [&str; 21] = [
    "attacks.",
    "budget.",
    "delegation.",
    "exit.",
    "fairness.",
    "json.",
    "kept.",
    "lent.",
    "limits.",
    "log.",
    "own.",
    "records.",
    "rights.",
    "shared.",
    "strict.",
    "broker.accounts",
    "restart.halted",
    "restart.soak",
    "restart.substitute",
    "restart.unwritten",
    "lifecycle.quarantine-tree",
];

fn elsewhere(args: &Args) -> Vec<String> {
    let skip = |name: &&str| ["--skip".to_owned(), (*name).to_owned()];
    match args.filter {
        Some(_) => Vec::new(),
        None => ELSEWHERE.iter().flat_map(skip).collect(),
    }
}

/// Booted by firmware, and the root is what dm-verity lets through: nobody can write to it.
const VERITY_ROOT: &str = "test -d /sys/firmware/efi; grep -q ^CRYPT-VERITY- /sys/block/dm-0/dm/uuid; \
    test $(findmnt -no FSTYPE /) = erofs; ! touch /usr/written 2>/dev/null";

fn machine(ready: &Ready, boot: Boot) -> Vm {
    Vm {
        boot,
        accel: ready.accel,
        cpus: 2,
        memory_mib: 4096,
        share: None,
        out: None,
        append: String::new(),
        qemu: Vec::new(),
        patience: Patience::Progress,
    }
}

type Seen = Arc<Mutex<(Vec<u8>, Vec<u8>)>>;

/// Keeps what the command prints, and writes it to a log as it comes.
fn record(log: Option<&Path>) -> (Watch, Seen) {
    let seen = Seen::default();
    let kept = Arc::clone(&seen);
    let log: Option<PathBuf> = log.map(Path::to_owned);
    let noted = log.clone();
    let sink = move |is_stderr: bool, bytes: &[u8]| {
        if let Ok(mut kept) = kept.lock() {
            let part = if is_stderr { &mut kept.1 } else { &mut kept.0 };
            part.extend_from_slice(bytes);
        }
        append(log.as_deref(), bytes);
    };
    let note = move |text: &str| append(noted.as_deref(), format!("note: {text}\n").as_bytes());
    (Watch { sink: Box::new(sink), note: Box::new(note) }, seen)
}

fn append(log: Option<&Path>, bytes: &[u8]) {
    let Some(log) = log else { return };
    if let Ok(mut file) = fs::File::options().append(true).create(true).open(log) {
        // The log is for people; the verdict comes from what was kept.
        let _ = file.write_all(bytes);
    }
}

/// Counts `PASS name` and `FAIL name: why` lines.
fn verdicts(output: &str) -> Tally {
    let mut tally = Tally::default();
    for line in output.lines() {
        if line.starts_with("PASS ") {
            tally.passed += 1;
        } else if line.starts_with("FAIL ") {
            tally.failed += 1;
            tally.complaints.push(line.to_owned());
        }
    }
    let closing = format!("{} passed, {} failed", tally.passed, tally.failed);
    if output.lines().rev().find(|l| !l.trim().is_empty()) != Some(&closing) {
        tally.failed += 1;
        tally.complaints.push(format!("the run broke off: it does not end with `{closing}`"));
    }
    tally
}

fn finish(step: Step<'_>, mut tally: Tally, error: Option<anyhow::Error>) -> Result<Tally> {
    if let Some(error) = error {
        tally.failed = tally.failed.max(1);
        tally.complaints.push(format!("{error:#}"));
    }
    let cases = tally.passed + tally.failed;
    if tally.failed > 0 {
        let log = step.log().display().to_string();
        tally.complaints.push(format!("all of it: {log}"));
    }
    step.done(&format!("{cases} cases"));
    Ok(tally)
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::verdicts;

    #[test]
    fn verdicts_are_counted() {
        let tally = verdicts("PASS a\nnoise\nFAIL b: why\n1 passed, 1 failed\n");
        assert_eq!((tally.passed, tally.failed), (1, 1));
    }

    #[test]
    fn a_run_that_breaks_off_fails() {
        assert_eq!(verdicts("PASS a\nPASS b\n").failed, 1);
        assert_eq!(verdicts("").failed, 1);
        assert_eq!(verdicts("PASS a\n2 passed, 0 failed\n").failed, 1);
    }
}
