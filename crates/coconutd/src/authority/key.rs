//! What a key may grant, compared with what the names in a manifest led to.

use super::trust::Signer;
use crate::clock;
use crate::error::{Answer, Refusal};
use crate::port::Resolved;
use crate::rights::{Wanted, place};
use crate::state::Daemon;
use manifest::{Origin, Rule, Scope};
use resolve::targets::Absent;
use supervisor::{Counter, Place, SetRule};

/// Beginning of a grant that allows to run as a user: `user=postgres`.
const USER: &str = "user=";

/// Compares everything that a signed manifest gives: rules, program, profiles, user.
///
/// `user` is the one that the manifest names, if that is not whoever asks anyway.
///
/// # Errors
/// Names the first thing that the signer may not grant.
pub async fn check(
    daemon: &Daemon,
    signer: &Signer,
    tenant: &str,
    wanted: &Wanted,
    user: Option<&str>,
) -> Answer<()> {
    let grants = &signer.grants;
    if grants.iter().any(|grant| grant == "*") {
        return Ok(());
    }
    let refuse = |what: String| {
        Refusal::denied(format!("`{}` may not grant `{what}`", signer.name))
            .hint("the key's .toml in the trust directory says what it may grant")
            .step("signature")
    };
    let named = |name: &str| grants.iter().any(|g| g == "@*" || g.strip_prefix('@') == Some(name));
    // The first profile is that of every agent.
    if let Some(profile) = wanted.profiles.iter().skip(1).find(|profile| !named(profile)) {
        return Err(refuse(format!("@{profile}")));
    }
    if let Some(user) = user
        && !grants.iter().any(|grant| grant.strip_prefix(USER) == Some(user))
    {
        return Err(refuse(format!("{USER}{user}")));
    }
    let granted = granted(daemon, grants, tenant).await?;
    match wanted.own.iter().find(|rule| !granted.iter().any(|grant| covers(grant, rule))) {
        Some(rule) => Err(refuse(rule.rule.to_string())),
        None => Ok(()),
    }
}

/// The rules that a key may grant: its own lines, and those of its profiles.
async fn granted(daemon: &Daemon, grants: &[String], tenant: &str) -> Answer<Vec<SetRule>> {
    let now = clock::boot_ns();
    let rules = grants.iter().filter_map(|grant| grant.parse::<Rule>().ok());
    // Host names are compared as names: what they lead to is the name server's word.
    let (hosts, rules): (Vec<Rule>, Vec<Rule>) = rules.partition(is_host);
    let asked: Vec<(Rule, Absent)> =
        rules.into_iter().map(|rule| (rule, Absent::LeftOut)).collect();
    let found = daemon.lookup.rules(tenant, &asked).await;
    let found = found.map_err(|e| Refusal::chain(api::ErrorCode::Failed, &e).step("signature"))?;
    let rule = |asked: &Rule, scope: Scope, place: Place| SetRule {
        rule: Rule::new(scope),
        origin: Origin::Grant,
        expires_ns: supervisor::absolute(asked, now),
        counter: asked.uses.map(|uses| Counter { key: 0, uses: uses.into() }),
        place,
        granted_ns: 0,
    };
    let files =
        found.into_iter().zip(&asked).map(|(Resolved { rule: found, target }, (asked, _))| {
            let place = place(&found, &target, false);
            rule(asked, found.scope, place)
        });
    let hosts = hosts.iter().map(|host| rule(host, host.scope.clone(), Place::Free));
    let mut all: Vec<SetRule> = files.chain(hosts).collect();
    for name in grants.iter().filter_map(|grant| grant.strip_prefix('@')) {
        if let Some(profile) = daemon.system.profile(name) {
            all.extend(profile.set().rules().map(|(_, rule)| rule.clone()));
        }
    }
    Ok(all)
}

fn is_host(rule: &Rule) -> bool {
    matches!(&rule.scope, Scope::Net { endpoint, .. } if matches!(endpoint.host, manifest::Host::Name(_)))
}

fn covers(grant: &SetRule, wanted: &SetRule) -> bool {
    let long_enough = match (grant.expires_ns, wanted.expires_ns) {
        (None, _) => true,
        (Some(grant), Some(wanted)) => grant >= wanted,
        (Some(_), None) => false,
    };
    let often_enough = match (grant.counter, wanted.counter) {
        (None, _) => true,
        (Some(grant), Some(wanted)) => grant.uses >= wanted.uses,
        (Some(_), None) => false,
    };
    grant.covers(wanted) && long_enough && often_enough
}
