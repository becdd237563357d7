//! The in-toto statement (in-toto.io/Statement/v1): this manifest, authorised by this person.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Type of the statement.
pub const STATEMENT: &str = "https://in-toto.io/Statement/v1";
/// Type of what it says.
pub const PREDICATE: &str = "urn:coconut-os:manifest-authorization:v1";

/// An in-toto statement about one manifest.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statement {
    /// Always [`STATEMENT`].
    #[serde(rename = "_type")]
    pub kind: String,
    /// The manifest, by its SHA-256.
    pub subject: Vec<Subject>,
    /// Always [`PREDICATE`].
    #[serde(rename = "predicateType")]
    pub predicate_type: String,
    /// What is authorised.
    pub predicate: Grant,
}

/// What a statement is about.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subject {
    /// The agent's name.
    pub name: String,
    /// Algorithm and hex digest.
    pub digest: BTreeMap<String, String>,
}

/// What a statement authorises.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// The key's name.
    pub authorizer: String,
    /// Who pays.
    pub tenant: String,
    /// Every capability of the manifest in its text form, sorted, profiles as `@name`.
    pub capabilities: Vec<String>,
    /// Seconds since the UNIX epoch at which it was signed.
    pub signed_at: u64,
}

/// What the caller read out of the manifest; compared with what was signed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ManifestFacts {
    /// The agent's name.
    pub name: String,
    /// Who pays.
    pub tenant: String,
    /// Every capability in its text form, profiles as `@name`; order does not matter.
    pub capabilities: Vec<String>,
    /// What else the manifest gives: not in the statement, whose digest binds it, but compared with
    /// the signer's rights. The program as `fs.exec=…`, a user as `user=NAME`.
    pub further: Vec<String>,
}

impl ManifestFacts {
    /// The capabilities in the order in which they are signed.
    pub(crate) fn sorted(&self) -> Vec<String> {
        let mut list = self.capabilities.clone();
        list.sort();
        list.dedup();
        list
    }
}

impl Statement {
    /// The statement that `authorizer` makes about a manifest with this SHA-256.
    pub fn new(authorizer: &str, sha256: &str, facts: &ManifestFacts, signed_at: u64) -> Self {
        let digest = BTreeMap::from([("sha256".to_owned(), sha256.to_owned())]);
        Statement {
            kind: STATEMENT.to_owned(),
            subject: vec![Subject { name: facts.name.clone(), digest }],
            predicate_type: PREDICATE.to_owned(),
            predicate: Grant {
                authorizer: authorizer.to_owned(),
                tenant: facts.tenant.clone(),
                capabilities: facts.sorted(),
                signed_at,
            },
        }
    }
}
