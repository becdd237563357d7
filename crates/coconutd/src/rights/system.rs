//! Sets that come with the system: profiles, and what `infer` and the like need on this machine.
//! Their names are followed: what the system puts there is allowed in place of what was there.

use super::{KernelSet, Room, place};
use crate::config::Config;
use crate::port::{Lookup, Resolved, Target};
use abi::Capability;
use api::broker::BROKER_PORT;
use manifest::{AbsPath, Origin, Profiles, Rule, Scope, UnixAddress};
use resolve::following::Following;
use resolve::targets::Absent;
use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use supervisor::SetRule;

/// Folders that are watched for followed names, at most.
const FOLDERS: usize = 4_096;
/// The tenant that the system's own names are asked as.
const SYSTEM: &str = "coconut";

/// The system's sets, held as long as the daemon runs.
pub struct System {
    profiles: HashMap<String, Arc<KernelSet>>,
    implied: HashMap<Capability, Arc<KernelSet>>,
    /// By name as written, the sets and positions that stand on it.
    followed: HashMap<AbsPath, Vec<(Arc<KernelSet>, usize)>>,
    following: Option<Following>,
}

/// What another capability needs: `infer` the broker, agents that deal with agents the daemon.
fn implied(config: &Config) -> Vec<(Capability, Vec<Rule>)> {
    let parse = |text: String| text.parse::<Rule>().ok();
    let unix = |path: PathBuf| parse(format!("ipc.unix={}", path.display()));
    let broker =
        [parse(format!("net.connect=127.0.0.1:{BROKER_PORT}")), unix(config.broker_socket())];
    let api = [unix(config.api_socket()), unix(config.stdio_socket())];
    let api = |by| (by, api.iter().flatten().cloned().collect());
    vec![
        (Capability::Infer, broker.into_iter().flatten().collect()),
        api(Capability::AgentSpawn),
        api(Capability::AgentSignal),
        api(Capability::AuditRead),
    ]
}

impl System {
    /// Looks every name up and begins to follow it. Within a tokio runtime.
    pub async fn start(
        config: &Config,
        profiles: &Profiles,
        room: &Room,
        lookup: &dyn Lookup,
    ) -> System {
        let following = Following::new(FOLDERS)
            .inspect_err(|error| tracing::error!(%error, "no name is followed"))
            .ok();
        let mut system = System {
            profiles: HashMap::new(),
            implied: HashMap::new(),
            followed: HashMap::new(),
            following,
        };
        for name in profiles.names() {
            let Some(profile) = profiles.get(name) else { continue };
            let origin = Origin::Profile { name: name.to_owned() };
            let set = system.set(&profile.rules, &origin, room, lookup, false).await;
            system.profiles.insert(name.to_owned(), set);
        }
        for (by, rules) in implied(config) {
            // The broker makes its socket in a folder of ours, where nobody else can.
            let set = system.set(&rules, &Origin::Implied { by }, room, lookup, true).await;
            system.implied.insert(by, set);
        }
        system
    }

    async fn set(
        &mut self,
        rules: &[Rule],
        origin: &Origin,
        room: &Room,
        lookup: &dyn Lookup,
        ours: bool,
    ) -> Arc<KernelSet> {
        let names: Vec<Option<AbsPath>> = rules
            .iter()
            .map(|rule| {
                path_of(rule).filter(|path| (ours || is_systems(path.as_path())) && self.add(path))
            })
            .map(|path| path.cloned())
            .collect();
        let wanted: Vec<(Rule, Absent)> =
            rules.iter().map(|rule| (rule.clone(), Absent::LeftOut)).collect();
        let resolved = looked_up(lookup, &wanted).await;
        let rules = resolved.into_iter().zip(&names).map(|(Resolved { rule, target }, name)| {
            let place = place(&rule, &target, name.is_some());
            let origin = origin.clone();
            let rule =
                SetRule { rule, origin, expires_ns: None, counter: None, place, granted_ns: 0 };
            (rule, target)
        });
        let set = room.intern(rules.collect());
        for (position, name) in names.into_iter().enumerate() {
            if let Some(name) = name {
                self.followed.entry(name).or_default().push((set.clone(), position));
            }
        }
        set
    }

    fn add(&self, path: &AbsPath) -> bool {
        let Some(following) = &self.following else { return false };
        let added = following.add(path);
        added.inspect_err(|error| tracing::warn!(%error, "a name is not followed")).is_ok()
    }

    /// A profile's set.
    pub fn profile(&self, name: &str) -> Option<&Arc<KernelSet>> {
        self.profiles.get(name)
    }

