//! The log's key on disk: the secret one readable by its owner only, the public one beside the log.

use crate::error::Error;
use crate::note::{NoteSigner, VerifierKey, is_key_name};
use base64::prelude::{BASE64_STANDARD, Engine};
use ed25519_dalek::SigningKey;
use std::io::Write;
use std::path::Path;

/// File name of the public key beside the log.
pub const VKEY_FILE: &str = "log.vkey";

/// Makes a key and stores it under `path` with mode 0600; refuses to overwrite one.
pub fn generate(origin: &str, path: &Path) -> Result<NoteSigner, Error> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed)
        .map_err(|error| Error::Key(format!("no random numbers: {error}")))?;
    let signer = NoteSigner::new(origin, SigningKey::from_bytes(&seed))?;
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path).map_err(|error| Error::io("make", path, error))?;
    let written = file.write_all(private_text(&signer).as_bytes()).and_then(|()| file.sync_all());
    written.map_err(|error| Error::io("write", path, error))?;
    Ok(signer)
}

/// Loads a key; refuses one that others may read.
pub fn load(path: &Path) -> Result<NoteSigner, Error> {
    let text = std::fs::read_to_string(path).map_err(|error| Error::io("read", path, error))?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let meta = std::fs::metadata(path).map_err(|error| Error::io("read", path, error))?;
        if meta.permissions().mode() & 0o077 != 0 {
            let why = format!("{} can be read by others; chmod 600 it", path.display());
            return Err(Error::Key(why));
        }
    }
    parse_private(&text).ok_or_else(|| Error::Key(format!("{} holds no log key", path.display())))
}

/// Loads the key under `path`, or makes one if there is none.
pub fn load_or_generate(origin: &str, path: &Path) -> Result<NoteSigner, Error> {
    if path.exists() { load(path) } else { generate(origin, path) }
}

/// Loads a public key: the file's text, or the text itself where it is one.
pub fn load_verifier(path: &Path) -> Result<VerifierKey, Error> {
    let text = std::fs::read_to_string(path).map_err(|error| Error::io("read", path, error))?;
    VerifierKey::parse(&text)
}

/// The private key text of the Go note package, which C2SP tools read.
fn private_text(signer: &NoteSigner) -> String {
    let key = [&[1], signer.secret().to_bytes().as_slice()].concat();
    let id = signer.verifier().id();
    format!("PRIVATE+KEY+{}+{id}+{}\n", signer.name(), BASE64_STANDARD.encode(key))
}

fn parse_private(text: &str) -> Option<NoteSigner> {
    let rest = text.trim().strip_prefix("PRIVATE+KEY+")?;
    let mut parts = rest.splitn(3, '+');
    let (name, id, key) = (parts.next()?, parts.next()?, parts.next()?);
    let bytes = BASE64_STANDARD.decode(key).ok()?;
    let (&1, seed) = bytes.split_first()? else { return None };
    let seed: &[u8; 32] = seed.try_into().ok()?;
    let signer = NoteSigner::new(name, SigningKey::from_bytes(seed)).ok()?;
    (is_key_name(name) && signer.verifier().id() == id).then_some(signer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_survives_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.key");
        let made = load_or_generate("a.example/log", &path).unwrap();
        let loaded = load_or_generate("ignored", &path).unwrap();
        assert_eq!(made.verifier(), loaded.verifier());
        assert!(generate("a.example/log", &path).is_err(), "never overwritten");
        let theirs = signed_note::StandardSigner::new(private_text(&made).trim());
        assert!(theirs.is_ok(), "an independent implementation reads it");
    }

    #[cfg(unix)]
    #[test]
    fn a_key_that_others_may_read_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.key");
        generate("a", &path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(load(&path), Err(Error::Key(_))));
    }
}
