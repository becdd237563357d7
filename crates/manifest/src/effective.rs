//! Where an agent's rules come from, and what somebody must be allowed to grant for them.

use crate::profile::Profiles;
use crate::rule::Rule;
use crate::types::Manifest;
use abi::Capability;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Where a rule comes from: what `explain` and the audit log name.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "from")]
pub enum Origin {
    /// A line of the manifest.
    Line {
        /// 1-based.
        line: u32,
        /// 1-based.
        column: u32,
    },
    /// A profile. A path of it that does not exist on this machine is left out.
    Profile {
        /// Without the `@`.
        name: String,
    },
    /// `command[0]`: an agent may start what it is.
    Command,
    /// What another capability needs to be of use.
    Implied {
        /// By which capability.
        by: Capability,
    },
    /// A grant while the agent ran.
    Grant,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line { line, .. } => write!(f, "manifest line {line}"),
            Self::Profile { name } => write!(f, "profile @{name}"),
            Self::Command => f.write_str("command"),
            Self::Implied { by } => write!(f, "implied by {by}"),
            Self::Grant => f.write_str("grant"),
        }
    }
}

impl Manifest {
    /// What is signed: every rule in its text form, and every profile as `@name`.
    pub fn capability_texts(&self) -> Vec<String> {
        let rules = self.rules.iter().map(|declared| declared.rule.to_string());
        let profiles = self.profiles.iter().map(|profile| format!("@{}", profile.name));
        rules.chain(profiles).collect()
    }

    /// What the manifest gives beside its capabilities, in the same form: its program, and the user
    /// that it names.
    pub fn further_texts(&self) -> Vec<String> {
        let program = self.agent.command.first().map(|program| format!("fs.exec={program}"));
        let user = self.agent.user.as_ref().map(|user| format!("user={user}"));
        program.into_iter().chain(user).collect()
    }
}

/// True if `grant`, an entry of a trust store, covers `wanted`; both are texts as of
/// [`Manifest::capability_texts`] and [`Manifest::further_texts`]. A profile covers itself, `@*`
/// every profile, and each what is in it.
pub fn grant_covers(grant: &str, wanted: &str, profiles: &Profiles) -> bool {
    if grant == wanted || (grant == "@*" && wanted.starts_with('@')) {
        return true;
    }
    let Ok(wanted) = wanted.parse::<Rule>() else { return false };
    match grant.strip_prefix('@') {
        Some("*") => profiles.names().any(|name| profile_covers(profiles, name, &wanted)),
        Some(name) => profile_covers(profiles, name, &wanted),
        None => grant.parse::<Rule>().is_ok_and(|grant| grant.covers(&wanted)),
    }
}

fn profile_covers(profiles: &Profiles, name: &str, wanted: &Rule) -> bool {
    profiles.get(name).is_some_and(|profile| profile.rules.iter().any(|rule| rule.covers(wanted)))
}
