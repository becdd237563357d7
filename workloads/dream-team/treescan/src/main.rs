//! A source-tree analyst: one of the Dream Team's unmodified programs.
//!
//! It knows nothing of Coconut: it reads the files that it is given, may ask a model through
//! `OPENAI_BASE_URL`, and writes one JSON file.

mod analyses;
mod count;
mod dependencies;
mod duplicates;
mod functions;
mod language;
mod model;
mod modules;
mod outcome;
mod parsed;
mod rust;
mod tree;

use analyses::review::Assignment;
use analyses::{audit, docs, review, structure, tests};
use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};
use outcome::{Analysis, Outcome};
use parsed::Parsed;
use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;

#[derive(Parser)]
#[command(version, about = "Measures a source tree and writes figures and findings as JSON")]
struct Cli {
    #[command(subcommand)]
    analysis: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Cut the tree into modules, for planning
    Modules {
        #[command(flatten)]
        common: Common,
        /// A module larger than this part of the tree is cut at its folders
        #[arg(long, default_value_t = 12)]
        parts: usize,
        /// Parse the tree's Rust files, too, and write what they say here, for those who take `--facts`
        #[arg(long, value_name = "FILE")]
        facts: Option<PathBuf>,
    },
    /// Review the given modules: size, functions, TODO marks
    Review {
        #[command(flatten)]
        common: Common,
        /// A module: NAME:PATH,PATH (paths below the root)
        #[arg(long = "module", value_name = "NAME:PATH,PATH")]
        modules: Vec<Assignment>,
    },
    /// Count languages and file sizes
    Languages(Common),
    /// Find `unsafe`, and `unsafe` without a reason
    Unsafe(Rust),
    /// Find panics outside tests
    Panics(Rust),
    /// Count tests per module
    Tests(Rust),
    /// Find larger files without tests
    Gaps(Rust),
    /// Find public items without documentation
    Docs(Rust),
    /// Find blocks of code that stand more than once
    Duplicates(Common),
    /// Find which module depends on which
    Dependencies(Common),
}

#[derive(Args)]
struct Common {
    /// Folder that file names are relative to
    #[arg(long)]
    root: PathBuf,
    /// Where the JSON goes; standard output if absent
    #[arg(long)]
    out: Option<PathBuf>,
    /// Name to put into the result
    #[arg(long, default_value = "treescan")]
    agent: String,
    /// Ask this model one short question about the result, through OPENAI_BASE_URL
    #[arg(long, value_name = "MODEL")]
    ask: Option<String>,
    /// Folders or files below the root; all of it if absent
    paths: Vec<PathBuf>,
}

#[derive(Args)]
struct Rust {
    #[command(flatten)]
    common: Common,
    /// What `modules --facts` has written of the tree's Rust files; without it they are parsed
    #[arg(long, value_name = "FILE")]
    facts: Option<PathBuf>,
}

fn main() -> Result<()> {
    let (name, common, analysis) = match Cli::parse().analysis {
        Command::Modules { common, parts, facts } => {
            let tree = tree::read(&common.root, &common.paths)?;
            if let Some(path) = facts {
                parsed::write(&tree, &path)?;
            }
            let plan = structure::plan(&tree, parts);
            return write(&common, &serde_json::to_vec_pretty(&plan)?);
        }
        Command::Review { common, modules } => {
            let analysis = review::run(&common.root, &modules)?;
            ("review", common, analysis)
        }
        Command::Languages(common) => whole("languages", common, structure::languages)?,
        Command::Unsafe(rust) => of_rust("unsafe", rust, audit::unsafe_code)?,
        Command::Panics(rust) => of_rust("panics", rust, audit::panics)?,
        Command::Tests(rust) => of_rust("tests", rust, tests::density)?,
        Command::Gaps(rust) => of_rust("gaps", rust, tests::gaps)?,
        Command::Docs(rust) => of_rust("docs", rust, docs::run)?,
        Command::Duplicates(common) => whole("duplicates", common, structure::duplicate_blocks)?,
        Command::Dependencies(common) => {
            whole("dependencies", common, structure::dependency_graph)?
        }
    };
    finish(name, &common, analysis)
}

fn whole(
    name: &'static str,
    common: Common,
    run: impl Fn(&tree::Tree) -> Analysis,
) -> Result<(&'static str, Common, Analysis)> {
    let analysis = run(&tree::read(&common.root, &common.paths)?);
    Ok((name, common, analysis))
}

fn of_rust(
    name: &'static str,
    Rust { common, facts }: Rust,
    run: impl Fn(&Parsed<'_>) -> Analysis,
) -> Result<(&'static str, Common, Analysis)> {
    let known = facts.as_deref().map(parsed::read).transpose()?.unwrap_or_default();
    let analysis = run(&Parsed::of(&tree::read(&common.root, &common.paths)?, known));
    Ok((name, common, analysis))
}

fn finish(name: &'static str, common: &Common, analysis: Analysis) -> Result<()> {
    let Analysis { headline, figures, findings, question } = analysis;
    let model = common.ask.as_deref().map(|m| model::ask(m, &question));
    let outcome = Outcome {
        schema: 1,
        agent: common.agent.clone(),
        program: "rust",
        analysis: name,
        headline,
        figures,
        findings,
        question,
        model,
    };
    println_unless_stdout(common, &outcome.headline);
    write(common, &serde_json::to_vec_pretty(&outcome)?)
}

/// The headline goes to the log when the result goes to a file.
fn println_unless_stdout(common: &Common, headline: &str) {
    if common.out.is_some() {
        println!("{headline}");
    }
}

fn write(common: &Common, json: &[u8]) -> Result<()> {
    match &common.out {
        Some(path) => {
            fs::write(path, json).with_context(|| format!("cannot write {}", path.display()))
        }
        None => Ok(io::stdout().write_all(json)?),
    }
}
