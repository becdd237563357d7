//! The fuzzer: compiled with what follows coverage, by the same compiler as the rest, into a folder of its own; run on
//! every target for so many tries, or on one for as long as somebody wants.

use crate::build::cargo;
use crate::context::Context;
use crate::ui::Ui;
use anyhow::{Context as _, Result, bail};
use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

/// What `cargo fuzz` passes, but for the sanitizer, which the stable compiler has not: there is no `unsafe` in what is
/// tried. Arithmetic that overflows and assertions of debug builds count.
const FLAGS: [&str; 9] = [
    "--cfg",
    "fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Cdebug-assertions",
    "-Coverflow-checks",
];

/// With a target named, flags are not for build scripts and macros.
const MACHINE: &str = "x86_64-unknown-linux-gnu";

/// Tries of each target in `./x test`: a number and no time, so that a slow machine says the same.
const TRIES: u32 = 20_000;

/// Longest input. What is longer is refused by a length, and takes its time from the rest.
const LONGEST: u32 = 8192;

/// A long run.
#[derive(clap::Args)]
pub struct Args {
    /// Only this target (all: the folders of fuzz/corpus)
    target: Option<String>,
    /// Minutes for each target
    #[arg(long, default_value_t = 5, value_name = "N")]
    minutes: u32,
}

/// How much is tried.
enum Effort {
    Tries(u32),
    Minutes(u32),
}

/// Every target for so many tries: of each its name, and why it failed.
pub fn briefly(cx: &Context, ui: &Ui) -> Result<Vec<(String, Result<()>)>> {
    let program = built(cx, ui)?;
    let each = |name: String| {
        let done = fuzzed(cx, ui, &program, &name, &Effort::Tries(TRIES));
        (name, done)
    };
    Ok(targets(cx)?.into_iter().map(each).collect())
}

/// `./x fuzz`: what was found stays in `target/x/fuzz/`, and the next run goes on from there.
pub fn run(cx: &Context, ui: &Ui, args: &Args) -> Result<ExitCode> {
    let mut names = targets(cx)?;
    if let Some(wanted) = &args.target {
        if !names.contains(wanted) {
            bail!("no target {wanted}\nhint: the targets are {}", names.join(", "));
        }
        names.retain(|name| name == wanted);
    }
    let program = built(cx, ui)?;
    for name in names {
        fuzzed(cx, ui, &program, &name, &Effort::Minutes(args.minutes))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn targets(cx: &Context) -> Result<Vec<String>> {
    let folders = fs::read_dir(cx.path("fuzz/corpus")).context("fuzz/corpus")?;
    let name = |folder: fs::DirEntry| folder.file_name().into_string().ok();
    let mut names: Vec<String> = folders.filter_map(Result::ok).filter_map(name).collect();
    names.sort_unstable();
    Ok(names)
}

fn built(cx: &Context, ui: &Ui) -> Result<PathBuf> {
    let step = ui.step("fuzz-build", "the fuzzer");
    let folder = cx.cargo_target.join("fuzz");
    let mut build =
        cargo(cx, &["build", "--release", "-p", "coconut-fuzz", "--bin", "coconut-fuzz"]);
    build.args(["--target", MACHINE, "--target-dir"]).arg(&folder);
    build.env("RUSTFLAGS", FLAGS.join(" "));
    step.run(&mut build, "")?;
    step.done("");
    Ok(folder.join(MACHINE).join("release/coconut-fuzz"))
}

fn fuzzed(cx: &Context, ui: &Ui, program: &PathBuf, name: &str, effort: &Effort) -> Result<()> {
    let step = ui.step(&format!("fuzz-{name}"), &format!("fuzz {name}"));
    let work = cx.work.join("fuzz");
    let found = work.join("found").join(name);
    let corpus = match effort {
        Effort::Tries(_) => work.join("brief").join(name),
        Effort::Minutes(_) => work.join("corpus").join(name),
    };
    let mut fuzz = Command::new(program);
    fuzz.env("COCONUT_FUZZ_TARGET", name).env("RUST_BACKTRACE", "1").current_dir(&cx.root);
    fuzz.args([format!("-max_len={LONGEST}"), "-timeout=20".into(), "-rss_limit_mb=2048".into()]);
    match effort {
        Effort::Tries(tries) => {
            // From the same seed and the same corpus the same is tried.
            let _ = fs::remove_dir_all(&corpus);
            fuzz.args([format!("-runs={tries}"), "-seed=1".into()]);
        }
        Effort::Minutes(minutes) => drop(fuzz.arg(format!("-max_total_time={}", minutes * 60))),
    }
    fs::create_dir_all(&corpus)?;
    fs::create_dir_all(&found)?;
    // What is new goes into the first folder.
    fuzz.arg(format!("-artifact_prefix={}/", found.display()));
    fuzz.arg(&corpus).arg(cx.path("fuzz/corpus").join(name));
    let hint = format!(
        "the input lies in {}; mend the code and keep it as a file of fuzz/corpus/{name}",
        found.display()
    );
    step.run(&mut fuzz, &hint)?;
    let log = String::from_utf8_lossy(&fs::read(step.log())?).into_owned();
    step.done(&sum(&log));
    Ok(())
}

/// How much was tried, and how much of the code that saw: `40000 tries, 812 edges`.
fn sum(log: &str) -> String {
    let last = log.lines().rev().find(|line| line.contains("DONE") && line.contains("cov: "));
    let words: Vec<&str> = last.unwrap_or_default().split_whitespace().collect();
    let after = |name: &str| words.iter().skip_while(|word| **word != name).nth(1).copied();
    let tries = words.first().map_or("?", |word| word.trim_start_matches('#'));
    format!("{tries} tries, {} edges", after("cov:").unwrap_or("?"))
}

#[cfg(test)]
mod tests {
    use super::sum;

    #[test]
    fn a_log_is_summed_in_a_few_words() {
        let log = "#2 INITED cov: 5\n#40000\tDONE   cov: 812 ft: 31 corp: 21/208b lim: 64 exec/s: 0\n\
            Done 40000 runs in 2 second(s)\n";
        assert_eq!(sum(log), "40000 tries, 812 edges");
        assert_eq!(sum(""), "? tries, ? edges");
    }
}
