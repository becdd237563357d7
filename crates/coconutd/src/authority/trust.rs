//! Whose signature under a manifest counts, and for what.

use crate::config::Config;
use crate::error::{Answer, Refusal};
use api::ErrorCode;
use attest::{ManifestFacts, TrustError, TrustStore};
use manifest::Manifest;
use std::path::{Path, PathBuf};

/// Keys that may sign manifests. Their folders are read at each use, so that a key which was revoked
/// is so from then on; a folder that cannot be read trusts nobody.
pub struct Trust {
    directories: Vec<PathBuf>,
}

impl Trust {
    /// Of these folders, in this order.
    pub fn new(config: &Config) -> Self {
        Trust { directories: config.trust.clone() }
    }

    /// Reads the trust directories.
    ///
    /// # Errors
    /// When one of their files is wrong: then nothing may be trusted.
    pub fn load(&self) -> Result<TrustStore, TrustError> {
        let directories: Vec<&Path> = self.directories.iter().map(AsRef::as_ref).collect();
        TrustStore::load(&directories)
    }

    /// Names of the keys that may sign.
    pub fn names(&self) -> Vec<String> {
        let Ok(store) = self.load() else { return Vec::new() };
        let living = store.keys().filter(|trusted| !trusted.rights.revoked);
        living.map(|trusted| trusted.key.name().to_owned()).collect()
    }

    fn store(&self) -> Answer<TrustStore> {
        self.load().map_err(|error| {
            Refusal::chain(ErrorCode::Denied, &error)
                .or_hint("no key is trusted until it is mended")
        })
    }

    /// True if nothing may run under this text, whoever asks.
    pub fn is_revoked(&self, text: &str) -> bool {
        self.load().is_ok_and(|store| store.is_revoked(&attest::sha256_hex(text.as_bytes())))
    }

    /// Who signed exactly this text. What it may grant is compared by [`super::key`], when it is
    /// known what the manifest's names lead to.
    ///
    /// # Errors
    /// When the signature does not fit (integrity), or the signer may not charge the tenant (denied).
    pub fn check(&self, text: &str, envelope: &str, manifest: &Manifest) -> Answer<Signer> {
        let store = self.store()?;
        let done = attest::verify_signature(
            text.as_bytes(),
            &facts(manifest),
            Some(envelope.as_bytes()),
            &store,
        );
        let (authorized, rights) = done.map_err(|refusal| refused(&refusal))?;
        Ok(Signer { name: authorized.signer, grants: rights.grants.clone() })
    }
}

/// Who signed a manifest.
#[derive(Clone, Debug)]
pub struct Signer {
    /// The key's name.
    pub name: String,
    /// What it may grant, in text form.
    pub grants: Vec<String>,
}

/// What a signature binds beside the text.
pub fn facts(manifest: &Manifest) -> ManifestFacts {
    ManifestFacts {
        name: manifest.agent.name.clone(),
        tenant: manifest.agent.tenant.clone(),
        capabilities: manifest.capability_texts(),
        further: Vec::new(),
    }
}

fn refused(refusal: &attest::VerifyError) -> Refusal {
    use attest::VerifyError as R;
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
