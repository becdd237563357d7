//! Isolation: an agent turned hostile tries everything on a victim; the same tries as an ordinary
//! process of the same user are the control.

use crate::attacks::{Attack, Who};
use crate::hostile::{self, Attacked, Side};
use crate::progress::Progress;
use crate::report::{Check, Control, Demonstration, Recorder};
use crate::{Context, limits, revocation};
use anyhow::Result;
use api::agent::AgentDetail;
use probe::Outcome;
use std::time::Duration;

const TITLE: &str = "an agent reaches nothing that it was not given, and loses what is revoked";

/// Runs the demonstration.
pub fn run(ctx: &Context) -> Demonstration {
    let mut recorder = Recorder::new(ctx.say);
    let result = attack_everything(ctx, &mut recorder)
        .and_then(|()| limits::demonstrate(ctx, &mut recorder))
        .and_then(|()| revocation::demonstrate(ctx, &mut recorder));
    recorder.finish("isolation", TITLE, result)
}

fn attack_everything(ctx: &Context, r: &mut Recorder) -> Result<()> {
    r.step("the control: every attack by ordinary processes of the same user, or root");
    let (control, harm) = hostile::control_side(ctx)?;
    r.step("now a victim of tenant maya, and an agent of tenant mallory turned hostile");
    let attacked = hostile::agent_side(ctx, hostile::Namespaces::Own)?;
    r.columns("an agent cannot", "hostile agent", "without Coconut");
    for check in judge_all(&attacked, &control, &harm) {
        r.check(check);
    }
    r.columns("and afterwards", "with Coconut", "without Coconut");
    for check in aftermath(ctx, &attacked, &control)? {
        r.check(check);
    }
    r.figure("attacks", attacked.outcomes.len() as f64, "count");
    Ok(())
}

/// One check for each attack.
pub fn judge_all(attacked: &Attacked, control: &Side, harm: &[Option<Outcome>]) -> Vec<Check> {
    let attacks = attacked.side.attacks.iter().zip(&attacked.outcomes).zip(harm);
    attacks
        .map(|((a, seen), plain)| judge(a, seen, plain.as_ref(), &control.scene.secret))
        .collect()
}

/// Refused inside, done outside: both, or the check fails.
fn judge(attack: &Attack, seen: &Outcome, plain: Option<&Outcome>, secret: &str) -> Check {
    let absent = |o: &&Outcome| attack.who == Who::UserIfThere && !o.ok;
    let note = match (attack.who, plain) {
        (Who::Nobody, _) => "root neither: sealed",
        (_, None) => "only root could",
        _ => "not on this kernel",
    };
    let control = plain.filter(|o| !absent(o)).and_then(|o| {
        let stolen = !attack.secret || o.evidence.contains(secret);
        let got = if o.evidence.contains(secret) { "got the secret" } else { &o.evidence };
        Control::new(o.ok && stolen, if o.ok { got.to_owned() } else { o.short() })
    });
    let missing = control.is_none();
    let check = Check::new(name(attack), attack.claim, seen.refused(), seen.short(), control);
    if missing { check.note(note) } else { check }
}

/// A stable name, different for attacks that make the same attempt on different things.
fn name(attack: &Attack) -> String {
    let words: String =
        attack.claim.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let words: Vec<&str> = words.split('-').filter(|w| !w.is_empty()).collect();
    format!("{}:{}", attack.attempt, words.join("-").to_lowercase())
}

/// What must hold when the attack is over.
pub fn aftermath(ctx: &Context, attacked: &Attacked, control: &Side) -> Result<Vec<Check>> {
    let scene = &attacked.side.scene;
    let (damage, plain) = (scene.damage()?, control.scene.damage()?);
    let leaked = attacked.outcomes.iter().filter(|o| o.evidence.contains(&scene.secret)).count();
    let own = attacked.own.iter().all(|o| o.ok);
    let alive = attacked.victim.agent.exit.is_none();
    let mut checks = vec![
        Check::new(
            "nothing-damaged",
            "the victim's files are as before",
            damage.is_empty(),
            if damage.is_empty() { "unchanged".to_owned() } else { damage.join(" ") },
            Control::new(!plain.is_empty(), format!("{} changed", plain.len())),
        ),
        Check::new(
            "no-secret",
            "no attempt holds the secret",
            leaked == 0,
            format!("{leaked} do"),
            None,
        )
        .note("see above"),
        Check::new(
            "victim-lives",
            "the victim still runs",
            alive,
            attacked.victim.agent.state.name(),
            None,
        )
        .note("see above"),
        Check::new(
            "own-works",
            "what it was given, it can do",
            own,
            own_words(&attacked.own),
            None,
        )
        .note("or denial proves little"),
    ];
    checks.extend(recorded(ctx, &attacked.attacker, &scene.theirs("secret.txt"))?);
    Ok(checks)
}

