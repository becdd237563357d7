//! The man page and the shells' completions, both from the grammar: there is no other list of flags.

use crate::cli::Cli;
use clap::{Arg, Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, italic, roman};
use std::io::Write;

/// Paths that a reader looks for.
const FILES: [(&str, &str); 6] = [
    ("/run/coconut/api.sock", "The daemon's socket; docs/cli.md says who may ask for what."),
    ("/run/coconut/operators/", "The same sockets for root and the group coconut."),
    (
        api::audit::LOG_DIRECTORY,
        "The audit log: C2SP tiles, the newest checkpoint, the verifier key.",
    ),
    ("/etc/coconut/trust", "Keys that may sign manifests, each with what it may grant."),
    ("/usr/share/coconut/trust", "The same, as the distribution ships them."),
    ("/usr/share/coconut/profiles", "Profiles: what @python, @shell and others give."),
];

/// What the exit codes mean.
const STATUS: [(&str, &str); 7] = [
    ("0", "Done."),
    ("1", "The check or the program failed."),
    ("2", "Wrong usage, a wrong manifest, or a command that is not in this version."),
    ("3", "Denied."),
    ("4", "There is no such agent, file or log."),
    ("5", "coconutd is not there."),
    ("6", "Integrity violated: a log, signature or digest does not fit."),
];

/// The grammar as it is shown: what is planned is not in it.
fn shown() -> Command {
    visible(&Cli::command())
}

fn visible(command: &Command) -> Command {
    let below = command.get_subcommands().filter(|below| !below.is_hide_set()).map(visible);
    let arguments = command.get_arguments().filter(|argument| !argument.is_hide_set());
    let mut shown = Command::new(command.get_name().to_owned())
        .disable_help_subcommand(true)
        .args(arguments.cloned())
        .subcommands(below);
    if let Some(about) = command.get_about() {
        shown = shown.about(about.clone());
    }
    match command.get_version() {
        Some(version) => shown.version(version.to_owned()),
        None => shown.disable_version_flag(true),
    }
}

/// Prints what a shell reads to complete `coconut`.
///
/// # Errors
/// When it cannot be written.
pub fn completions(shell: Shell, to: &mut dyn Write) -> std::io::Result<()> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut shown(), "coconut", &mut text);
    to.write_all(&text)
}

/// Prints coconut(1).
///
/// # Errors
/// When it cannot be written.
pub fn page(to: &mut dyn Write) -> std::io::Result<()> {
    let mut all = shown();
    all.build();
    let man = Man::new(all.clone()).manual("Coconut OS").date("");
    man.render_title(to)?;
    man.render_name_section(to)?;
    let mut roff = Roff::new();
    roff.control("SH", ["SYNOPSIS"]);
    roff.text([bold("coconut"), roman(" [--json] [--wide] "), italic("COMMAND"), roman(" …")]);
    description(&mut roff);
    roff.control("SH", ["OPTIONS"]);
    all.get_arguments().for_each(|argument| option(&mut roff, argument));
    roff.control("SH", ["COMMANDS"]);
    all.get_subcommands().for_each(|below| command(&mut roff, "coconut", below));
    listed(&mut roff, "EXIT STATUS", &STATUS);
    roff.control("PP", []);
    roff.text([
        bold("coconut run"),
        roman(" ends with its program's own status, 128 + n for a signal."),
    ]);
    listed(&mut roff, "FILES", &FILES);
    listed(
        &mut roff,
        "ENVIRONMENT",
        &[
            ("COCONUT_SOCKET", "Another socket of coconutd."),
            ("NO_COLOR", "Whatever its value: no colours."),
            ("COLUMNS", "Width of tables where it is not the terminal's."),
        ],
    );
    listed(&mut roff, "EXAMPLES", &EXAMPLES);
    roff.control("SH", ["SEE ALSO"]);
    roff.text([roman("systemctl(1), journalctl(1), capabilities(7), cgroups(7)")]);
    roff.to_writer(to)
}

fn description(roff: &mut Roff) {
    roff.control("SH", ["DESCRIPTION"]);
    roff.text([roman(
        "An agent is a program that the kernel knows: by an identity of its own, with the rights that \
         its manifest says and no others, a share of processor and models, and a record of what it did. \
         This program asks the daemon coconutd for all of that, or reads the audit log by itself.",
    )]);
    roff.control("PP", []);
    roff.text([roman(
        "An agent is named by its AID, by the last digits of it (four or more), or by its name. \
         Everything after -- is the agent's own program and its arguments.",
    )]);
}

const EXAMPLES: [(&str, &str); 4] = [
    (
        "coconut run --tenant maya --cap fs.read=/srv/input --cap fs.exec=@shell -- /bin/sh",
        "A shell that reads one folder and nothing else.",
    ),
    ("coconut explain researcher", "What it was refused, and what would allow it."),
    (
        "coconut cap revoke researcher fs.read=/srv/input",
        "From now on, also on files that are open.",
    ),
    (
        "coconut audit verify --key log.vkey --since checkpoint",
        "Is the log whole, and one with the past?",
    ),
];

fn listed(roff: &mut Roff, title: &str, entries: &[(&str, &str)]) {
    roff.control("SH", [title]);
    for (name, what) in entries {
        roff.control("TP", []);
        roff.text([bold(*name)]);
        roff.text([roman(*what)]);
    }
}

