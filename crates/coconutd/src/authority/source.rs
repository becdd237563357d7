//! From a spawn request to a manifest that somebody answers for.

use super::trust::Signer;
use crate::caller::Caller;
use crate::error::{Answer, Refusal};
use crate::state::Daemon;
use api::agent::{Provenance, SpawnRequest, SpawnSource};
use manifest::{
    Agent, Children, Declared, Exec, InferScope, Manifest, Memory, Namespaces, ProfileUse, Rule,
    RuleError, Scope,
};
use std::collections::BTreeMap;

/// What is to be run, and who answers for it.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// Checked; its command has the request's arguments.
    pub manifest: Manifest,
    /// Whose.
    pub origin: Provenance,
    /// What is weaker than it should be.
    pub degraded: Option<String>,
    /// The signer, whose rights are compared with what the manifest's names lead to.
    pub signer: Option<Signer>,
}

/// Reads the source, checks its signature and the right of whoever authorizes it.
///
/// # Errors
/// Names the step that refused: `manifest`, `signature` or `authority`.
pub fn prepare(daemon: &Daemon, caller: &Caller, request: &SpawnRequest) -> Answer<Prepared> {
    let mut prepared = written(daemon, caller, request)?;
    let exec = &mut prepared.manifest.agent.exec;
    *exec = (*exec).max(exec_of(daemon, caller));
    Ok(prepared)
}

/// What a child's code is held to at least: what its parent's is.
fn exec_of(daemon: &Daemon, caller: &Caller) -> Exec {
    let Caller::Agent { aid, .. } = caller else { return Exec::Readable };
    // One that is not known makes no child; until that is found out, the stricter.
    daemon.inner().info.get(aid).map_or(Exec::Strict, |info| info.exec)
}

fn written(daemon: &Daemon, caller: &Caller, request: &SpawnRequest) -> Answer<Prepared> {
    check_extras(caller, request).map_err(|refusal| refusal.step("authority"))?;
    match &request.source {
        SpawnSource::AdHoc { tenant, name, capabilities, weight } => {
            by_caller(caller).map_err(|refusal| refusal.step("authority"))?;
            let written = ad_hoc(tenant, name.as_deref(), capabilities, *weight, &request.args)
                .map_err(|refusal| refusal.step("manifest"))?;
            let text = written.to_toml();
            let mut manifest = parse("command line", &text)?;
            // Nobody has written these lines.
            manifest.rules.iter_mut().for_each(|declared| declared.line = 0);
            manifest.agent.namespaces = inherited(daemon, caller);
            Ok(Prepared {
                manifest,
                origin: own_word(caller, "command line", &text),
                degraded: None,
                signer: None,
            })
        }
        SpawnSource::Manifest { path, text, signature, tenant, name, capabilities } => {
            let mut manifest = parse(path, text)?;
            if daemon.trust.is_revoked(text) {
                return Err(Refusal::denied(format!("{path} is revoked")).step("signature"));
            }
            manifest.agent.command.extend(request.args.iter().cloned());
            let changed = tenant.is_some() || !capabilities.is_empty();
            let (origin, degraded, signer) = if changed && !is_agent(caller) {
                by_caller(caller).map_err(|refusal| refusal.step("authority"))?;
                (own_word(caller, path, text), None, None)
            } else {
                authorize(daemon, caller, request, &manifest, path, text, signature.as_deref())?
            };
            change(&mut manifest, tenant.as_deref(), name.as_deref(), capabilities)
                .map_err(|refusal| refusal.step("manifest"))?;
            Ok(Prepared { manifest, origin, degraded, signer })
        }
    }
}

/// A child without a manifest of its own lives as its parent does, whose limit of memory holds for both.
fn inherited(daemon: &Daemon, caller: &Caller) -> Namespaces {
    let Caller::Agent { aid, .. } = caller else { return Namespaces::Own };
    daemon.inner().info.get(aid).map_or(Namespaces::Own, |info| info.namespaces)
}

fn is_agent(caller: &Caller) -> bool {
    matches!(caller, Caller::Agent { .. })
}

