//! All that an agent will hold: its own lines, its profiles, and what follows from both.

use crate::profile::Profiles;
use crate::rule::{FsRight, Rule};
use crate::types::Manifest;
use crate::{AbsPath, CapabilitySet, PathError, TooManyRules, limits};
use abi::Capability;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The profile that every agent has.
pub const BASE_PROFILE: &str = "base";

/// Where a rule comes from: what `explain` and the audit log name.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
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
    /// A descriptor or mount that the agent was given at its start.
    Inherited,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line { line, .. } => write!(f, "manifest line {line}"),
            Self::Profile { name } => write!(f, "profile @{name}"),
            Self::Command => f.write_str("command"),
            Self::Implied { by } => write!(f, "implied by {by}"),
            Self::Grant => f.write_str("grant"),
            Self::Inherited => f.write_str("inherited"),
        }
    }
}

/// A rule with where it comes from.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct EffectiveRule {
    /// What it allows.
    pub rule: Rule,
    /// Why the agent has it.
    pub origin: Origin,
}

/// What this machine adds where a manifest holds certain capabilities.
#[derive(Clone, Debug, Default)]
pub struct Implied {
    /// With `infer`: the broker's sockets.
    pub infer: Vec<Rule>,
    /// With `agent.spawn`, `agent.signal` or `audit.read`: the daemon's socket.
    pub api: Vec<Rule>,
}

/// A manifest cannot be put into effect.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExpandError {
    /// The manifest names a profile that is not installed.
    #[error("line {line}: there is no profile `@{name}` (there are: {known})")]
    UnknownProfile {
        /// Without the `@`.
        name: String,
        /// Where the manifest names it.
        line: u32,
        /// Those that there are.
        known: String,
    },
    /// More rules than an agent may have.
    #[error(transparent)]
    TooMany(#[from] TooManyRules),
    /// The program's path; a parsed manifest cannot have it.
    #[error("command: {0}")]
    Command(#[from] PathError),
}

impl Manifest {
    /// Every rule that the agent will hold. Rule ids are positions in this list, from 1.
    pub fn effective(
        &self,
        profiles: &Profiles,
        implied: &Implied,
    ) -> Result<Vec<EffectiveRule>, ExpandError> {
        let mut list: Vec<EffectiveRule> = Vec::new();
        for declared in &self.rules {
            let origin = Origin::Line { line: declared.line, column: declared.column };
            list.push(EffectiveRule { rule: declared.rule.clone(), origin });
        }
        if let Some(program) = self.agent.command.first() {
            let rule = Rule::fs(FsRight::Exec, AbsPath::parse(program)?);
            list.push(EffectiveRule { rule, origin: Origin::Command });
        }
        self.add_implied(implied, &mut list);
        let base = (BASE_PROFILE, 0);
        for (name, line) in
            std::iter::once(base).chain(self.profiles.iter().map(|p| (p.name.as_str(), p.line)))
        {
            let profile = profiles.get(name).ok_or_else(|| ExpandError::UnknownProfile {
                name: name.to_owned(),
                line,
                known: profiles.names().map(|n| format!("@{n}")).collect::<Vec<_>>().join(", "),
            })?;
            let origin = Origin::Profile { name: name.to_owned() };
            list.extend(
                profile
                    .rules
                    .iter()
                    .map(|rule| EffectiveRule { rule: rule.clone(), origin: origin.clone() }),
            );
        }
        dedup(&mut list);
        if list.len() > limits::RULES { Err(TooManyRules.into()) } else { Ok(list) }
    }

    fn add_implied(&self, implied: &Implied, list: &mut Vec<EffectiveRule>) {
        let api = [Capability::AgentSpawn, Capability::AgentSignal, Capability::AuditRead];
        let held = |wanted: &[Capability]| {
            self.rules
                .iter()
                .map(|declared| declared.rule.capability())
                .find(|capability| wanted.contains(capability))
        };
        for (by, rules) in
            [(held(&[Capability::Infer]), &implied.infer), (held(&api), &implied.api)]
        {
            let Some(by) = by else { continue };
            list.extend(
                rules.iter().map(|rule| EffectiveRule {
                    rule: rule.clone(),
                    origin: Origin::Implied { by },
                }),
            );
        }
    }

    /// What is signed: every rule in its text form, and every profile as `@name`.
    pub fn capability_texts(&self) -> Vec<String> {
        let rules = self.rules.iter().map(|declared| declared.rule.to_string());
        let profiles = self.profiles.iter().map(|profile| format!("@{}", profile.name));
        rules.chain(profiles).collect()
    }

    /// The capabilities as a set, for subset checks.
    pub fn capability_set(
        &self,
        profiles: &Profiles,
        implied: &Implied,
    ) -> Result<CapabilitySet, ExpandError> {
        let rules = self.effective(profiles, implied)?;
        Ok(CapabilitySet::new(rules.into_iter().map(|effective| effective.rule))?)
    }
}

/// True if `grant`, an entry of a trust store, covers `capability`; both are texts as of
/// [`Manifest::capability_texts`]. A profile is covered by its own name only.
pub fn grant_covers(grant: &str, capability: &str) -> bool {
    if grant.starts_with('@') || capability.starts_with('@') {
        return grant == capability;
    }
    match (grant.parse::<Rule>(), capability.parse::<Rule>()) {
        (Ok(grant), Ok(capability)) => grant.covers(&capability),
        _ => false,
    }
}

/// Drops later doubles: the first origin is the most telling.
fn dedup(list: &mut Vec<EffectiveRule>) {
    let mut seen = std::collections::HashSet::new();
    list.retain(|effective| seen.insert(effective.rule.clone()));
}
