//! One record as it lies in a leaf: CBOR with explicit indices.
//!
//! A reader skips indices that it does not know and shows codes that it does not know as numbers,
//! so old readers read new logs; an index or code is never used for something else.

use crate::body::Body;
use crate::entry::Entry;
use abi::{Capability, Code, Kind, Verdict};
use minicbor::bytes::{ByteArray, ByteSlice};
use minicbor::{Decode, Decoder, Encode};
use serde::ser::{Serialize, SerializeStruct, Serializer};
use uuid::Uuid;

/// SHA-256, of what the log says.
pub type Hash = [u8; 32];

/// `prev` of an agent's first record.
pub const NO_PREV: Hash = [0; 32];

/// The encoding. What is empty is left out.
#[derive(Encode, Decode)]
#[cbor(map)]
struct Wire<'a> {
    #[n(0)]
    seq: u64,
    #[n(1)]
    time_ns: u64,
    #[n(2)]
    aid: Option<u64>,
    #[n(3)]
    agent: Option<ByteArray<16>>,
    #[n(4)]
    parent: Option<ByteArray<16>>,
    #[b(5)]
    tenant: Option<&'a str>,
    #[n(6)]
    kind: u32,
    #[n(7)]
    capability: Option<u32>,
    #[n(8)]
    verdict: Option<u32>,
    #[b(9)]
    object: Option<&'a str>,
    #[b(10)]
    detail: Option<&'a str>,
    #[n(11)]
    prev: Option<ByteArray<32>>,
    #[n(12)]
    cut: Option<u32>,
    #[n(13)]
    ring: Option<u64>,
    #[n(14)]
    count: Option<u32>,
    #[b(15)]
    body: Option<&'a ByteSlice>,
}

/// A record that borrows its texts from a leaf.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RecordView<'a> {
    /// Position in the log, from 0, without gaps.
    pub seq: u64,
    /// Nanoseconds since the UNIX epoch.
    pub time_ns: u64,
    /// The agent in the hot path; 0 for the daemon's own records.
    pub aid: u64,
    /// The agent outside; nil for the daemon's own records.
    pub agent: Uuid,
    /// The agent's parent; nil for none.
    pub parent: Uuid,
    /// Who pays.
    pub tenant: &'a str,
    /// Code of [`Kind`].
    pub kind: u32,
    /// Code of [`Capability`].
    pub capability: u32,
    /// Code of [`Verdict`].
    pub verdict: u32,
    /// Path, address, model, state…
    pub object: &'a str,
    /// What a writer said that had no bodies.
    pub words: &'a str,
    /// Its body as it lies there; [`RecordView::body`].
    pub body: &'a [u8],
    /// Hash of the same agent's previous record; [`NO_PREV`] for its first.
    pub prev: Hash,
    /// Bytes of its texts that were left out; [`Entry::fit`].
    pub cut: u32,
    /// Position in the kernel's ring; [`Entry::ring`].
    pub ring: u64,
    /// How many times it happened.
    pub count: u32,
}

/// A record that owns its texts.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs)] // as in `RecordView`
pub struct Record {
    pub seq: u64,
    pub time_ns: u64,
    pub aid: u64,
    pub agent: Uuid,
    pub parent: Uuid,
    pub tenant: String,
    pub kind: u32,
    pub capability: u32,
    pub verdict: u32,
    pub object: String,
    pub body: Body,
    pub prev: Hash,
    pub cut: u32,
    pub ring: u64,
    pub count: u32,
}

/// The bytes are no record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the bytes are no record")]
pub struct MalformedRecord;

fn filled<T: PartialEq + Default>(value: T) -> Option<T> {
    (value != T::default()).then_some(value)
}

/// Appends the record that `entry`, which must fit ([`Entry::fit`]), makes to `leaf`; returns its bytes.
pub fn encode<'l>(leaf: &'l mut Vec<u8>, seq: u64, entry: &Entry, prev: Hash) -> &'l [u8] {
    let start = leaf.len();
    let id = |uuid: Uuid| filled(uuid.into_bytes()).map(ByteArray::from);
    let mut body = Vec::new();
    entry.body.encode(&mut body);
    let wire = Wire {
        seq,
        time_ns: entry.time_ns,
        aid: filled(entry.aid),
        agent: id(entry.agent),
        parent: id(entry.parent),
        tenant: filled(entry.tenant.as_str()),
        kind: entry.kind as u32,
        capability: filled(entry.capability as u32),
        verdict: filled(entry.verdict as u32),
        object: filled(entry.object.as_str()),
        detail: match &entry.body {
            Body::Words(words) => filled(words.as_str()),
            _ => None,
        },
        prev: filled(prev).map(ByteArray::from),
        cut: filled(entry.cut),
        ring: filled(entry.ring),
        count: (entry.count > 1).then_some(entry.count),
        body: filled(body.as_slice()).map(Into::into),
    };
    // Writing to a vector cannot fail.
    let _ = minicbor::encode(&wire, &mut *leaf);
    &leaf[start..]
}

