//! Is this manifest authorised, by whom, and may he grant what it asks for?

use crate::dsse::{Envelope, EnvelopeError, IN_TOTO};
use crate::keys::SecretKey;
use crate::sha256_hex;
use crate::statement::{ManifestFacts, PREDICATE, STATEMENT, Statement};
use crate::trust::{Rights, TrustStore, TrustedKey};
use serde::Serialize;

/// A manifest that may be put into effect.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Authorized {
    /// The authorizer's name.
    pub signer: String,
    /// Id of the key.
    pub key_id: String,
    /// SHA-256 of the manifest in hex.
    pub manifest_sha256: String,
    /// Seconds since the UNIX epoch at which it was signed.
    pub signed_at: u64,
}

/// Why a manifest is not authorised.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // the messages say it
pub enum VerifyError {
    #[error("the manifest is not signed")]
    Unsigned,
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    #[error("it is signed with a key that is not in the trust store: {0}")]
    UnknownKey(String),
    #[error("the key of `{0}` is revoked")]
    RevokedKey(String),
    #[error("the signature of `{0}` does not match")]
    BadSignature(String),
    #[error("what was signed is no authorization of a manifest")]
    OtherStatement,
    #[error("`{signer}` signed for the authorizer `{stated}`")]
    OtherAuthorizer { signer: String, stated: String },
    #[error("the manifest is not the one that was signed: its SHA-256 is {found}, not {signed}")]
    DigestMismatch { signed: String, found: String },
    #[error("the manifest {0} is revoked")]
    RevokedManifest(String),
    #[error("the manifest's {0} is not what was signed")]
    OtherFacts(&'static str),
    #[error("`{signer}` may not charge the tenant `{tenant}`")]
    MayNotCharge { signer: String, tenant: String },
    #[error("`{signer}` may not grant `{capability}`")]
    MayNotGrant { signer: String, capability: String },
}

/// Signs a manifest: the text of `<manifest>.sig`.
pub fn sign_manifest(
    text: &[u8],
    facts: &ManifestFacts,
    key: &SecretKey,
    signed_at: u64,
) -> Envelope {
    let statement = Statement::new(key.name(), &sha256_hex(text), facts, signed_at);
    // A statement is made of strings and numbers and always serializes.
    let payload = serde_json::to_vec(&statement).unwrap_or_default();
    Envelope::sign(IN_TOTO, &payload, key)
}

/// Checks the signature of a manifest and the signer's right to grant each of its capabilities.
///
/// `text` is the manifest's bytes and `facts` what the caller read out of them. `covers` says
/// whether a capability of the trust store covers one of the manifest's; it also decides `@name`.
/// It compares texts: whoever puts the manifest into effect compares what they lead to.
pub fn verify_manifest(
    text: &[u8],
    facts: &ManifestFacts,
    envelope: Option<&[u8]>,
    trust: &TrustStore,
    covers: &dyn Fn(&str, &str) -> bool,
) -> Result<Authorized, VerifyError> {
    let (authorized, rights) = verify_signature(text, facts, envelope, trust)?;
    let allowed = |capability: &&String| {
        rights.grants.iter().any(|grant| grant == "*" || covers(grant, capability))
    };
    match facts.capabilities.iter().chain(&facts.further).find(|c| !allowed(c)) {
        Some(capability) => Err(VerifyError::MayNotGrant {
            signer: authorized.signer,
            capability: capability.clone(),
        }),
        None => Ok(authorized),
    }
}

/// Checks the signature of a manifest and that the signer may charge its tenant; what the signer
/// may grant.
pub fn verify_signature<'t>(
    text: &[u8],
    facts: &ManifestFacts,
    envelope: Option<&[u8]>,
    trust: &'t TrustStore,
) -> Result<(Authorized, &'t Rights), VerifyError> {
    let found = sha256_hex(text);
    if trust.is_revoked(&found) {
        return Err(VerifyError::RevokedManifest(found));
    }
    let envelope = Envelope::parse(envelope.ok_or(VerifyError::Unsigned)?)?;
    if envelope.signatures.is_empty() {
        return Err(VerifyError::Unsigned);
    }
    let trusted = signer(&envelope, trust)?;
    let name = trusted.key.name();
    let payload =
        envelope.open(&trusted.key).ok_or_else(|| VerifyError::BadSignature(name.to_owned()))?;
    let statement: Statement = (envelope.payload_type == IN_TOTO)
        .then(|| serde_json::from_slice(&payload).ok())
        .flatten()
        .ok_or(VerifyError::OtherStatement)?;
    check_statement(&statement, name, &found, facts)?;
    let rights = &trusted.rights;
    if !rights.tenants.iter().any(|tenant| tenant == "*" || *tenant == facts.tenant) {
        let (signer, tenant) = (name.to_owned(), facts.tenant.clone());
        return Err(VerifyError::MayNotCharge { signer, tenant });
    }
    let authorized = Authorized {
        signer: name.to_owned(),
        key_id: trusted.key.id(),
        manifest_sha256: found,
        signed_at: statement.predicate.signed_at,
    };
    Ok((authorized, rights))
}

/// The trusted key of one of the signatures. A revoked one counts only if there is no other.
fn signer<'t>(envelope: &Envelope, trust: &'t TrustStore) -> Result<&'t TrustedKey, VerifyError> {
    let known = |trusted: &&TrustedKey| {
        let id = trusted.key.id();
        envelope.signatures.iter().any(|signature| signature.keyid == id)
    };
    let mut keys: Vec<&TrustedKey> = trust.keys().filter(known).collect();
    keys.sort_by_key(|trusted| trusted.rights.revoked);
    match keys.first() {
        Some(trusted) if trusted.rights.revoked => {
            Err(VerifyError::RevokedKey(trusted.key.name().to_owned()))
        }
        Some(trusted) => Ok(trusted),
        None => {
            let ids = envelope.signatures.iter().map(|s| s.keyid.chars().take(16).collect());
            Err(VerifyError::UnknownKey(ids.collect::<Vec<String>>().join(", ")))
        }
    }
}

fn check_statement(
    statement: &Statement,
    signer: &str,
    found: &str,
    facts: &ManifestFacts,
) -> Result<(), VerifyError> {
    let grant = &statement.predicate;
    let [subject] = statement.subject.as_slice() else { return Err(VerifyError::OtherStatement) };
    if statement.kind != STATEMENT || statement.predicate_type != PREDICATE {
        return Err(VerifyError::OtherStatement);
    }
    if grant.authorizer != signer {
        let stated = grant.authorizer.clone();
        return Err(VerifyError::OtherAuthorizer { signer: signer.to_owned(), stated });
    }
    let signed = subject.digest.get("sha256").cloned().unwrap_or_default();
    if signed != found {
        return Err(VerifyError::DigestMismatch { signed, found: found.to_owned() });
    }
    // The digest already binds all of these; that the statement says the same keeps what people
    // read in it true.
    if subject.name != facts.name {
        return Err(VerifyError::OtherFacts("name"));
    }
    if grant.tenant != facts.tenant {
        return Err(VerifyError::OtherFacts("tenant"));
    }
    if grant.capabilities != facts.sorted() {
        return Err(VerifyError::OtherFacts("list of capabilities"));
    }
    Ok(())
}