/// Operators answer for their own command line; an agent answers for its child with its own rights,
/// which the subset check holds it to.
fn by_caller(caller: &Caller) -> Answer<()> {
    if caller.is_operator() || is_agent(caller) {
        return Ok(());
    }
    Err(Refusal::denied(format!("{} may start signed manifests only, as they are", caller.name()))
        .hint("ask an operator, or to become a member of the group coconut"))
}

fn own_word(caller: &Caller, path: &str, text: &str) -> Provenance {
    Provenance {
        path: path.to_owned(),
        digest: attest::sha256_hex(text.as_bytes()),
        authorizer: caller.name(),
        signed: true,
    }
}

/// Variables and arguments can turn a signed program into another one.
fn check_extras(caller: &Caller, request: &SpawnRequest) -> Answer<()> {
    if caller.is_operator() || is_agent(caller) {
        return Ok(());
    }
    let harmless = |variable: &String| {
        let name = variable.split('=').next().unwrap_or_default();
        ["TERM", "COLORTERM", "LANG", "LC_ALL", "NO_COLOR", "COLUMNS", "LINES"].contains(&name)
    };
    let odd = request.env.iter().find(|variable| !harmless(variable));
    let what = match (odd, request.args.is_empty(), &request.cwd) {
        (Some(variable), _, _) => format!("the variable {variable}"),
        (None, false, _) => "arguments".to_owned(),
        (None, true, Some(_)) => "a working directory".to_owned(),
        (None, true, None) => return Ok(()),
    };
    Err(Refusal::denied(format!("{} may not add {what} to a signed manifest", caller.name())))
}

fn authorize(
    daemon: &Daemon,
    caller: &Caller,
    request: &SpawnRequest,
    manifest: &Manifest,
    path: &str,
    text: &str,
    signature: Option<&str>,
) -> Answer<(Provenance, Option<String>, Option<Signer>)> {
    let mut origin = own_word(caller, path, text);
    if is_agent(caller) {
        return Ok((origin, None, None));
    }
    match signature {
        Some(envelope) => {
            let signer =
                daemon.trust.check(text, envelope, manifest).map_err(|r| r.step("signature"))?;
            origin.authorizer.clone_from(&signer.name);
            Ok((origin, None, Some(signer)))
        }
        None if request.allow_unsigned && caller.is_operator() => {
            origin.signed = false;
            let degraded = format!("unsigned manifest {path} allowed by {}", caller.name());
            Ok((origin, Some(degraded), None))
        }
        None if request.allow_unsigned => {
            Err(Refusal::denied(format!("{} may not run unsigned manifests", caller.name()))
                .hint("ask an operator to sign it: coconut manifest sign")
                .step("signature"))
        }
        None => Err(Refusal::denied(format!("{path} is not signed: there is no {path}.sig"))
            .hint("sign it (`coconut manifest sign`), or add --allow-unsigned; the log will say so")
            .step("signature")),
    }
}

fn parse(path: &str, text: &str) -> Answer<Manifest> {
    Manifest::parse(path, text).map_err(|error| {
        let first = error.problems.first().map(ToString::to_string).unwrap_or_default();
        Refusal::usage(format!("{error}: {first}"))
            .hint("`coconut manifest check` shows all of it")
            .step("manifest")
    })
}

/// One capability of a command line: a rule, or a profile.
enum Cap {
    Rule(Rule),
    Profile(String),
}

fn cap(text: &str) -> Result<Cap, RuleError> {
    match text.split_once('=') {
        None if text == "infer" => Ok(Cap::Rule(Rule::new(Scope::Infer(InferScope::any())))),
        None if text == "net.raw" => Ok(Cap::Rule(Rule::new(Scope::NetRaw))),
        Some((key, value)) if key.trim().starts_with("fs.") && value.trim().starts_with('@') => {
            Ok(Cap::Profile(value.trim()[1..].to_owned()))
        }
        _ => text.parse().map(Cap::Rule),
    }
}

