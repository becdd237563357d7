//! Profiles: named bundles of file rights, `@python` in a manifest.

use crate::problem::{ManifestError, Problems};
use crate::rule::Rule;
use crate::types::is_name;
use crate::{capabilities, decode};
use std::collections::BTreeMap;
use std::path::Path;

/// A named bundle of rules.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Profile {
    /// Without the `@`.
    pub name: String,
    /// File rights; paths that do not exist on a machine are left out there.
    pub rules: Vec<Rule>,
}

/// A profile could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// The file or directory could not be read.
    #[error("cannot read {path}")]
    Read {
        /// Which.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The text is wrong.
    #[error("{}", .0.render())]
    Invalid(ManifestError),
}

/// The profiles of a machine.
#[derive(Clone, Debug)]
pub struct Profiles {
    by_name: BTreeMap<String, Profile>,
}

const BUILT_IN: [(&str, &str); 4] = [
    ("base", include_str!("../profiles/base.toml")),
    ("git", include_str!("../profiles/git.toml")),
    ("python", include_str!("../profiles/python.toml")),
    ("shell", include_str!("../profiles/shell.toml")),
];

impl Profile {
    /// Reads a profile: `fs.*` lists at the top level, no profiles within.
    pub fn parse(name: &str, text: &str) -> Result<Self, ManifestError> {
        let mut problems = Problems::new(text);
        let mut rules = Vec::new();
        if let Some(table) = decode::parse_table(text, &mut problems) {
            let found = capabilities::parse(&table, &mut problems);
            for (inner, span) in found.profiles {
                let message = format!("`@{inner}` in a profile");
                problems.add(span, message, "paths: profiles do not nest");
            }
            for (rule, span) in found.rules {
                if !rule.capability().name().starts_with("fs.")
                    || rule.expires.is_some()
                    || rule.uses.is_some()
                {
                    let message = format!("`{rule}` in a profile");
                    problems.add(span, message, "file rights without an expiry");
                }
                rules.push(rule);
            }
        }
        let list = problems.finish();
        if list.is_empty() {
            Ok(Profile { name: name.to_owned(), rules })
        } else {
            Err(ManifestError::new(&format!("@{name}"), text, list))
        }
    }
}

impl Profiles {
    /// Those that ship with Coconut.
    pub fn built_in() -> Self {
        let mut by_name = BTreeMap::new();
        for (name, text) in BUILT_IN {
            // The texts are compiled in and a test reads each, so an error cannot happen here.
            if let Ok(profile) = Profile::parse(name, text) {
                by_name.insert(name.to_owned(), profile);
            }
        }
        Profiles { by_name }
    }

    /// Those that ship, with `directory`'s `*.toml` in place of those of the same name.
    /// A directory that does not exist is an empty one.
    pub fn load(directory: &Path) -> Result<Self, ProfileError> {
        let mut profiles = Profiles::built_in();
        let read =
            |path: &Path, source| ProfileError::Read { path: path.display().to_string(), source };
        let entries = match std::fs::read_dir(directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(profiles),
            Err(error) => return Err(read(directory, error)),
        };
        for entry in entries {
            let path = entry.map_err(|error| read(directory, error))?.path();
            let name = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
            if path.extension().is_none_or(|extension| extension != "toml") || !is_name(name) {
                continue;
            }
            let text = std::fs::read_to_string(&path).map_err(|error| read(&path, error))?;
            let profile = Profile::parse(name, &text).map_err(ProfileError::Invalid)?;
            profiles.by_name.insert(name.to_owned(), profile);
        }
        Ok(profiles)
    }

    /// One of them; `name` is without the `@`.
    pub fn get(&self, name: &str) -> Option<&Profile> {
        self.by_name.get(name)
    }

    /// Their names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_profile_parses() {
        for (name, text) in BUILT_IN {
            let profile = Profile::parse(name, text).map_err(|e| e.render()).unwrap();
            assert!(!profile.rules.is_empty(), "{name}");
        }
        assert_eq!(Profiles::built_in().names().count(), BUILT_IN.len());
    }

    #[test]
    fn a_profile_gives_file_rights_only() {
        assert!(Profile::parse("x", "\"net.connect\" = [\"*:443\"]").is_err());
        assert!(Profile::parse("x", "\"fs.read\" = [\"@base\"]").is_err());
        assert!(Profile::parse("x", "\"fs.read\" = [\"/usr/lib\"]").is_ok());
    }

    #[test]
    fn a_directory_overrides_and_adds() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("python.toml"), "\"fs.read\" = [\"/opt/py\"]").unwrap();
        std::fs::write(dir.path().join("node.toml"), "\"fs.read\" = [\"/opt/node\"]").unwrap();
        let profiles = Profiles::load(dir.path()).unwrap();
        assert_eq!(profiles.get("python").unwrap().rules[0].to_string(), "fs.read=/opt/py");
        assert!(profiles.get("node").is_some() && profiles.get("base").is_some());
        std::fs::write(dir.path().join("bad.toml"), "\"fs.read\" = [\"opt\"]").unwrap();
        assert!(Profiles::load(dir.path()).is_err());
        assert!(Profiles::load(Path::new("/nonexistent")).is_ok());
    }
}