fn own_words(own: &[Outcome]) -> String {
    let bad = own.iter().find(|o| !o.ok);
    bad.map_or_else(|| "reads, writes".to_owned(), |o| format!("{} {}", o.attempt, o.short()))
}

/// Every denial of the kernel is one record, and one of them explains the stolen file.
fn recorded(ctx: &Context, attacker: &AgentDetail, file: &str) -> Result<Vec<Check>> {
    let aid = attacker.agent.aid.to_string();
    let (detail, in_log) = settled(ctx, &aid)?;
    let c = &detail.counters;
    let equal = c.kernel_denials == c.log_kernel_denials
        && in_log as u64 == c.log_kernel_denials + c.log_daemon_denials
        && c.kernel_denials > 0;
    let told = ctx.coconut.explain(&aid)?;
    let named = told.denials.iter().find(|d| d.object == file);
    let line = named.and_then(|d| d.manifest_line.clone());
    let observed = line.as_deref().map_or("not named", |_| "names the file");
    Ok(vec![
        Check::new(
            "denials-recorded",
            "each denial is one record",
            equal,
            format!("{} = {}", c.kernel_denials, in_log),
            None,
        )
        .note("kernel = log"),
        Check::new("explained", "explain says what and why", line.is_some(), observed, None)
            .note("and what would allow it"),
    ])
}

/// The agent and its denial records, once nothing is in flight any more.
pub fn settled(ctx: &Context, aid: &str) -> Result<(AgentDetail, usize)> {
    let mut progress = Progress::of("the log to hold what the kernel has counted");
    loop {
        let detail = ctx.coconut.show(aid)?;
        let records = ctx.coconut.records(&["--agent", aid, "--kind", "denial"])?.len();
        let c = &detail.counters;
        let equal = c.kernel_denials == c.log_kernel_denials
            && records as u64 == c.log_kernel_denials + c.log_daemon_denials;
        if equal {
            return Ok((detail, records));
        }
        progress.seen((c.kernel_denials, c.log_kernel_denials, c.log_daemon_denials, records))?;
        std::thread::sleep(Duration::from_millis(300));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(ok: bool, errno: Option<&str>, evidence: &str) -> Outcome {
        Outcome {
            attempt: "open".into(),
            target: String::new(),
            ok,
            errno: errno.map(str::to_owned),
            signal: None,
            evidence: evidence.into(),
            begun_ns: 0,
            ended_ns: 0,
        }
    }

    fn theft(who: Who) -> Attack {
        Attack { attempt: "open", claim: "read a file", argument: "/x".into(), who, secret: true }
    }

    #[test]
    fn refused_inside_and_stolen_outside_passes() {
        let inside = outcome(false, Some("EACCES"), "Permission denied");
        let outside = outcome(true, None, "SECRET-1");
        assert!(judge(&theft(Who::User), &inside, Some(&outside), "SECRET-1").passed);
    }

    #[test]
    fn a_theft_a_hang_and_a_blunt_control_all_fail() {
        let refused = outcome(false, Some("EACCES"), "Permission denied");
        let stolen = outcome(true, None, "SECRET-1");
        let late = outcome(false, None, probe::LATE);
        let attack = theft(Who::User);
        assert!(!judge(&attack, &stolen, Some(&stolen), "SECRET-1").passed);
        assert!(!judge(&attack, &late, Some(&stolen), "SECRET-1").passed);
        assert!(!judge(&attack, &refused, Some(&refused), "SECRET-1").passed);
        assert!(!judge(&attack, &refused, Some(&outcome(true, None, "other")), "SECRET-1").passed);
    }

    #[test]
    fn a_feature_that_the_kernel_lacks_needs_no_control() {
        let refused = outcome(false, Some("EACCES"), "Permission denied");
        let absent = outcome(false, Some("ENOSYS"), "not implemented");
        let check = judge(&theft(Who::UserIfThere), &refused, Some(&absent), "S");
        assert!(check.passed && check.control.is_none() && check.note.is_some());
    }

    #[test]
    fn attacks_of_one_attempt_have_different_names() {
        let key = Attack { claim: "read the user's SSH key", ..theft(Who::User) };
        assert_eq!(name(&theft(Who::User)), "open:read-a-file");
        assert_eq!(name(&key), "open:read-the-user-s-ssh-key");
    }
}
