//! Every way in which a manifest can fail to be authorised.
#![allow(clippy::unwrap_used)] // helpers are test code outside of test functions

use coconut_attest::{
    Envelope, ManifestFacts, Rights, SecretKey, Statement, TrustStore, TrustedKey, VerifyError,
    dsse, sha256_hex, sign_manifest, verify_manifest,
};

const TEXT: &[u8] = b"[agent]\nname = \"a\"\n";

fn facts() -> ManifestFacts {
    let capabilities = vec!["net.connect=a.example:443".into(), "fs.read=/srv/input".into()];
    ManifestFacts { name: "a".into(), tenant: "maya".into(), capabilities, further: Vec::new() }
}

fn key() -> SecretKey {
    SecretKey::from_seed("image-workloads", &[7; 32]).unwrap()
}

fn rights(grants: &[&str]) -> Rights {
    let grants = grants.iter().map(|g| (*g).to_owned()).collect();
    Rights { grants, tenants: vec!["*".into()], ..Rights::default() }
}

fn trust(rights: Rights) -> TrustStore {
    let mut trust = TrustStore::empty();
    trust.add(TrustedKey { key: key().public(), rights });
    trust
}

/// Text prefixes: enough to tell "below" apart here.
fn covers(grant: &str, capability: &str) -> bool {
    capability.starts_with(grant)
}

fn check(envelope: &Envelope, trust: &TrustStore) -> Result<String, VerifyError> {
    let json = envelope.to_json();
    verify_manifest(TEXT, &facts(), Some(json.as_bytes()), trust, &covers).map(|a| a.signer)
}

fn signed() -> Envelope {
    sign_manifest(TEXT, &facts(), &key(), 1)
}

#[test]
fn a_signed_manifest_is_authorised() {
    let all = trust(rights(&["*"]));
    assert_eq!(check(&signed(), &all).unwrap(), "image-workloads");
    let enough = trust(rights(&["fs.read=/srv", "net.connect=a.example"]));
    assert!(check(&signed(), &enough).is_ok());
}

#[test]
fn unsigned() {
    let all = trust(rights(&["*"]));
    assert_eq!(verify_manifest(TEXT, &facts(), None, &all, &covers), Err(VerifyError::Unsigned));
    let empty = Envelope { signatures: Vec::new(), ..signed() };
    assert_eq!(check(&empty, &all), Err(VerifyError::Unsigned));
    let garbage = verify_manifest(TEXT, &facts(), Some(b"{"), &all, &covers);
    assert!(matches!(garbage, Err(VerifyError::Envelope(_))));
}

#[test]
fn unknown_and_revoked_keys() {
    let stranger = SecretKey::from_seed("image-workloads", &[8; 32]).unwrap();
    let envelope = sign_manifest(TEXT, &facts(), &stranger, 1);
    assert!(matches!(check(&envelope, &trust(rights(&["*"]))), Err(VerifyError::UnknownKey(_))));
    assert!(matches!(check(&signed(), &TrustStore::empty()), Err(VerifyError::UnknownKey(_))));
    let revoked = Rights { revoked: true, ..rights(&["*"]) };
    assert_eq!(
        check(&signed(), &trust(revoked)),
        Err(VerifyError::RevokedKey("image-workloads".into()))
    );
}

#[test]
fn a_stolen_key_id_is_a_bad_signature() {
    let stranger = SecretKey::from_seed("image-workloads", &[8; 32]).unwrap();
    let mut envelope = sign_manifest(TEXT, &facts(), &stranger, 1);
    envelope.signatures[0].keyid = key().public().id();
    assert!(matches!(check(&envelope, &trust(rights(&["*"]))), Err(VerifyError::BadSignature(_))));
}

#[test]
fn another_manifest_and_a_revoked_one() {
    let json = signed().to_json();
    let mut all = trust(rights(&["*"]));
    let other = verify_manifest(b"[agent]\n", &facts(), Some(json.as_bytes()), &all, &covers);
    assert!(matches!(other, Err(VerifyError::DigestMismatch { .. })), "{other:?}");
    all.revoke_digest(&sha256_hex(TEXT));
    assert!(matches!(check(&signed(), &all), Err(VerifyError::RevokedManifest(_))));
}

#[test]
fn not_allowed_to_grant() {
    let refused = check(&signed(), &trust(rights(&["fs.read=/srv"]))).unwrap_err();
    let text = refused.to_string();
    assert_eq!(text, "`image-workloads` may not grant `net.connect=a.example:443`");
    assert!(matches!(check(&signed(), &trust(rights(&[]))), Err(VerifyError::MayNotGrant { .. })));
    let poor = Rights { tenants: vec!["otto".into()], ..rights(&["*"]) };
    assert!(matches!(check(&signed(), &trust(poor)), Err(VerifyError::MayNotCharge { .. })));
}

