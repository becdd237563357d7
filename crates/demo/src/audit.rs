//! Audit: whatever is done to the log's files afterwards is found; in an ordinary log it is not.

use crate::agent::{Agent, Spec};
use crate::coconut::Ran;
use crate::hostile::PATIENCE;
use crate::plain_log::PlainLog;
use crate::progress::Progress;
use crate::report::{Check, Control, Demonstration, Recorder};
use crate::{Context, tamper};
use anyhow::{Context as _, Result, ensure};
use probe::Outcome;
use std::path::{Path, PathBuf};

const TITLE: &str = "a log that was changed is found out by who kept its key and a checkpoint";
/// Exit status of `coconut audit verify` for a log that was changed.
const INTEGRITY: i32 = 6;

/// Runs the demonstration.
pub fn run(ctx: &Context) -> Demonstration {
    let mut recorder = Recorder::new(ctx.say);
    let result = demonstrate(ctx, &mut recorder);
    recorder.finish("audit", TITLE, result)
}

/// The log as it was at some time, with what a careful operator keeps elsewhere.
pub struct Kept {
    /// A copy of the log.
    pub log: PathBuf,
    /// The key that the operator trusts.
    pub key: PathBuf,
    /// The newest checkpoint that the operator has seen.
    pub checkpoint: PathBuf,
}

impl Kept {
    /// Copies the live log until the copy verifies: it grows while it is copied.
    ///
    /// # Errors
    /// When it cannot be copied, or no copy verifies.
    pub fn take(ctx: &Context, name: &str) -> Result<Kept> {
        let live = Path::new(api::audit::LOG_DIRECTORY);
        let log = ctx.work.join(name);
        let mut progress = Progress::of(format!("a copy of {} that verifies", live.display()));
        loop {
            let _ = std::fs::remove_dir_all(&log);
            tamper::copy(live, &log)?;
            let ran = verify(ctx, &log, &[])?;
            if ran.code == 0 {
                let (key, checkpoint) =
                    (log.with_extension("vkey"), log.with_extension("checkpoint"));
                std::fs::copy(log.join("log.vkey"), &key).context("log.vkey")?;
                std::fs::copy(log.join("checkpoint"), &checkpoint).context("checkpoint")?;
                return Ok(Kept { log, key, checkpoint });
            }
            progress.seen(format!("{} {}", ran.summary(), ran.stdout.trim()))?;
            std::thread::sleep(std::time::Duration::from_millis(500));
        }
    }
}

/// `coconut audit verify` of a directory.
///
/// # Errors
/// When the command cannot be run.
pub fn verify(ctx: &Context, log: &Path, options: &[(&str, &Path)]) -> Result<Ran> {
    let mut args: Vec<String> = ["--json", "audit", "verify"].map(str::to_owned).into();
    args.push(log.display().to_string());
    for (option, path) in options {
        args.extend([(*option).to_owned(), path.display().to_string()]);
    }
    ctx.coconut.call(&args.iter().map(String::as_str).collect::<Vec<_>>())
}

/// One thing that a forger does.
struct Forgery {
    name: &'static str,
    claim: &'static str,
    forge: fn(&Path, &str) -> Result<()>,
    /// The same to an ordinary log.
    plain: Option<fn(&PlainLog, &str) -> Result<()>>,
    /// What the operator gives `verify` besides the directory.
    with: &'static [&'static str],
}

const FORGERIES: &[Forgery] = &[
    Forgery {
        name: "edit",
        claim: "one letter of a denial changed",
        forge: tamper::edit,
        plain: Some(PlainLog::edit),
        with: &[],
    },
    Forgery {
        name: "edit-with-hash",
        claim: "… and its hash made to fit",
        forge: tamper::edit_with_hash,
        plain: Some(PlainLog::edit),
        with: &[],
    },
    Forgery {
        name: "delete",
        claim: "a record taken out",
        forge: tamper::delete,
        plain: Some(PlainLog::delete),
        with: &[],
    },
    Forgery {
        name: "reorder",
        claim: "two records swapped",
        forge: tamper::reorder,
        plain: Some(PlainLog::reorder),
        with: &[],
    },
    Forgery {
        name: "truncate",
        claim: "the newest records cut off",
        forge: |log, _| tamper::truncate(log),
        plain: Some(|log, _| log.truncate(3)),
        with: &[],
    },
    Forgery {
        name: "swap-key",
        claim: "signed anew with another key",
        forge: |log, _| tamper::swap_key(log),
        plain: None,
        with: &["--key"],
    },
];

fn demonstrate(ctx: &Context, r: &mut Recorder) -> Result<()> {
    r.step("an agent is denied something; its denial must stay on record");
    let old = Kept::take(ctx, "log-before")?;
    let object = denied_object(ctx)?;
    let kept = Kept::take(ctx, "log")?;
    let records = ctx.coconut.records(&["--dir", &kept.log.display().to_string()])?;
    let plain = PlainLog::write(&ctx.work.join("ordinary.log"), &records)?;
    r.columns("done to the log's files", "coconut audit verify", "an ordinary log");
    let ran = verify(ctx, &kept.log, &[("--key", &kept.key), ("--since", &old.checkpoint)])?;
    let sound = ran.code == 0;
    r.check(
        Check::new("untouched", "nothing: the log as it is", sound, verdict(&ran), None)
            .note(format!("{} lines, no complaint", plain.read()?)),
    );
    for forgery in FORGERIES {
        r.check(forge(ctx, &kept, forgery, &object, &plain)?);
    }
    r.check(roll_back(ctx, &old, &kept, &plain)?);
    r.figure("records", records.len() as f64, "count");
    for log in [&old, &kept] {
        let _ = std::fs::remove_dir_all(&log.log);
    }
    Ok(())
}

