//! DSSE envelopes (github.com/secure-systems-lab/dsse, version 1.0.2).

use crate::keys::{PublicKey, SecretKey};
use base64::prelude::{BASE64_STANDARD, Engine};
use serde::{Deserialize, Serialize};

/// Payload type of an in-toto statement.
pub const IN_TOTO: &str = "application/vnd.in-toto+json";
/// Nothing that is longer is one of ours.
const ENVELOPE_BYTES_MAX: usize = 4 << 20;

/// A payload and who signed it. What is within has not been checked.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Envelope {
    /// Base64 of what was signed.
    pub payload: String,
    /// What the payload is; signed too.
    #[serde(rename = "payloadType")]
    pub payload_type: String,
    /// By whom.
    pub signatures: Vec<EnvelopeSignature>,
}

/// One signature of an envelope.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnvelopeSignature {
    /// Names the key; not signed, so it only helps to find it.
    pub keyid: String,
    /// Base64 of the signature.
    pub sig: String,
}

/// The bytes are no envelope.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it is no DSSE envelope: {0}")]
pub struct EnvelopeError(String);

/// The bytes that are signed: type and payload with their lengths, so that neither can lend a byte
/// to the other.
pub fn pre_authentication(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len());
    [head.as_bytes(), payload].concat()
}

impl Envelope {
    /// Signs a payload.
    pub fn sign(payload_type: &str, payload: &[u8], key: &SecretKey) -> Self {
        let signature = key.sign(&pre_authentication(payload_type, payload));
        Envelope {
            payload: BASE64_STANDARD.encode(payload),
            payload_type: payload_type.to_owned(),
            signatures: vec![EnvelopeSignature {
                keyid: key.public().id(),
                sig: BASE64_STANDARD.encode(signature),
            }],
        }
    }

    /// Reads an envelope.
    pub fn parse(bytes: &[u8]) -> Result<Self, EnvelopeError> {
        if bytes.len() > ENVELOPE_BYTES_MAX {
            return Err(EnvelopeError("it is too long".to_owned()));
        }
        serde_json::from_slice(bytes).map_err(|error| EnvelopeError(error.to_string()))
    }

    /// The envelope as JSON, with a newline at its end.
    pub fn to_json(&self) -> String {
        // Strings and lists of strings always serialize.
        serde_json::to_string_pretty(self).map(|text| text + "\n").unwrap_or_default()
    }

    /// The payload, if one of the signatures is this key's.
    pub fn open(&self, key: &PublicKey) -> Option<Vec<u8>> {
        let payload = BASE64_STANDARD.decode(&self.payload).ok()?;
        let message = pre_authentication(&self.payload_type, &payload);
        let id = key.id();
        let signed = self.signatures.iter().filter(|signature| signature.keyid == id).any(|s| {
            BASE64_STANDARD.decode(&s.sig).is_ok_and(|bytes| key.verifies(&message, &bytes))
        });
        signed.then_some(payload)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_encoding_is_that_of_the_specification() {
        let bytes = pre_authentication("http://example.com/HelloWorld", b"hello world");
        assert_eq!(bytes, b"DSSEv1 29 http://example.com/HelloWorld 11 hello world");
        assert_ne!(pre_authentication("a", b"b c"), pre_authentication("a 3 b", b"c"));
    }

    #[test]
    fn type_and_payload_are_both_signed() {
        let key = SecretKey::generate("me").unwrap();
        let envelope = Envelope::sign(IN_TOTO, b"{}", &key);
        let again = Envelope::parse(envelope.to_json().as_bytes()).unwrap();
        assert_eq!(again.open(&key.public()).as_deref(), Some(&b"{}"[..]));
        let retyped = Envelope { payload_type: "text/plain".into(), ..envelope.clone() };
        assert_eq!(retyped.open(&key.public()), None);
        let refilled = Envelope { payload: BASE64_STANDARD.encode("{ }"), ..envelope.clone() };
        assert_eq!(refilled.open(&key.public()), None);
        let other = SecretKey::generate("me").unwrap();
        assert_eq!(envelope.open(&other.public()), None);
    }
}
