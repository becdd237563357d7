//! Ed25519 keys: the secret one as PEM (PKCS #8), the public one as a line of text.

use crate::hex;
use base64::prelude::{BASE64_STANDARD, Engine};
use ed25519_dalek::pkcs8::{DecodePrivateKey, EncodePrivateKey};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use sha2::{Digest, Sha256};
use std::fmt;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// First word of a public key's line.
const TYPE: &str = "coconut-ed25519";

/// A key cannot be used.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // the messages say it
pub enum KeyError {
    #[error("`{0}` cannot be a key's name: write lower-case letters, digits, `-`, `_` and `.`")]
    Name(String),
    #[error("it is no public key; one is a line `{TYPE} BASE64 NAME`")]
    Public,
    #[error("it is no secret key; one is PEM that begins with BEGIN PRIVATE KEY")]
    Secret,
    #[error("no random numbers: {0}")]
    Random(getrandom::Error),
    #[error("cannot {action} {}", .path.display())]
    Io { action: &'static str, path: PathBuf, source: std::io::Error },
    #[error("{} can be read by others; chmod 600 it", .0.display())]
    Exposed(PathBuf),
}

/// True if `name` may name an authorizer: it becomes a file's name.
pub(crate) fn is_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b);
    let first = name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    first && name.len() <= 63 && name.bytes().all(plain)
}

/// A public key and the name of who holds the secret one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PublicKey {
    name: String,
    key: VerifyingKey,
}

impl PublicKey {
    /// The authorizer's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// SHA-256 of the key in hex: what an envelope names the key by.
    pub fn id(&self) -> String {
        hex(&Sha256::digest(self.key.as_bytes()))
    }

    /// True if the signature is this key's over `message`.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let bytes: Result<&[u8; 64], _> = signature.try_into();
        bytes.is_ok_and(|bytes| {
            self.key.verify_strict(message, &Signature::from_bytes(bytes)).is_ok()
        })
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{TYPE} {} {}", BASE64_STANDARD.encode(self.key.as_bytes()), self.name)
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let [TYPE, key, name] = words.as_slice() else { return Err(KeyError::Public) };
        if !is_name(name) {
            return Err(KeyError::Name((*name).to_owned()));
        }
        let bytes = BASE64_STANDARD.decode(key).map_err(|_| KeyError::Public)?;
        let bytes: [u8; 32] = bytes.try_into().map_err(|_| KeyError::Public)?;
        let key = VerifyingKey::from_bytes(&bytes).map_err(|_| KeyError::Public)?;
        // A weak key verifies signatures that nobody made.
        if key.is_weak() {
            return Err(KeyError::Public);
        }
        Ok(PublicKey { name: (*name).to_owned(), key })
    }
}

/// A secret key and the name of who holds it. Never printed.
pub struct SecretKey {
    name: String,
    key: SigningKey,
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey({})", self.name)
    }
}

impl SecretKey {
    /// Makes a key.
    pub fn generate(name: &str) -> Result<Self, KeyError> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(KeyError::Random)?;
        Self::from_seed(name, &seed)
    }

    /// A key from its 32 secret bytes.
    pub fn from_seed(name: &str, seed: &[u8; 32]) -> Result<Self, KeyError> {
        if !is_name(name) {
            return Err(KeyError::Name(name.to_owned()));
        }
        Ok(SecretKey { name: name.to_owned(), key: SigningKey::from_bytes(seed) })
    }

    /// Reads PEM; the name is not in it.
    pub fn from_pem(name: &str, pem: &str) -> Result<Self, KeyError> {
        let key = SigningKey::from_pkcs8_pem(pem).map_err(|_| KeyError::Secret)?;
        Self::from_seed(name, &key.to_bytes())
    }

    /// The key as PEM. Keep it to yourself.
    pub fn to_pem(&self) -> Result<String, KeyError> {
        let pem = self.key.to_pkcs8_pem(ed25519_dalek::pkcs8::spki::der::pem::LineEnding::LF);
        pem.map(|text| text.to_string()).map_err(|_| KeyError::Secret)
    }

    /// Stores the key under `path` with mode 0600; never overwrites one.
    pub fn store(&self, path: &Path) -> Result<(), KeyError> {
        let io = |action, source| KeyError::Io { action, path: path.to_owned(), source };
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(path).map_err(|e| io("make", e))?;
        file.write_all(self.to_pem()?.as_bytes()).map_err(|e| io("write", e))
    }

    /// Loads a key from `<name>.key`; refuses one that others may read.
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        let io = |source| KeyError::Io { action: "read", path: path.to_owned(), source };
        let text = std::fs::read_to_string(path).map_err(io)?;
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            if std::fs::metadata(path).map_err(io)?.permissions().mode() & 0o077 != 0 {
                return Err(KeyError::Exposed(path.to_owned()));
            }
        }
        let name = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        Self::from_pem(name, &text)
    }

    /// The authorizer's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        PublicKey { name: self.name.clone(), key: self.key.verifying_key() }
    }

    /// Signs.
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.key.sign(message).to_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_survive_their_text_forms() {
        let key = SecretKey::generate("image-workloads").unwrap();
        let again = SecretKey::from_pem("image-workloads", &key.to_pem().unwrap()).unwrap();
        assert_eq!(again.public(), key.public());
        let text = key.public().to_string();
        assert_eq!(text.parse::<PublicKey>().unwrap(), key.public());
        assert!(!format!("{key:?}").contains(&key.to_pem().unwrap()[40..60]));
    }

    #[test]
    fn names_and_weak_keys_are_refused() {
        assert!(SecretKey::generate("../etc").is_err());
        let weak = format!("{TYPE} {} name", BASE64_STANDARD.encode([0; 32]));
        assert!(weak.parse::<PublicKey>().is_err());
        assert!("coconut-ed25519 AAAA name".parse::<PublicKey>().is_err());
    }

    #[test]
    fn a_stored_key_is_its_owners_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("me.key");
        let key = SecretKey::generate("me").unwrap();
        key.store(&path).unwrap();
        assert!(key.store(&path).is_err(), "never overwritten");
        assert_eq!(SecretKey::load(&path).unwrap().public(), key.public());
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
            assert!(matches!(SecretKey::load(&path), Err(KeyError::Exposed(_))));
        }
    }
}
