//! Envelopes, statements and keys: only what a key signed opens with it.

use crate::text;
use attest::{Envelope, ManifestFacts, PublicKey, SecretKey, TrustStore, TrustedKey};

fn key() -> SecretKey {
    SecretKey::from_seed("maya", &[7; 32]).unwrap()
}

/// The bytes as an envelope; and as a payload, signed and spoiled.
pub fn envelope(bytes: &[u8]) {
    let key = key();
    let mut trust = TrustStore::empty();
    let everything = vec!["*".to_owned()];
    let rights =
        attest::Rights { grants: everything.clone(), tenants: everything, ..Default::default() };
    trust.add(TrustedKey { key: key.public(), rights });
    let facts = ManifestFacts {
        name: "a".to_owned(),
        tenant: "maya".to_owned(),
        capabilities: Vec::new(),
        further: Vec::new(),
    };
    // Nobody but the corpus has this key: what opens with it was signed by it.
    if let Ok(envelope) = Envelope::parse(bytes) {
        let json = envelope.to_json();
        assert_eq!(Envelope::parse(json.as_bytes()).as_ref(), Ok(&envelope), "{json}");
        if let Some(payload) = envelope.open(&key.public()) {
            let again = Envelope::sign(&envelope.payload_type, &payload, &key);
            let signed = &again.signatures[0];
            assert!(envelope.signatures.contains(signed), "one more signature for one payload");
        }
    }
    let verified = attest::verify_manifest(b"text", &facts, Some(bytes), &trust, &|_, _| true);
    assert!(verified.is_err(), "nobody signed this manifest");
    spoiled(bytes, &key, &trust, &facts);
}

/// One byte of what was signed is another: it opens no more.
fn spoiled(bytes: &[u8], key: &SecretKey, trust: &TrustStore, facts: &ManifestFacts) {
    let Some((first, manifest)) = bytes.split_first() else { return };
    let envelope = attest::sign_manifest(manifest, facts, key, 1).to_json();
    let verifies = |manifest: &[u8], envelope: &[u8]| {
        attest::verify_manifest(manifest, facts, Some(envelope), trust, &|_, _| true).is_ok()
    };
    assert!(verifies(manifest, envelope.as_bytes()));
    let at = usize::from(*first) * 4 % envelope.len();
    let mut other = envelope.clone().into_bytes();
    other[at] ^= 1 << (at % 7);
    let same = Envelope::parse(&other).ok() == Envelope::parse(envelope.as_bytes()).ok();
    assert!(same || !verifies(manifest, &other), "byte {at} of the envelope does not count");
    let longer = [manifest, b" "].concat();
    assert!(!verifies(&longer, envelope.as_bytes()));
}

/// Public keys as they lie in the trust store.
pub fn keys(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    if let Ok(key) = text.parse::<PublicKey>() {
        assert_eq!(key.to_string().parse::<PublicKey>().unwrap(), key);
        assert!(!key.verifies(text.as_bytes(), &[0; 64]), "a weak key");
    }
    if let Ok(key) = SecretKey::from_pem("maya", text) {
        let again = SecretKey::from_pem("maya", &key.to_pem().unwrap()).unwrap();
        assert_eq!(again.public(), key.public());
    }
    if let Ok(key) = audit::VerifierKey::parse(text) {
        assert_eq!(
            audit::VerifierKey::parse(&key.to_string()).unwrap().to_string(),
            key.to_string()
        );
    }
}