    /// Every set of the system's.
    pub fn all(&self) -> impl Iterator<Item = &Arc<KernelSet>> {
        self.profiles.values().chain(self.implied.values())
    }

    /// Names of the profiles, in order.
    pub fn profiles(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.profiles.keys().map(String::as_str).collect();
        names.sort_unstable();
        names
    }

    /// What a capability needs of the system, if it does.
    pub fn implied(&self, by: Capability) -> Option<&Arc<KernelSet>> {
        self.implied.get(&by)
    }

    /// Follows names as long as the daemon runs.
    pub async fn follow(&self, room: &Room, lookup: &dyn Lookup) {
        let Some(following) = &self.following else { return };
        loop {
            match following.changed().await {
                Ok(path) => self.renew(&path, room, lookup).await,
                Err(error) => {
                    tracing::error!(%error, "names are not followed any more");
                    return;
                }
            }
        }
    }

    /// Gives everybody who holds a rule of this name what the name leads to now.
    async fn renew(&self, path: &AbsPath, room: &Room, lookup: &dyn Lookup) {
        let Some(standing) = self.followed.get(path) else { return };
        for (set, position) in standing {
            let Some(rule) = set.set().positions().get(*position).and_then(Option::as_ref) else {
                continue;
            };
            let named = with_path(&rule.rule, path);
            let found = lookup.rules(SYSTEM, &[(named, Absent::LeftOut)]).await;
            let target = match found {
                Ok(found) => found.into_iter().next().map_or(Target::Nothing, |one| one.target),
                Err(error) => {
                    tracing::warn!(%error, %path, "what is there now carries no rights");
                    Target::Nothing
                }
            };
            for holder in std::iter::once(set.clone()).chain(made_of(room, set)) {
                if let Err(error) = holder.follow(*position, &target) {
                    tracing::error!(%error, %path, "cannot follow the name");
                }
            }
        }
    }
}

/// What cannot carry rights on this machine gives none; the rest of the profile does.
async fn looked_up(lookup: &dyn Lookup, wanted: &[(Rule, Absent)]) -> Vec<Resolved> {
    if let Ok(all) = lookup.rules(SYSTEM, wanted).await {
        return all;
    }
    let mut all = Vec::with_capacity(wanted.len());
    for one in wanted {
        let nothing = || Resolved { rule: one.0.clone(), target: Target::Nothing };
        let found = lookup.rules(SYSTEM, std::slice::from_ref(one)).await;
        let found = found.inspect_err(|error| tracing::warn!(%error, "a rule of the system's"));
        all.push(found.ok().and_then(|found| found.into_iter().next()).unwrap_or_else(nothing));
    }
    all
}

/// Sets that were made out of `set`, directly or through others: positions stay.
fn made_of(room: &Room, set: &Arc<KernelSet>) -> Vec<Arc<KernelSet>> {
    let mut all = room.all();
    all.sort_by_key(|one| one.set().key());
    let mut family = vec![set.set().key()];
    let mut found = Vec::new();
    // A set is younger than what it was made out of.
    for one in all {
        if one.set().from().is_some_and(|from| family.contains(&from)) {
            family.push(one.set().key());
            found.push(one);
        }
    }
    found
}

fn path_of(rule: &Rule) -> Option<&AbsPath> {
    match &rule.scope {
        Scope::Fs { path, .. } | Scope::Device(path) | Scope::Unix(UnixAddress::Path(path)) => {
            Some(path)
        }
        _ => None,
    }
}

fn with_path(rule: &Rule, name: &AbsPath) -> Rule {
    let mut rule = rule.clone();
    if let Scope::Fs { path, .. } | Scope::Device(path) | Scope::Unix(UnixAddress::Path(path)) =
        &mut rule.scope
    {
        path.clone_from(name);
    }
    rule
}

/// True if nobody but root decides what a name leads to: every folder on the way is root's alone.
fn is_systems(path: &Path) -> bool {
    let real = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let roots = |folder: &Path| match std::fs::metadata(folder) {
        Ok(found) => found.uid() == 0 && (found.mode() & 0o022 == 0 || found.mode() & 0o1000 != 0),
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    };
    [path, &real].iter().all(|path| path.ancestors().skip(1).all(roots))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_folder_that_others_may_write_to_is_not_the_systems() {
        assert!(is_systems(Path::new("/etc/hosts")));
        let dir = tempfile::tempdir_in("/etc").unwrap();
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o777)).unwrap();
        assert!(!is_systems(&dir.path().join("hosts")));
    }
}