/// Signs any statement with the trusted key.
fn forge(change: impl Fn(&mut Statement)) -> Envelope {
    let mut statement = Statement::new("image-workloads", &sha256_hex(TEXT), &facts(), 1);
    change(&mut statement);
    Envelope::sign(dsse::IN_TOTO, &serde_json::to_vec(&statement).unwrap(), &key())
}

#[test]
fn a_statement_must_say_what_the_manifest_says() {
    let all = trust(rights(&["*"]));
    assert!(check(&forge(|_| {}), &all).is_ok());
    let forgeries = [
        forge(|s| s.predicate.authorizer = "root".into()),
        forge(|s| s.predicate.tenant = "otto".into()),
        forge(|s| s.predicate.capabilities.truncate(1)),
        forge(|s| s.subject[0].name = "b".into()),
        forge(|s| s.subject.push(s.subject[0].clone())),
        forge(|s| s.subject.clear()),
        forge(|s| s.subject[0].digest.clear()),
        forge(|s| s.kind = "https://in-toto.io/Statement/v0.1".into()),
        forge(|s| s.predicate_type = "https://slsa.dev/provenance/v1".into()),
    ];
    for envelope in forgeries {
        assert!(check(&envelope, &all).is_err(), "{}", envelope.to_json());
    }
    let retyped = Envelope::sign("text/plain", b"{}", &key());
    assert_eq!(check(&retyped, &all), Err(VerifyError::OtherStatement));
}

#[test]
fn a_signature_covers_every_field_that_decides() {
    use base64::prelude::{BASE64_STANDARD, Engine};
    let all = trust(rights(&["*"]));
    let envelope = signed();
    let payload = BASE64_STANDARD.decode(&envelope.payload).unwrap();
    for at in 0..payload.len() {
        let mut changed = payload.clone();
        changed[at] ^= 1;
        let changed = Envelope { payload: BASE64_STANDARD.encode(changed), ..envelope.clone() };
        assert!(matches!(check(&changed, &all), Err(VerifyError::BadSignature(_))), "byte {at}");
    }
    let retyped = Envelope { payload_type: "application/json".into(), ..envelope.clone() };
    assert!(matches!(check(&retyped, &all), Err(VerifyError::BadSignature(_))));
    let mut other_facts = facts();
    other_facts.capabilities.push("fs.read=/".into());
    let json = envelope.to_json();
    let more = verify_manifest(TEXT, &other_facts, Some(json.as_bytes()), &all, &covers);
    assert_eq!(more, Err(VerifyError::OtherFacts("list of capabilities")));
    for at in 0..TEXT.len() {
        let mut text = TEXT.to_vec();
        text[at] ^= 1;
        assert!(verify_manifest(&text, &facts(), Some(json.as_bytes()), &all, &covers).is_err());
    }
}

#[test]
fn the_trust_store_on_disk() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    file("image-workloads.pub", &format!("{}\n", key().public()));
    let load = || TrustStore::load(&[dir.path()]);
    let without = check(&signed(), &load().unwrap());
    assert!(matches!(without, Err(VerifyError::MayNotCharge { .. })), "no sidecar, no rights");
    file("image-workloads.toml", "grants = [\"*\"]\ntenants = [\"*\"]\n");
    assert!(check(&signed(), &load().unwrap()).is_ok());
    file("revoked-digests", &format!("# why\n{} # leaked\n", sha256_hex(TEXT)));
    assert!(matches!(check(&signed(), &load().unwrap()), Err(VerifyError::RevokedManifest(_))));
    file("revoked-digests", "nonsense\n");
    assert!(load().is_err());
    file("revoked-digests", "");
    file("image-workloads.toml", "grant = [\"*\"]\n");
    assert!(load().is_err(), "an unknown key in a sidecar is no silent no");
    file("image-workloads.toml", "grants = [\"*\"]\ntenants = [\"*\"]\nrevoked = true\n");
    assert!(matches!(check(&signed(), &load().unwrap()), Err(VerifyError::RevokedKey(_))));
    file("somebody.pub", &key().public().to_string());
    assert!(load().is_err(), "a key under another name");
}

#[test]
fn a_later_directory_revokes_a_shipped_key() {
    let (shipped, own) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for (dir, sidecar) in
        [(&shipped, "grants = [\"*\"]\ntenants = [\"*\"]\n"), (&own, "revoked = true\n")]
    {
        std::fs::write(dir.path().join("image-workloads.pub"), key().public().to_string()).unwrap();
        std::fs::write(dir.path().join("image-workloads.toml"), sidecar).unwrap();
    }
    let trust = TrustStore::load(&[shipped.path(), own.path()]).unwrap();
    assert!(matches!(check(&signed(), &trust), Err(VerifyError::RevokedKey(_))));
}
