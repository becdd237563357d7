//! The trust store: which keys may authorise what. A directory of `<name>.pub` with `<name>.toml`.

use crate::keys::{KeyError, PublicKey};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// File of manifest digests that nothing may run under, one a line.
pub const REVOKED_DIGESTS: &str = "revoked-digests";

/// A key of the store.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TrustedKey {
    /// The key.
    pub key: PublicKey,
    /// What it may do.
    pub rights: Rights,
}

/// The sidecar file. Without one a key may grant nothing.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rights {
    /// What it may grant, in text form: capabilities, each with what is below it, among them
    /// `fs.exec=…` for the program; profiles as `@name`; users as `user=NAME`. `*` is all.
    pub grants: Vec<String>,
    /// Tenants that it may charge; `*` is all.
    pub tenants: Vec<String>,
    /// Nothing that it signed counts any more.
    pub revoked: bool,
    /// Why, or whose the key is: for people.
    pub comment: String,
}

/// The trust store is unusable. Nothing is trusted then.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // the messages say it
pub enum TrustError {
    #[error("cannot read {}", .path.display())]
    Io { path: PathBuf, source: std::io::Error },
    #[error("{}: {source}", .path.display())]
    Key { path: PathBuf, source: KeyError },
    #[error("{}: the key calls itself `{name}`; name the file {name}.pub", .path.display())]
    Name { path: PathBuf, name: String },
    #[error("{}: {message}", .path.display())]
    Sidecar { path: PathBuf, message: String },
    #[error("{}: line {line} is no SHA-256 in hex", .path.display())]
    Digest { path: PathBuf, line: usize },
}

/// Keys and revoked digests.
#[derive(Clone, Debug, Default)]
pub struct TrustStore {
    keys: Vec<TrustedKey>,
    revoked: BTreeSet<String>,
}

impl TrustStore {
    /// Trusts nobody.
    pub fn empty() -> Self {
        TrustStore::default()
    }

    /// Loads directories in order: a key of a later one replaces that of the same name, so that
    /// an administrator can revoke a key that ships. Directories that do not exist are empty.
    pub fn load(directories: &[&Path]) -> Result<Self, TrustError> {
        let mut store = TrustStore::empty();
        for directory in directories {
            store.load_directory(directory)?;
        }
        Ok(store)
    }

    /// Adds a key, or replaces the one of its name.
    pub fn add(&mut self, trusted: TrustedKey) {
        self.keys.retain(|known| known.key.name() != trusted.key.name());
        self.keys.push(trusted);
    }

    /// Revokes a manifest by its SHA-256 in hex.
    pub fn revoke_digest(&mut self, sha256: &str) {
        self.revoked.insert(sha256.to_ascii_lowercase());
    }

    /// The keys.
    pub fn keys(&self) -> impl Iterator<Item = &TrustedKey> {
        self.keys.iter()
    }

    /// True if nothing may run under this manifest.
    pub fn is_revoked(&self, sha256: &str) -> bool {
        self.revoked.contains(sha256)
    }

    fn load_directory(&mut self, directory: &Path) -> Result<(), TrustError> {
        let io = |path: &Path, source| TrustError::Io { path: path.to_owned(), source };
        let entries = match fs::read_dir(directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(io(directory, error)),
        };
        let mut paths = Vec::new();
        for entry in entries {
            paths.push(entry.map_err(|error| io(directory, error))?.path());
        }
        paths.sort();
        for path in paths.iter().filter(|path| path.extension().is_some_and(|e| e == "pub")) {
            self.add(load_key(path)?);
        }
        let path = directory.join(REVOKED_DIGESTS);
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            other => other.map_err(|error| io(&path, error))?,
        };
        for (number, line) in text.lines().enumerate() {
            let digest = line.split('#').next().unwrap_or_default().trim();
            let sound = digest.len() == 64 && digest.bytes().all(|b| b.is_ascii_hexdigit());
            match (digest.is_empty(), sound) {
                (true, _) => {}
                (_, true) => self.revoke_digest(digest),
                _ => return Err(TrustError::Digest { path, line: number + 1 }),
            }
        }
        Ok(())
    }
}

fn load_key(path: &Path) -> Result<TrustedKey, TrustError> {
    let io = |path: &Path, source| TrustError::Io { path: path.to_owned(), source };
    let text = fs::read_to_string(path).map_err(|error| io(path, error))?;
    let key: PublicKey =
        text.parse().map_err(|source| TrustError::Key { path: path.to_owned(), source })?;
    if path.file_stem().is_none_or(|stem| stem != key.name()) {
        return Err(TrustError::Name { path: path.to_owned(), name: key.name().to_owned() });
    }
    let sidecar = path.with_extension("toml");
    let rights = match fs::read_to_string(&sidecar) {
        Ok(text) => toml::from_str(&text).map_err(|error: toml::de::Error| {
            TrustError::Sidecar { path: sidecar, message: error.to_string() }
        })?,
        Err(error) if error.kind() == ErrorKind::NotFound => Rights::default(),
        Err(error) => return Err(io(&sidecar, error)),
    };
    Ok(TrustedKey { key, rights })
}
