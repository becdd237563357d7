//! The command line's grammar: one table that parsing, help and the tests of names read.

use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// What the exit codes mean, at the end of every long help.
const EXIT_CODES: &str = "Exit codes: 0 done, 1 the check or program failed, 2 usage, 3 denied,\n\
4 not found, 5 the daemon is not there, 6 integrity violated.\n\
`run` ends with its program's own status.";

/// Agents that the kernel knows: run them, limit them, see what they did.
#[derive(Debug, Parser)]
#[command(name = "coconut", version, after_help = EXIT_CODES, max_term_width = 80)]
#[command(disable_help_subcommand = true, arg_required_else_help = true)]
pub struct Cli {
    /// One JSON document on stdout (streams: one a line); each names its schema.
    #[arg(long, global = true)]
    pub json: bool,
    /// Shorten nothing to fit the terminal.
    #[arg(long, short = 'w', global = true)]
    pub wide: bool,
    /// Another socket of coconutd.
    #[arg(long, global = true, hide = true, env = "COCONUT_SOCKET", value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Every command of this version, and those that are planned (hidden).
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a program as an agent in the foreground; its exit status is the program's
    Run(Run),
    /// Start an agent in the background from a manifest; prints its AID
    Spawn(Spawn),
    /// List agents
    Ps {
        /// Ended agents too.
        #[arg(long, short)]
        all: bool,
        /// Go on: one line for each change.
        #[arg(long, short)]
        follow: bool,
    },
    /// Everything about one agent
    Show(Target),
    /// Who spawned whom
    Tree {
        /// Ended agents too.
        #[arg(long, short)]
        all: bool,
    },
    /// What a background agent wrote
    Logs {
        /// The agent.
        aid: String,
        /// Go on until the agent ends.
        #[arg(long, short)]
        follow: bool,
    },
    /// Wait until an agent ends; fails if the agent failed
    Wait(Target),
    /// End an agent and all its processes
    Kill {
        /// The agents.
        #[arg(required_unless_present = "all")]
        aid: Vec<String>,
        /// Every agent that you may see: what happens when the machine goes down.
        #[arg(long, conflicts_with_all = ["aid", "signal"])]
        all: bool,
        /// Only send this signal to its first process: TERM, HUP, 10…
        #[arg(long, short)]
        signal: Option<String>,
    },
    /// Freeze an agent and all below it, deny them everything, cut their connections
    Quarantine {
        /// The agent
        aid: String,
        /// Write what they are into this new folder: rights, denials, processes, records, output
        #[arg(long, value_name = "DIR")]
        evidence: Option<PathBuf>,
    },
    /// End an agent's quarantine
    Release(Target),
    /// What agents may do: list, grant, revoke
    #[command(subcommand)]
    Cap(Cap),
    /// The last denials of an agent, and what would allow them
    Explain(Target),
    /// Weights of tenants and agents, for processor and models alike
    #[command(subcommand)]
    Lane(LaneCommand),
    /// The audit log: read it, verify it
    #[command(subcommand)]
    Audit(Audit),
    /// Manifests: check, sign, verify
    #[command(subcommand)]
    Manifest(Manifest),
    /// Signing keys
    #[command(subcommand)]
    Key(Key),
    /// What this kernel and machine support; what is weaker, why, and what to do
    Doctor,
    /// Show isolation, audit and fairness, each beside its control
    Demo {
        /// What `coconut-demo` is given: isolation, audit, fairness, dream-team, all…
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// What a shell reads to complete this program's commands and options
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// The man page, in roff
    #[command(hide = true)]
    Man,
    /// Live view (not in this version)
    #[command(hide = true)]
    Top(Planned),
    /// Attestations (not in this version)
    #[command(hide = true)]
    Attest(Planned),
    /// Memory budgets (not in this version)
    #[command(hide = true)]
    Budget(Planned),
}

/// An agent by UUID, unique suffix of at least four hex digits, or unique name.
#[derive(Debug, Args)]
pub struct Target {
    /// The agent: AID, its last digits (4 or more), or its name.
    pub aid: String,
}

/// Arguments of a command that a later version has.
#[derive(Debug, Args)]
pub struct Planned {
    /// Taken and not looked at.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    pub args: Vec<String>,
}

/// `coconut run`.
#[derive(Debug, Args)]
pub struct Run {
    /// The tenant that pays (with --manifest: instead of the manifest's).
    #[arg(long, short)]
    pub tenant: Option<String>,
    /// A name for people; by default the program's.
    #[arg(long, short)]
    pub name: Option<String>,
    /// A capability as in a manifest, may be repeated: 'fs.read=/srv/input',
    /// 'net.connect=host:443', infer.
    #[arg(long = "cap", short, value_name = "K=V")]
    pub caps: Vec<String>,
    /// Take the rights of this manifest.
    #[arg(long, short, value_name = "FILE")]
    pub manifest: Option<PathBuf>,
    /// Weight in its tenant's lane, 1 to 10000.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=10_000), conflicts_with = "manifest")]
    pub weight: Option<u32>,
    /// Run an unsigned manifest; the log says so.
    #[arg(long)]
    pub allow_unsigned: bool,
    /// Set a variable in the agent's environment, may be repeated.
    #[arg(long, value_name = "NAME=VALUE")]
    pub env: Vec<String>,
    /// Working directory of the agent; it needs fs.read on it to list it.
    #[arg(long, value_name = "DIR")]
    pub cwd: Option<String>,
    /// The program and its arguments.
    #[arg(last = true, value_name = "CMD")]
    pub command: Vec<String>,
}

/// `coconut spawn`.
#[derive(Debug, Args)]
pub struct Spawn {
    /// The manifest; its signature is looked for in MANIFEST.sig.
    pub manifest: PathBuf,
    /// Run an unsigned manifest; the log says so.
    #[arg(long)]
    pub allow_unsigned: bool,
    /// Instead of the manifest's tenant (operators only).
    #[arg(long, short)]
    pub tenant: Option<String>,
    /// Instead of the manifest's name.
    #[arg(long, short)]
    pub name: Option<String>,
    /// Set a variable in the agent's environment, may be repeated.
    #[arg(long, value_name = "NAME=VALUE")]
    pub env: Vec<String>,
    /// Arguments after the manifest's command.
    #[arg(last = true)]
    pub args: Vec<String>,
}

/// `coconut cap`.
#[derive(Debug, Subcommand)]
pub enum Cap {
    /// What an agent may do now
    Ls(Target),
    /// Give an agent a capability until it ends
    Grant {
        /// The agent.
        aid: String,
        /// As in a manifest: 'fs.read=/srv/input'.
        #[arg(value_name = "CAP")]
        capability: String,
        /// Void after this time: 30s, 10m, 2h.
        #[arg(long = "for", value_name = "TIME")]
        expires: Option<String>,
        /// For N uses (opens, starts, connections); given again, for N more
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        uses: Option<u32>,
        /// For one use
        #[arg(long, conflicts_with = "uses")]
        once: bool,
    },
    /// Take a capability from an agent and all its descendants, at once
    Revoke {
        /// The agent.
        aid: String,
        /// As `cap ls` shows it: 'fs.read=/srv/input'.
        #[arg(value_name = "CAP")]
        capability: String,
    },
}

/// `coconut lane`.
#[derive(Debug, Subcommand)]
pub enum LaneCommand {
    /// Weights and use of every tenant and agent
    Ls,
    /// Set a weight
    Set {
        /// WHO is a tenant.
        #[arg(long, short)]
        tenant: bool,
        /// The agent, or with --tenant the tenant.
        who: String,
        /// 1 to 10000; 100 is what everybody has who was given none.
        #[arg(value_parser = clap::value_parser!(u32).range(1..=10_000))]
        weight: u32,
    },
}

/// Which records.
#[derive(Debug, Args)]
pub struct Filter {
    /// Of this agent.
    #[arg(long, short)]
    pub agent: Option<String>,
    /// Of this tenant.
    #[arg(long, short)]
    pub tenant: Option<String>,
    /// Of this kind: spawn, grant, denial, use, inference…
    #[arg(long, short)]
    pub kind: Option<abi::Kind>,
    /// About this capability: fs.read, net.connect…
    #[arg(long, value_name = "CAP")]
    pub cap: Option<abi::Capability>,
    /// With this verdict: allow, deny.
    #[arg(long)]
    pub verdict: Option<abi::Verdict>,
    /// Whose object contains this text.
    #[arg(long, value_name = "TEXT")]
    pub object: Option<String>,
    /// Since then: 10m, 2h, or 2026-11-23T09:00:00Z.
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Read this directory instead of asking the daemon.
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

/// `coconut audit`.
#[derive(Debug, Subcommand)]
pub enum Audit {
    /// The newest records
    Tail {
        /// How many.
        #[arg(short = 'n', long, default_value_t = 20)]
        lines: usize,
        /// Go on with new ones.
        #[arg(long, short)]
        follow: bool,
        /// Which.
        #[command(flatten)]
        filter: Filter,
    },
    /// All records that fit
    Query {
        /// At most so many, the newest.
        #[arg(long)]
        limit: Option<usize>,
        /// Which.
        #[command(flatten)]
        filter: Filter,
    },
    /// Check every hash, chain and signature; needs no daemon
    Verify {
        /// The log's directory.
        #[arg(default_value = api::audit::LOG_DIRECTORY)]
        dir: PathBuf,
        /// The verifier key that you trust; by default the one beside the log.
        #[arg(long, value_name = "FILE")]
        key: Option<PathBuf>,
        /// A checkpoint kept from earlier: the log must be a continuation of it.
        #[arg(long, value_name = "FILE")]
        since: Option<PathBuf>,
        /// Judge this log alone, also where one before it was damaged and set aside.
        #[arg(long)]
        current: bool,
    },
    /// Print the newest signed checkpoint
    Head {
        /// The log's directory.
        #[arg(default_value = api::audit::LOG_DIRECTORY)]
        dir: PathBuf,
    },
    /// Proof of one record (not in this version)
    #[command(hide = true)]
    Prove(Planned),
    /// OCSF and OpenTelemetry (not in this version)
    #[command(hide = true)]
    Export(Planned),
}

/// `coconut manifest`.
#[derive(Debug, Subcommand)]
pub enum Manifest {
    /// Is it right? If not: line, column and what was expected
    Check {
        /// The manifests.
        #[arg(required = true)]
        file: Vec<PathBuf>,
    },
    /// Sign it: writes FILE.sig
    Sign {
        /// The manifest.
        file: PathBuf,
        /// The secret key, as `coconut key new` made it.
        #[arg(long, short)]
        key: PathBuf,
    },
    /// Is FILE.sig a trusted key's signature, and may that key grant all this?
    Verify {
        /// The manifest.
        file: PathBuf,
        /// A trust directory, may be repeated; by default those that coconutd reads.
        #[arg(long, value_name = "DIR")]
        trust: Vec<PathBuf>,
    },
    /// A first manifest (not in this version)
    #[command(hide = true)]
    Init(Planned),
    /// The least manifest that a program needs (not in this version)
    #[command(hide = true)]
    Learn(Planned),
}

/// `coconut key`.
#[derive(Debug, Subcommand)]
pub enum Key {
    /// Make a key pair: NAME.key (secret), NAME.pub and NAME.toml (what it may grant)
    New {
        /// A name for the key.
        name: String,
        /// Where to write.
        #[arg(long, short, default_value = ".")]
        dir: PathBuf,
    },
    /// Keys that may sign manifests here
    Ls {
        /// A trust directory, may be repeated; by default those that coconutd reads.
        #[arg(long, value_name = "DIR")]
        trust: Vec<PathBuf>,
    },
    /// Trust a key (not in this version)
    #[command(hide = true)]
    Trust(Planned),
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_grammar_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_command_after_the_dashes_keeps_its_own_flags() {
        let cli = Cli::try_parse_from([
            "coconut",
            "run",
            "--tenant",
            "maya",
            "--cap",
            "fs.read=/srv",
            "--",
            "ls",
            "--json",
            "-l",
        ])
        .unwrap();
        assert!(!cli.json);
        let Command::Run(run) = cli.command else { panic!("not run") };
        assert_eq!(run.command, ["ls", "--json", "-l"]);
        assert_eq!(run.caps, ["fs.read=/srv"]);
    }

    #[test]
    fn a_weight_out_of_range_is_a_usage_error() {
        let error = Cli::try_parse_from(["coconut", "lane", "set", "a1b2", "0"]).unwrap_err();
        assert_eq!(error.exit_code(), 2);
    }
}