/// Makes one denial with a name that nothing else has, and waits until it is in the log.
fn denied_object(ctx: &Context) -> Result<String> {
    let object = ctx.work.join(format!("secret-of-{}", ctx.unique("audit"))).display().to_string();
    std::fs::write(&object, "secret\n").with_context(|| object.clone())?;
    let spec = Spec {
        name: ctx.unique("curious"),
        tenant: "mallory".to_owned(),
        command: vec![ctx.probe_arg(), "try".to_owned(), format!("open={object}")],
        ..Spec::default()
    };
    let agent = Agent::start(&ctx.coconut, spec)?;
    let seen = agent.json::<Outcome>(PATIENCE);
    let seen = seen.with_context(|| agent.complaints())?;
    agent.end(PATIENCE)?;
    let _ = std::fs::remove_file(&object);
    ensure!(!seen.ok, "an agent without rights could read {object}");
    for _ in 0..60 {
        if !ctx.coconut.records(&["--object", &object, "--kind", "denial"])?.is_empty() {
            return Ok(object);
        }
        std::thread::sleep(std::time::Duration::from_millis(500));
    }
    anyhow::bail!("the denial of {object} did not reach the log")
}

fn forge(ctx: &Context, kept: &Kept, f: &Forgery, object: &str, plain: &PlainLog) -> Result<Check> {
    let log = ctx.work.join(format!("log-{}", f.name));
    tamper::copy(&kept.log, &log)?;
    (f.forge)(&log, object).with_context(|| format!("forging: {}", f.claim))?;
    let options: Vec<(&str, &Path)> = f.with.iter().map(|o| (*o, kept.key.as_path())).collect();
    let ran = verify(ctx, &log, &options)?;
    let _ = std::fs::remove_dir_all(&log);
    let control = match f.plain {
        None => None,
        Some(change) => {
            let forged = plain.copy(&ctx.work.join(format!("ordinary-{}.log", f.name)))?;
            change(&forged, object)?;
            unseen(plain, &forged)?
        }
    };
    let check = Check::new(f.name, f.claim, found(&ran), verdict(&ran), control);
    Ok(if f.plain.is_none() { check.note("it has no key") } else { check })
}

fn roll_back(ctx: &Context, old: &Kept, kept: &Kept, plain: &PlainLog) -> Result<Check> {
    let ran = verify(ctx, &old.log, &[("--key", &kept.key), ("--since", &kept.checkpoint)])?;
    // What the ordinary log was when the older copy was taken.
    let records = ctx.coconut.records(&["--dir", &old.log.display().to_string()])?;
    let earlier = PlainLog::write(&ctx.work.join("ordinary-roll-back.log"), &records)?;
    let held = ran.code == INTEGRITY;
    let control = unseen(plain, &earlier)?;
    Ok(Check::new("roll-back", "an older copy put back", held, verdict(&ran), control))
}

/// The forged file differs, and its reader has nothing to say.
fn unseen(plain: &PlainLog, forged: &PlainLog) -> Result<Option<Control>> {
    let changed = plain.differs(forged)?;
    Ok(match forged.read() {
        Ok(_) if changed => Control::new(true, "not noticed"),
        Ok(_) => Control::new(false, "nothing was changed"),
        Err(error) => Control::new(false, format!("noticed: {error}")),
    })
}

/// The exit status for a changed log, and a place in it.
pub fn found(ran: &Ran) -> bool {
    ran.code == INTEGRITY && !place(ran).is_empty()
}

/// What `verify` says of the place: `record 17`, or what kind of change it was.
fn place(ran: &Ran) -> String {
    let report: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap_or_default();
    let violation = &report["violation"];
    match (violation["seq"].as_u64(), violation["kind"].as_str()) {
        (Some(record), _) => format!("record {record}"),
        (None, Some(kind)) => kind.to_owned(),
        (None, None) => String::new(),
    }
}

fn verdict(ran: &Ran) -> String {
    match ran.code {
        0 => "sound".to_owned(),
        code => format!("exit {code}, {}", place(ran)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ran(code: i32, violation: &str) -> Ran {
        let stdout = format!("{{\"leaves\":3,\"violation\":{violation}}}");
        Ran { code, stdout, stderr: String::new() }
    }

    #[test]
    fn a_finding_has_the_status_and_the_place() {
        let changed = ran(6, r#"{"kind":"record-changed","seq":17}"#);
        assert!(found(&changed));
        assert_eq!(verdict(&changed), "exit 6, record 17");
        let swapped = ran(6, r#"{"kind":"key-swapped","seq":null}"#);
        assert!(found(&swapped));
        assert_eq!(verdict(&swapped), "exit 6, key-swapped");
        assert!(!found(&ran(6, "null")));
        assert!(!found(&ran(1, r#"{"kind":"record-changed","seq":17}"#)));
        assert_eq!(verdict(&ran(0, "null")), "sound");
    }
}
