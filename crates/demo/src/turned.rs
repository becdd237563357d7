//! A reviewer of the Dream Team turned hostile: a shell in place of its program, with exactly the rights
//! that the coordinator gave it. The control is the same shell as an ordinary process.

use crate::Context;
use crate::agent::{Agent as Running, Spec};
use crate::control::{Process, User};
use crate::hostile::PATIENCE;
use crate::report::{Check, Control};
use anyhow::{Context as _, Result, ensure};
use api::agent::Agent;
use std::path::{Path, PathBuf};

/// A reviewer that is a shell script: its rights let it run a shell.
const TURNED: &str = "reviewer-5";
const SHELL: &str = "/usr/bin/bash";
/// For each `read:FILE` and `write:FILE` one line: `done`, or why not. Built-in commands only.
const SCRIPT: &str = r#"for try; do
    file=${try#*:}
    case $try in
        read:*) why=$( { IFS= read -r -N 1 _ <"$file"; } 2>&1 ) ;;
        write:*) why=$( { echo turned >"$file"; } 2>&1 ) ;;
    esac && echo done || echo "${why##*: }"
done"#;
const DONE: &str = "done";

/// One attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Attempt {
    name: &'static str,
    claim: &'static str,
    /// `read:FILE` or `write:FILE`.
    what: String,
}

/// What the reviewer may read, and what belongs to others.
#[derive(Debug, PartialEq, Eq)]
struct Targets {
    /// The team's folder of this run.
    work: PathBuf,
    /// A file of its own modules.
    own: PathBuf,
    attempts: Vec<Attempt>,
}

/// The checks: what was not given to the reviewer, it does not get.
///
/// # Errors
/// When the team did not leave what its reviewers were started with, or a shell cannot be started.
pub fn checks(ctx: &Context, team: &[Agent]) -> Result<Vec<Check>> {
    let targets = targets(team)?;
    let tries: Vec<String> = std::iter::once(format!("read:{}", targets.own.display()))
        .chain(targets.attempts.iter().map(|a| a.what.clone()))
        .collect();
    let inside = in_agent(ctx, &targets.work, &tries)?;
    let outside = as_process(&tries)?;
    for written in tries.iter().filter_map(|t| t.strip_prefix("write:")) {
        let _ = std::fs::remove_file(written);
    }
    Ok(judge(&targets, &inside, &outside))
}

fn judge(targets: &Targets, inside: &[String], outside: &[String]) -> Vec<Check> {
    let own = Check::new(
        "turned:own",
        "what it was given, it can read",
        inside[0] == DONE,
        inside[0].clone(),
        None,
    )
    .note("or denial proves little");
    let refused = targets.attempts.iter().zip(&inside[1..]).zip(&outside[1..]);
    let refused = refused.map(|((attempt, seen), plain)| {
        let control = Control::new(plain == DONE, plain.clone());
        Check::new(attempt.name, attempt.claim, seen != DONE, seen.clone(), control)
    });
    std::iter::once(own).chain(refused).collect()
}

/// The tries under the reviewer's own manifest, in which nothing but the program is another.
fn in_agent(ctx: &Context, work: &Path, tries: &[String]) -> Result<Vec<String>> {
    let given = work.join("coordinator").join(format!("{TURNED}.toml"));
    let text = std::fs::read_to_string(&given).with_context(|| given.display().to_string())?;
    let text = with_command(&text, SHELL)
        .with_context(|| format!("{} has no command", given.display()))?;
    let manifest = ctx.work.join("turned.toml");
    std::fs::write(&manifest, text).with_context(|| manifest.display().to_string())?;
    let spec = Spec {
        name: ctx.unique(TURNED),
        manifest: Some(manifest),
        command: arguments(tries),
        ..Spec::default()
    };
    let ran = Running::start(&ctx.coconut, spec)?.end(PATIENCE)?;
    answers(&ran.stdout, tries).with_context(|| format!("the turned reviewer: {}", ran.summary()))
}

fn as_process(tries: &[String]) -> Result<Vec<String>> {
    let user = User::of_agents()?;
    let process = Process::start(user, Path::new(SHELL), &arguments(tries), None)?;
    let said = process.lines.rest(PATIENCE)?.join("\n");
    answers(&said, tries).with_context(|| process.complaints())
}

fn arguments(tries: &[String]) -> Vec<String> {
    ["-c", SCRIPT, "turned"].iter().map(ToString::to_string).chain(tries.iter().cloned()).collect()
}

fn answers(said: &str, tries: &[String]) -> Result<Vec<String>> {
    let lines: Vec<String> = said.lines().map(str::to_owned).collect();
    ensure!(
        lines.len() == tries.len(),
        "{} answers to {} tries: {said:?}",
        lines.len(),
        tries.len()
    );
    Ok(lines)
}

/// The manifest with another program; its rights stay as they are, byte for byte.
fn with_command(manifest: &str, program: &str) -> Option<String> {
    let (before, rest) = manifest.split_once("\ncommand = [")?;
    let (_, after) = rest.split_once("\n]\n")?;
    Some(format!("{before}\ncommand = [\"{program}\"]\n{after}"))
}

