//! Whose signature under a manifest counts, and for what.

use crate::config::Config;
use crate::error::{Answer, Refusal};
use api::ErrorCode;
use attest::{ManifestFacts, TrustError, TrustStore};
use manifest::{Manifest, Rule};
use std::path::Path;

/// Keys that may sign manifests.
#[derive(Default)]
pub struct Trust {
    store: TrustStore,
}

impl Trust {
    /// Loads the trust directories.
    ///
    /// # Errors
    /// When one of their files is wrong: then nothing may be trusted.
    pub fn load(config: &Config) -> Result<Self, TrustError> {
        let directories: Vec<&Path> = config.trust.iter().map(AsRef::as_ref).collect();
        Ok(Trust { store: TrustStore::load(&directories)? })
    }

    /// Names of the keys that may sign.
    pub fn names(&self) -> Vec<String> {
        let living = self.store.keys().filter(|trusted| !trusted.rights.revoked);
        living.map(|trusted| trusted.key.name().to_owned()).collect()
    }

    /// True if nothing may run under this text, whoever asks.
    pub fn is_revoked(&self, text: &str) -> bool {
        self.store.is_revoked(&attest::sha256_hex(text.as_bytes()))
    }

    /// The name of whoever signed exactly this text and may grant all that it asks for.
    ///
    /// # Errors
    /// When the signature does not fit (integrity), or the signer may not grant it (denied).
    pub fn check(&self, text: &str, envelope: &str, manifest: &Manifest) -> Answer<String> {
        let done = attest::verify_manifest(
            text.as_bytes(),
            &facts(manifest),
            Some(envelope.as_bytes()),
            &self.store,
            &covers,
        );
        done.map(|authorized| authorized.signer).map_err(|refusal| refused(&refusal))
    }
}

/// What a signature binds beside the text.
pub fn facts(manifest: &Manifest) -> ManifestFacts {
    let rules = manifest.rules.iter().map(|declared| declared.rule.to_string());
    let profiles = manifest.profiles.iter().map(|profile| format!("@{}", profile.name));
    ManifestFacts {
        name: manifest.agent.name.clone(),
        tenant: manifest.agent.tenant.clone(),
        capabilities: rules.chain(profiles).collect(),
    }
}

/// Whether a capability of the trust store covers one of a manifest's. Profiles only ship with
/// the system or its administrator, so a name stands for itself; `@*` is any.
pub fn covers(granted: &str, wanted: &str) -> bool {
    if wanted.starts_with('@') {
        return granted == wanted || granted == "@*";
    }
    match (granted.parse::<Rule>(), wanted.parse::<Rule>()) {
        (Ok(granted), Ok(wanted)) => granted.covers(&wanted),
        _ => false,
    }
}

fn refused(refusal: &attest::Refusal) -> Refusal {
    use attest::Refusal as R;
    let (code, hint) = match refusal {
        R::MayNotGrant { .. } | R::MayNotCharge { .. } => {
            (ErrorCode::Denied, "the key's .toml in the trust directory says what it may grant")
        }
        R::UnknownKey(_) | R::RevokedKey(_) | R::Unsigned | R::RevokedManifest(_) => {
            (ErrorCode::Denied, "`coconut key ls` shows the keys that are trusted here")
        }
        _ => (ErrorCode::Integrity, "sign it again: coconut manifest sign"),
    };
    Refusal::new(code, refusal.to_string()).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::covers;

    #[test]
    fn what_a_key_may_grant_covers_what_is_below_it() {
        assert!(covers("fs.read=/srv", "fs.read=/srv/input"));
        assert!(!covers("fs.read=/srv/input", "fs.read=/srv"));
        assert!(covers("@python", "@python") && covers("@*", "@git"));
        assert!(!covers("@python", "@git") && !covers("fs.read=/", "@git"));
    }
}
