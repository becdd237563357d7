//! Rules name real paths: `/bin/sh` is held as `/usr/bin/dash`.
//!
//! A subset is decided by names, the kernel decides by what a name leads to. If a name could be a
//! link, a child could be given a link inside its parent's folder that leads out of it.

use manifest::{AbsPath, EffectiveRule, Origin, Rule, Scope, UnixAddress};
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long it is remembered where a path of Coconut's own leads; no agent can change those.
const REMEMBERED: Duration = Duration::from_secs(5);

type Seen = (Instant, Option<PathBuf>);

/// Where the paths of profiles lead, for all agents that have them.
#[derive(Default)]
pub struct Paths {
    own: Mutex<HashMap<PathBuf, Seen>>,
}

impl Paths {
    /// The rules with real paths, each once, in their order. A path that leads nowhere stays as it is.
    pub fn real(&self, rules: Vec<EffectiveRule>) -> Vec<EffectiveRule> {
        let mut seen = HashSet::new();
        let real = rules.into_iter().map(|effective| {
            let rule = match is_ours(&effective.origin) {
                true => with_path(effective.rule, |path| self.remembered(path)),
                false => real(effective.rule),
            };
            EffectiveRule { rule, origin: effective.origin }
        });
        real.filter(|effective| seen.insert(effective.rule.clone())).collect()
    }

    /// True if a path of Coconut's own leads somewhere on this machine.
    pub fn exists(&self, path: &Path) -> bool {
        self.remembered(path).is_some()
    }

    /// Looks again the next time.
    pub fn forget(&self, path: &Path) {
        self.own.lock().unwrap_or_else(PoisonError::into_inner).remove(path);
    }

    fn remembered(&self, path: &Path) -> Option<PathBuf> {
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        match own.get(path) {
            Some((at, real)) if now.duration_since(*at) < REMEMBERED => real.clone(),
            _ => {
                let real = std::fs::canonicalize(path).ok();
                own.insert(path.to_owned(), (now, real.clone()));
                real
            }
        }
    }
}

/// Paths that a package brings in: an agent cannot put something else there.
pub fn is_ours(origin: &Origin) -> bool {
    matches!(origin, Origin::Profile { .. } | Origin::Implied { .. })
}

/// The rule with the path that its own leads to; as it is, if that leads nowhere.
pub fn real(rule: Rule) -> Rule {
    with_path(rule, |path| std::fs::canonicalize(path).ok())
}

fn with_path(mut rule: Rule, resolve: impl Fn(&Path) -> Option<PathBuf>) -> Rule {
    let path = match &mut rule.scope {
        Scope::Fs { path, .. } | Scope::Device(path) => path,
        Scope::Unix(UnixAddress::Path(path)) => path,
        _ => return rule,
    };
    let real = resolve(Path::new(path.as_str()));
    let real = real.as_deref().and_then(Path::to_str).and_then(|text| AbsPath::parse(text).ok());
    if let Some(real) = real {
        *path = real;
    }
    rule
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_held_as_what_it_leads_to() {
        let dir = tempfile::tempdir().unwrap();
        let root = std::fs::canonicalize(dir.path()).unwrap();
        std::fs::create_dir(root.join("secret")).unwrap();
        std::os::unix::fs::symlink(root.join("secret"), root.join("link")).unwrap();
        let rule = |name: &str| -> Rule {
            format!("fs.read={}", root.join(name).display()).parse().unwrap()
        };
        assert_eq!(real(rule("link")), rule("secret"));
        assert_eq!(real(rule("nothing")), rule("nothing"));
        let paths = Paths::default();
        let origin = Origin::Profile { name: "x".into() };
        let both = ["link", "secret"]
            .map(|name| EffectiveRule { rule: rule(name), origin: origin.clone() });
        let held = paths.real(both.to_vec());
        assert_eq!(held.len(), 1, "two names of one thing are one rule");
        assert_eq!(held[0].rule, rule("secret"));
    }
}