/// A capability as a command line has it.
///
/// # Errors
/// Says what is wrong with it.
pub fn parse_rule(text: &str) -> Answer<Rule> {
    let wrong = |error: String| {
        Refusal::usage(error)
            .hint("as in a manifest: 'fs.read=/srv/input', 'net.connect=host:443', infer")
    };
    match cap(text).map_err(|error| wrong(error.to_string()))? {
        Cap::Rule(rule) => Ok(rule),
        Cap::Profile(name) => {
            Err(wrong(format!("@{name} is a profile: it is held from the start only")))
        }
    }
}

fn add(manifest: &mut Manifest, capabilities: &[String]) -> Answer<()> {
    for text in capabilities {
        let line = 0;
        match cap(text) {
            Ok(Cap::Rule(rule)) => manifest.rules.push(Declared { rule, line, column: 0 }),
            Ok(Cap::Profile(name)) => manifest.profiles.push(ProfileUse { name, line, column: 0 }),
            Err(error) => {
                return Err(Refusal::usage(format!("--cap {text}: {error}")).hint(
                    "as in a manifest: --cap fs.read=/srv/input --cap net.connect=host:443 --cap infer",
                ));
            }
        }
    }
    Ok(())
}

fn change(
    manifest: &mut Manifest,
    tenant: Option<&str>,
    name: Option<&str>,
    capabilities: &[String],
) -> Answer<()> {
    for (what, value, place) in
        [("tenant", tenant, &mut manifest.agent.tenant), ("name", name, &mut manifest.agent.name)]
    {
        let Some(value) = value else { continue };
        if !manifest::is_name(value) {
            return Err(Refusal::usage(format!("`{value}` cannot be a {what}")).hint(
                "lower-case letters, digits, `-`, `_` and `.`, beginning with a letter or digit",
            ));
        }
        value.clone_into(place);
    }
    add(manifest, capabilities)
}

fn ad_hoc(
    tenant: &str,
    name: Option<&str>,
    capabilities: &[String],
    weight: Option<u32>,
    command: &[String],
) -> Answer<Manifest> {
    let program = command.first().ok_or_else(|| Refusal::usage("nothing to run"))?;
    let base = program.rsplit('/').next().unwrap_or(program).to_ascii_lowercase();
    let own: String = base
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' })
        .collect();
    let own = own.trim_start_matches(['-', '_', '.']);
    let mut manifest = Manifest {
        agent: Agent {
            name: name.unwrap_or(if own.is_empty() { "agent" } else { own }).to_owned(),
            tenant: tenant.to_owned(),
            command: command.to_vec(),
            user: None,
            cwd: None,
            env: BTreeMap::new(),
            children: Children::End,
            namespaces: Namespaces::Own,
            exec: Exec::Readable,
            digest: None,
        },
        rules: Vec::new(),
        profiles: Vec::new(),
        weight: weight.unwrap_or(api::lane::DEFAULT_WEIGHT),
        memory: Memory::default(),
        denials: None,
    };
    add(&mut manifest, capabilities)?;
    Ok(manifest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use abi::Capability;

    #[test]
    fn short_forms_of_a_command_line() {
        assert_eq!(parse_rule("infer").unwrap().capability(), Capability::Infer);
        assert_eq!(parse_rule("net.raw").unwrap().capability(), Capability::NetRaw);
        assert_eq!(parse_rule("fs.read=/srv").unwrap().to_string(), "fs.read=/srv");
        assert!(parse_rule("fs.read=@python").is_err());
        assert!(parse_rule("fs.read").is_err());
    }

    #[test]
    fn an_ad_hoc_manifest_is_a_manifest() {
        let command = ["/usr/bin/Strange Name".to_owned(), "-x".to_owned()];
        let caps = ["fs.read=@python".to_owned(), "infer".to_owned()];
        let made = ad_hoc("maya", None, &caps, Some(7), &command).unwrap();
        let back = Manifest::parse("command line", &made.to_toml()).unwrap();
        assert_eq!(back.agent.name, "strange-name");
        assert_eq!(back.weight, 7);
        assert_eq!(back.profiles[0].name, "python");
        assert_eq!(back.agent.command, command);
    }
}