impl<'a> RecordView<'a> {
    fn from_wire(wire: &Wire<'a>) -> Self {
        let id = |bytes: &Option<ByteArray<16>>| {
            bytes.as_ref().map_or(Uuid::nil(), |b| Uuid::from_bytes(**b))
        };
        RecordView {
            seq: wire.seq,
            time_ns: wire.time_ns,
            aid: wire.aid.unwrap_or_default(),
            agent: id(&wire.agent),
            parent: id(&wire.parent),
            tenant: wire.tenant.unwrap_or_default(),
            kind: wire.kind,
            capability: wire.capability.unwrap_or_default(),
            verdict: wire.verdict.unwrap_or_default(),
            object: wire.object.unwrap_or_default(),
            words: wire.detail.unwrap_or_default(),
            body: wire.body.map(|body| &**body).unwrap_or_default(),
            prev: wire.prev.as_ref().map_or(NO_PREV, |b| **b),
            cut: wire.cut.unwrap_or_default(),
            ring: wire.ring.unwrap_or_default(),
            count: wire.count.unwrap_or(1),
        }
    }

    /// Its body.
    pub fn body(&self) -> Body {
        if self.body.is_empty() {
            return Body::Words(self.words.to_owned());
        }
        Body::decode(self.kind, self.body)
    }

    /// Its body as people read it.
    pub fn detail(&self) -> String {
        self.body().words().to_string()
    }

    /// A copy that owns its texts.
    pub fn to_record(&self) -> Record {
        Record {
            seq: self.seq,
            time_ns: self.time_ns,
            aid: self.aid,
            agent: self.agent,
            parent: self.parent,
            tenant: self.tenant.to_owned(),
            kind: self.kind,
            capability: self.capability,
            verdict: self.verdict,
            object: self.object.to_owned(),
            body: self.body(),
            prev: self.prev,
            cut: self.cut,
            ring: self.ring,
            count: self.count,
        }
    }
}

/// The records of a leaf, each with its own bytes.
pub struct Records<'a> {
    leaf: &'a [u8],
    decoder: Decoder<'a>,
}

/// Reads the records of a leaf in order; stops behind the first that is malformed.
pub fn records(leaf: &[u8]) -> Records<'_> {
    Records { leaf, decoder: Decoder::new(leaf) }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<(RecordView<'a>, &'a [u8]), MalformedRecord>;

    fn next(&mut self) -> Option<Self::Item> {
        let start = self.decoder.position();
        if start >= self.leaf.len() {
            return None;
        }
        match self.decoder.decode::<Wire<'a>>() {
            Ok(wire) => {
                let bytes = &self.leaf[start..self.decoder.position()];
                Some(Ok((RecordView::from_wire(&wire), bytes)))
            }
            Err(_) => {
                self.decoder.set_position(self.leaf.len());
                Some(Err(MalformedRecord))
            }
        }
    }
}

impl Record {
    /// Its body as people read it: `key=value` words.
    pub fn detail(&self) -> String {
        self.body.words().to_string()
    }

    /// What the producer told. The error is a code that this reader does not know.
    pub fn to_entry(&self) -> Result<Entry, u32> {
        Ok(Entry {
            time_ns: self.time_ns,
            aid: self.aid,
            agent: self.agent,
            parent: self.parent,
            tenant: self.tenant.clone(),
            kind: self.kind.try_into()?,
            capability: self.capability.try_into()?,
            verdict: self.verdict.try_into()?,
            object: self.object.clone(),
            body: self.body.clone(),
            cut: self.cut,
            ring: self.ring,
            count: self.count,
        })
    }
}

