//! The audit log, as far as the daemon answers for it; everything else reads the directory itself.

use abi::{Capability, Code, Kind, Verdict};
use serde::{Deserialize, Serialize, Serializer};
use std::fmt::Display;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

/// Where the log lies.
pub const LOG_DIRECTORY: &str = "/var/lib/coconut/audit";

/// One record, as it is in the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Record {
    /// Position in the log, from 0.
    pub sequence: u64,
    /// Nanoseconds since the UNIX epoch.
    pub time_ns: u64,
    /// The agent; nil for the daemon's own records.
    pub agent: Uuid,
    /// The agent's name, if it is known.
    pub name: Option<String>,
    /// The agent's parent; nil for none.
    pub parent: Uuid,
    /// The tenant that pays.
    pub tenant: String,
    /// What happened; a number where whoever answers is older than the log.
    #[schema(value_type = String)]
    pub kind: Code<Kind>,
    /// Which capability it is about.
    #[schema(value_type = String)]
    pub capability: Code<Capability>,
    /// What was decided.
    #[schema(value_type = String)]
    pub verdict: Code<Verdict>,
    /// Path, address, model, state…
    pub object: String,
    /// Its body in `key=value` words, for people.
    pub detail: String,
    /// Its body: the fields of its kind. None where a writer of old had only words, or the kind is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<serde_json::Value>,
    /// Bytes of these texts that were too many for the log and are left out.
    #[serde(default)]
    #[schema(default = 0)]
    pub cut: u32,
    /// How many times it happened: more than once where an agent did the same as fast as it could.
    #[serde(default = "once")]
    #[schema(default = once)]
    pub count: u32,
}

fn once() -> u32 {
    1
}

/// A [`Record`] that borrows what it says from where that lies, for whoever answers: `D` is its body in words, `B`
/// its body's fields.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs)] // as in `Record`
pub struct RecordRef<'a, D: Display, B> {
    pub sequence: u64,
    pub time_ns: u64,
    pub agent: Uuid,
    pub name: Option<&'a str>,
    pub parent: Uuid,
    pub tenant: &'a str,
    pub kind: Code<Kind>,
    pub capability: Code<Capability>,
    pub verdict: Code<Verdict>,
    pub object: &'a str,
    #[serde(serialize_with = "text")]
    pub detail: D,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<B>,
    pub cut: u32,
    pub count: u32,
}

fn text<S: Serializer>(text: &impl Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(text)
}

/// `GET /v1/audit/records`: which records; every filter that is given must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct Query {
    /// Agent: UUID, unique suffix, or name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// Tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// Kind's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub kind: Option<Kind>,
    /// Capability's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub capability: Option<Capability>,
    /// Verdict's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub verdict: Option<Verdict>,
    /// Text that the object contains.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    /// First time, nanoseconds since the UNIX epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_ns: Option<u64>,
    /// Not before this record: where a client goes on whose answer was broken off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<u64>,
    /// At most so many: the newest, or with `from` the first from there on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// Then go on with new records, as they come (NDJSON without an end).
    #[serde(default)]
    #[param(default = false)]
    pub follow: bool,
}

/// `GET /v1/audit/head`: the log's state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Head {
    /// The newest signed checkpoint, as it lies in the log (a C2SP signed note).
    pub checkpoint: String,
    /// Leaves that the checkpoint covers.
    pub leaves: u64,
    /// Records that the log holds.
    pub records: u64,
    /// The verifier key of the checkpoint's signature, in C2SP form.
    pub verifier_key: String,
    /// Where the log lies.
    pub directory: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{json, to_value};

    #[test]
    fn what_is_borrowed_is_told_as_what_is_owned() {
        for body in [None, Some(json!({"op": "file_open", "pid": 9}))] {
            let owned = Record {
                sequence: 7,
                time_ns: 5,
                agent: Uuid::from_u128(1),
                name: body.is_some().then(|| "clerk".to_owned()),
                parent: Uuid::from_u128(2),
                tenant: "maya".to_owned(),
                kind: Code::Known(Kind::Denial),
                capability: Code::Unknown(77),
                verdict: Code::Known(Verdict::Deny),
                object: "/srv/x".to_owned(),
                detail: "op=file_open pid=9".to_owned(),
                body: body.clone(),
                cut: 3,
                count: 2,
            };
            let borrowed = RecordRef {
                sequence: 7,
                time_ns: 5,
                agent: owned.agent,
                name: owned.name.as_deref(),
                parent: owned.parent,
                tenant: &owned.tenant,
                kind: owned.kind,
                capability: owned.capability,
                verdict: owned.verdict,
                object: &owned.object,
                detail: &owned.detail,
                body: body.as_ref(),
                cut: 3,
                count: 2,
            };
            let told = to_value(&borrowed).unwrap();
            assert_eq!(told, to_value(&owned).unwrap());
            assert_eq!(serde_json::from_value::<Record>(told).unwrap(), owned);
        }
    }
}