/// A command with its options; of one that only leads to others, those.
fn command(roff: &mut Roff, above: &str, command: &Command) {
    let name = format!("{above} {}", command.get_name());
    if command.has_subcommands() {
        return command.get_subcommands().for_each(|below| self::command(roff, &name, below));
    }
    roff.control("SS", [usage(&name, command).as_str()]);
    roff.text([roman(sentence(command.get_about().map(ToString::to_string)))]);
    let own = command.get_arguments().filter(|a| !a.is_global_set() && a.get_id() != "help");
    own.for_each(|argument| option(roff, argument));
}

/// `coconut wait AID`; options are below.
fn usage(name: &str, command: &Command) -> String {
    let mut words = vec![name.to_owned()];
    let own = || command.get_arguments().filter(|a| !a.is_global_set());
    if own().any(|a| !a.is_positional() && a.get_id() != "help") {
        words.push("[OPTION]…".to_owned());
    }
    for argument in own().filter(|a| a.is_positional()) {
        let many = matches!(argument.get_num_args(), Some(n) if n.max_values() > 1);
        let name = format!("{}{}", value(argument), if many { "…" } else { "" });
        let name = if argument.is_last_set() { format!("-- {name}") } else { name };
        words.push(if argument.is_required_set() { name } else { format!("[{name}]") });
    }
    words.join(" ")
}

fn value(argument: &Arg) -> String {
    let names = argument.get_value_names().and_then(<[_]>::first);
    names.map_or_else(|| argument.get_id().as_str().to_uppercase(), |name| name.to_uppercase())
}

fn option(roff: &mut Roff, argument: &Arg) {
    let long = argument.get_long().map(|long| format!("--{long}"));
    let flags: Vec<String> =
        argument.get_short().map(|short| format!("-{short}")).into_iter().chain(long).collect();
    roff.control("TP", []);
    match (argument.is_positional(), argument.get_action().takes_values()) {
        (true, _) => roff.text([italic(value(argument))]),
        (_, true) => roff.text([bold(flags.join(", ")), roman(" "), italic(value(argument))]),
        (_, false) => roff.text([bold(flags.join(", "))]),
    };
    let said = sentence(argument.get_help().map(ToString::to_string));
    roff.text([roman(said + &choices(argument))]);
}

/// What it is if nothing is said, and what it may be.
fn choices(argument: &Arg) -> String {
    if !argument.get_action().takes_values() {
        return String::new();
    }
    let join = |all: Vec<String>| all.join(", ");
    let defaults = argument.get_default_values().iter();
    let default = join(defaults.map(|value| value.to_string_lossy().into_owned()).collect());
    let possible = argument.get_possible_values();
    let possible = join(possible.iter().map(|value| value.get_name().to_owned()).collect());
    let part = |title, list: String| match list.is_empty() {
        true => String::new(),
        false => format!(" {title}: {list}."),
    };
    part("By default", default) + &part("One of", possible)
}

/// Help as a sentence: with a stop at its end.
fn sentence(help: Option<String>) -> String {
    let text = help.unwrap_or_default();
    let ends = text.ends_with(['.', '?', '…']) || text.is_empty();
    if ends { text } else { text + "." }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every command that does something, by its words, and what it takes.
    fn leaves(command: &Command, above: &[String]) -> Vec<(Vec<String>, Command)> {
        let words = [above, &[command.get_name().to_owned()]].concat();
        let below = command.get_subcommands().filter(|below| !below.is_hide_set());
        let below: Vec<_> = below.flat_map(|below| leaves(below, &words)).collect();
        if below.is_empty() { vec![(words, command.clone())] } else { below }
    }

    fn flags(command: &Command) -> Vec<String> {
        let own = command.get_arguments().filter(|a| !a.is_hide_set());
        own.filter_map(|a| a.get_long().map(|long| format!("--{long}"))).collect()
    }

    fn printed() -> String {
        let mut page_ = Vec::new();
        page(&mut page_).unwrap();
        // roff writes a dash as \-.
        String::from_utf8(page_).unwrap().replace("\\-", "-")
    }

    #[test]
    fn the_page_has_every_command_and_every_flag_and_says_something_of_each() {
        let text = printed();
        for (words, command) in leaves(&Cli::command(), &[]) {
            let name = words.join(" ");
            let (_, own) = text
                .split_once(&format!(".SS \"{name}"))
                .or_else(|| text.split_once(&format!(".SS {}", words.join("\\ "))))
                .unwrap_or_else(|| panic!("{name} is not in the page"));
            let own = own.split("\n.S").next().unwrap();
            for flag in flags(&command) {
                assert!(own.contains(&flag), "{name} {flag}: {own}");
            }
        }
        for flag in flags(&Cli::command()) {
            assert!(text.contains(&flag), "{flag}");
        }
        let lines: Vec<&str> = text.lines().collect();
        for (at, _) in lines.iter().enumerate().filter(|(_, line)| line.starts_with(".TP")) {
            let (tag, said) = (lines[at + 1], lines.get(at + 2).copied().unwrap_or_default());
            assert!(
                !said.trim().is_empty() && !said.starts_with('.'),
                "{tag} says nothing: {said}"
            );
        }
    }

    #[test]
    fn every_shell_completes_every_command_and_every_flag() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let mut text = Vec::new();
            completions(shell, &mut text).unwrap();
            let text = String::from_utf8(text).unwrap();
            for (words, command) in leaves(&Cli::command(), &[]) {
                let last = words.last().unwrap();
                assert!(text.contains(last.as_str()), "{shell}: {last}");
                for flag in flags(&command) {
                    // fish: `-l name`.
                    let fish = format!("-l {}", &flag[2..]);
                    assert!(text.contains(&flag) || text.contains(&fish), "{shell}: {flag}");
                }
            }
            assert!(!text.contains("not in this version"), "{shell} offers what is planned");
        }
    }
}