impl Serialize for Record {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_struct("Record", 15)?;
        out.serialize_field("seq", &self.seq)?;
        out.serialize_field("time_ns", &self.time_ns)?;
        out.serialize_field("aid", &self.aid)?;
        out.serialize_field("agent", &self.agent.to_string())?;
        out.serialize_field("parent", &self.parent.to_string())?;
        out.serialize_field("tenant", &self.tenant)?;
        out.serialize_field("kind", &Code::<Kind>::from(self.kind))?;
        out.serialize_field("capability", &Code::<Capability>::from(self.capability))?;
        out.serialize_field("verdict", &Code::<Verdict>::from(self.verdict))?;
        out.serialize_field("object", &self.object)?;
        out.serialize_field("detail", &self.detail())?;
        out.serialize_field("body", &self.body.fields())?;
        out.serialize_field(
            "prev",
            &self.prev.iter().map(|byte| format!("{byte:02x}")).collect::<String>(),
        )?;
        out.serialize_field("cut", &self.cut)?;
        out.serialize_field("count", &self.count)?;
        out.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Entry {
        Entry {
            time_ns: 5,
            aid: 1 << 32,
            agent: Uuid::from_u128(7),
            parent: Uuid::nil(),
            tenant: "maya".into(),
            kind: Kind::Denial,
            capability: Capability::FsRead,
            verdict: Verdict::Deny,
            object: "/etc/shadow".into(),
            body: Body::default(),
            cut: 0,
            ring: 0,
            count: 1,
        }
    }

    #[test]
    fn both_ways() {
        let mut leaf = Vec::new();
        let first = [7; 32];
        encode(&mut leaf, 9, &entry(), NO_PREV);
        encode(&mut leaf, 10, &entry(), first);
        let list: Vec<_> = records(&leaf).map(|r| r.unwrap()).collect();
        assert_eq!(list.len(), 2);
        assert_eq!(list[0].0.to_record().to_entry(), Ok(entry()));
        assert_eq!((list[1].0.seq, list[1].0.prev), (10, first));
    }

    #[test]
    fn once_needs_no_room_and_more_is_kept() {
        let mut leaf = Vec::new();
        let first = [7; 32];
        encode(&mut leaf, 9, &entry(), NO_PREV);
        let many = Entry { count: 70_000, ring: 4096, ..entry() };
        encode(&mut leaf, 10, &many, first);
        let mut plain = Vec::new();
        encode(&mut plain, 9, &entry(), NO_PREV);
        encode(&mut plain, 10, &entry(), first);
        // An index and three bytes, an index and five bytes.
        assert_eq!(leaf.len() - plain.len(), 4 + 6);
        let list: Vec<_> = records(&leaf).map(|r| r.unwrap().0.to_record()).collect();
        assert_eq!((list[0].count, list[1].count), (1, 70_000));
        assert_eq!(list[1].to_entry(), Ok(many));
    }

    #[test]
    fn an_old_reader_reads_a_new_writer() {
        // A record with an index and a kind that this version does not know.
        let mut leaf = Vec::new();
        let mut e = minicbor::Encoder::new(&mut leaf);
        e.map(4).unwrap().u8(0).unwrap().u8(3).unwrap().u8(1).unwrap().u8(4).unwrap();
        e.u8(6).unwrap().u16(999).unwrap().u8(77).unwrap().array(2).unwrap().str("new").unwrap();
        e.bool(true).unwrap();
        encode(&mut leaf, 4, &entry(), NO_PREV);
        let list: Vec<_> = records(&leaf).map(|r| r.unwrap().0.to_record()).collect();
        assert_eq!(
            (list[0].seq, Code::<Kind>::from(list[0].kind).to_string()),
            (3, "999".to_owned())
        );
        assert_eq!(list[0].to_entry(), Err(999));
        assert_eq!(list[1].seq, 4);
    }

    #[test]
    fn torn_bytes_are_malformed() {
        let mut leaf = Vec::new();
        encode(&mut leaf, 9, &entry(), NO_PREV);
        for end in 1..leaf.len() {
            assert!(records(&leaf[..end]).any(|r| r.is_err()), "{end}");
        }
    }

    #[test]
    fn json_has_names() {
        let mut leaf = Vec::new();
        encode(&mut leaf, 9, &entry(), NO_PREV);
        let record = records(&leaf).next().unwrap().unwrap().0.to_record();
        let json = serde_json::to_value(&record).unwrap();
        assert_eq!(
            (json["kind"].as_str(), json["capability"].as_str()),
            (Some("denial"), Some("fs.read"))
        );
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_break_the_reader(mut bytes: Vec<u8>, at: proptest::sample::Index, byte: u8) {
            records(&bytes).for_each(drop);
            encode(&mut bytes, 1, &entry(), NO_PREV);
            let at = at.index(bytes.len());
            bytes[at] = byte;
            records(&bytes).for_each(drop);
        }
    }
}