/// From the command lines of the reviewers: they name the tree, the modules and the results.
fn targets(team: &[Agent]) -> Result<Targets> {
    let turned = team.iter().find(|a| a.name == TURNED).context("no reviewer-5 took part")?;
    let out = option(turned, "--out").next().context("its command names no result")?;
    let work = Path::new(out).ancestors().nth(2).context("its result lies nowhere")?.to_owned();
    let own = modules(turned);
    let file = own.iter().find_map(|p| first_file(p)).context("its modules hold no file")?;
    let others: Vec<&Agent> =
        team.iter().filter(|a| a.name.starts_with("reviewer-") && a.name != TURNED).collect();
    let other = others.first().context("it was the only reviewer")?;
    let mut attempts = Vec::new();
    // A small tree has fewer modules than reviewers; some then read the same.
    let apart = others.iter().find(|a| modules(a).iter().all(|m| !own.contains(m)));
    let theirs = apart.and_then(|a| modules(a).iter().find_map(|p| first_file(p)));
    let mut attempt = |name, claim, kind: &str, path: PathBuf| {
        attempts.push(Attempt { name, claim, what: format!("{kind}:{}", path.display()) });
    };
    if let Some(theirs) = theirs {
        attempt("turned:module", "read a module given to another", "read", theirs);
    }
    let folder = work.join(&other.name);
    attempt("turned:result", "read another reviewer's result", "read", folder.join("result.json"));
    attempt("turned:folder", "write into another's folder", "write", folder.join("planted"));
    Ok(Targets { work, own: file, attempts })
}

fn option<'a>(agent: &'a Agent, name: &'a str) -> impl Iterator<Item = &'a str> {
    agent.command.windows(2).filter(move |w| w[0] == name).map(|w| w[1].as_str())
}

/// What it was given: `--root ROOT --module NAME:PATH,PATH`.
fn modules(agent: &Agent) -> Vec<PathBuf> {
    let root = Path::new(option(agent, "--root").next().unwrap_or_default());
    let lists = option(agent, "--module").filter_map(|m| m.split_once(':'));
    lists.flat_map(|(_, paths)| paths.split(',')).map(|p| root.join(p)).collect()
}

fn first_file(path: &Path) -> Option<PathBuf> {
    if path.is_file() {
        let holds_text = path.metadata().is_ok_and(|m| m.len() > 0);
        return holds_text.then(|| path.to_owned());
    }
    let mut below: Vec<_> = std::fs::read_dir(path).ok()?.flatten().map(|e| e.path()).collect();
    below.sort();
    below.iter().find_map(|p| first_file(p))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reviewer(number: u32, root: &Path, module: &str) -> Agent {
        let name = format!("reviewer-{number}");
        let root = root.to_string_lossy().into_owned();
        let out = format!("/work/run-1/{name}/result.json");
        let module = format!("m:{module}");
        let command = ["treescan", "review", "--root", &root, "--out", &out, "--module", &module];
        crate::ended_agent(&name, &command)
    }

    fn tree() -> tempfile::TempDir {
        let tree = tempfile::tempdir().expect("a folder");
        for folder in ["a", "b"] {
            std::fs::create_dir(tree.path().join(folder)).expect("a folder");
            std::fs::write(tree.path().join(folder).join("f.rs"), "x").expect("a file");
        }
        tree
    }

    #[test]
    fn it_tries_what_belongs_to_another_reviewer() {
        let tree = tree();
        let root = tree.path();
        let team = [reviewer(1, root, "a"), reviewer(5, root, "a"), reviewer(6, root, "b")];
        let found = targets(&team).expect("targets");
        assert_eq!((&found.own, &*found.work), (&root.join("a/f.rs"), Path::new("/work/run-1")));
        let tries: Vec<_> = found.attempts.iter().map(|a| a.what.as_str()).collect();
        let module = format!("read:{}", root.join("b/f.rs").display());
        let result = "read:/work/run-1/reviewer-1/result.json";
        assert_eq!(tries, [&module, result, "write:/work/run-1/reviewer-1/planted"]);
        assert_eq!(targets(&team[..2]).expect("targets").attempts.len(), 2, "all read the same");
    }

    #[test]
    fn only_the_program_is_exchanged() {
        let given = "[agent]\nname = \"r\"\ncommand = [\n    \"a\",\n    \"b\",\n]\ncwd = \"/x\"\n\n[capabilities]\n\"fs.read\" = [\n    \"/y\",\n]\n";
        let wanted = "[agent]\nname = \"r\"\ncommand = [\"/usr/bin/bash\"]\ncwd = \"/x\"\n\n[capabilities]\n\"fs.read\" = [\n    \"/y\",\n]\n";
        assert_eq!(with_command(given, SHELL).as_deref(), Some(wanted));
        assert_eq!(with_command("[agent]\nname = \"r\"\n", SHELL), None);
    }

    #[test]
    fn the_shell_says_what_it_got() {
        let tree = tree();
        let (there, absent) = (tree.path().join("a/f.rs"), tree.path().join("none/f"));
        let tries = [
            format!("read:{}", there.display()),
            format!("read:{}", absent.display()),
            format!("write:{}", absent.display()),
        ];
        let args = arguments(&tries);
        let done = std::process::Command::new("bash").args(args).output().expect("bash");
        let said = String::from_utf8_lossy(&done.stdout);
        let missing = "No such file or directory";
        assert_eq!(answers(&said, &tries).expect("answers"), [DONE, missing, missing]);
        assert!(answers("done\n", &tries).is_err());
    }

    #[test]
    fn a_reviewer_that_gets_more_fails_the_check() {
        let attempt = Attempt { name: "turned:result", claim: "c", what: "read:/r".into() };
        let targets = Targets { work: "/w".into(), own: "/o".into(), attempts: vec![attempt] };
        let lines = |second: &str| vec![DONE.to_owned(), second.to_owned()];
        let passed = |inside: &str, outside: &str| {
            judge(&targets, &lines(inside), &lines(outside)).iter().all(|c| c.passed)
        };
        assert!(passed("Permission denied", DONE));
        assert!(!passed(DONE, DONE), "not refused");
        assert!(!passed("Permission denied", "Permission denied"), "the control does no harm");
    }
}
