use super::*;
use crate::Entry;
use crate::wire::{NO_PREV, encode, records};
use proptest::prelude::*;
use uuid::Uuid;

fn entry(kind: Kind, body: Body) -> Entry {
    Entry {
        time_ns: 5,
        aid: 1,
        agent: Uuid::from_u128(7),
        parent: Uuid::nil(),
        tenant: "maya".into(),
        kind,
        capability: abi::Capability::None,
        verdict: abi::Verdict::None,
        object: "/srv/x".into(),
        body,
        cut: 0,
        ring: 0,
        count: 1,
    }
}

fn attempt() -> Attempt {
    let (op, comm) = ("file_open".to_owned(), "a b".to_owned());
    Attempt { op, comm, pid: Some(12), errno: "EACCES".into(), rule: Some(0), ..Attempt::default() }
}

/// One body of each kind, filled as far as it goes; `None` is a kind without one.
fn bodies() -> Vec<(Kind, Body)> {
    let filled = |kind: Kind| {
        let json: serde_json::Map<_, _> = FIELDS
            .iter()
            .map(|(name, value)| ((*name).to_owned(), serde_json::from_str(value).unwrap()))
            .collect();
        Body::from_json(kind, &json.into()).map(|body| (kind, body))
    };
    Kind::ALL.iter().filter_map(|kind| filled(*kind)).collect()
}

/// Values of every field that some body has.
const FIELDS: &[(&str, &str)] = &[
    ("version", "\"1.0\""),
    ("sealed", "false"),
    ("agents", "0"),
    ("name", "\"n\""),
    ("signed", "true"),
    ("uid", "65534"),
    ("from", "\"waiting\""),
    ("reason", "\"killed by maya\""),
    ("why", "\"not granted\""),
    ("authorizer", "\"root\""),
    ("rule", "0"),
    ("op", "\"file_open\""),
    ("pid", "9"),
    ("weight", "100"),
    ("missing", "18446744073709551615"),
    ("at", "\"boot\""),
    ("prompt_tokens", "0"),
    ("first_record", "256"),
];

#[test]
fn every_kind_has_a_body_that_comes_back_whole() {
    let all = bodies();
    assert_eq!(all.len(), Kind::ALL.len() - 1, "all but `syscall` have one");
    for (kind, body) in all {
        let mut leaf = Vec::new();
        encode(&mut leaf, 1, &entry(kind, body.clone()), NO_PREV);
        let (view, _) = records(&leaf).next().unwrap().unwrap();
        assert_eq!(view.body(), body, "{kind}");
        assert!(!view.detail().is_empty(), "{kind} says nothing");
        let json = serde_json::to_value(body.fields().unwrap()).unwrap();
        assert_eq!(Body::from_json(kind, &json), Some(body), "{kind}");
    }
}

#[test]
fn words_are_in_order_and_one_word_each() {
    let body = Body::from(attempt());
    assert_eq!(body.words().to_string(), "op=file_open comm=a_b pid=12 errno=EACCES rule=0");
}

#[test]
fn an_old_reader_passes_over_what_a_new_writer_says() {
    // A later version's body: an index that this one does not know between two that it does.
    let mut bytes = Vec::new();
    let mut out = Encoder::new(&mut bytes);
    out.map(3).unwrap().u32(0).unwrap().str("file_open").unwrap();
    out.u32(77).unwrap().array(2).unwrap().u8(1).unwrap().str("new").unwrap();
    out.u32(2).unwrap().u64(12).unwrap();
    let old = Body::decode(Kind::Denial as u32, &bytes);
    let known = Attempt { op: "file_open".into(), pid: Some(12), ..Attempt::default() };
    assert_eq!(old, Body::Attempt(known));
}

#[test]
fn a_new_reader_reads_what_an_old_writer_said() {
    // The writer before bodies, and one whose body has one field.
    let words = entry(Kind::Denial, Body::Words("op=file_open comm=cat".into()));
    let mut leaf = Vec::new();
    encode(&mut leaf, 1, &words, NO_PREV);
    let (view, _) = records(&leaf).next().unwrap().unwrap();
    assert_eq!(view.detail(), "op=file_open comm=cat");
    assert_eq!(view.to_record().to_entry(), Ok(words));
    let one = Body::decode(Kind::Denial as u32, &[0xa1, 0x02, 0x0c]);
    assert_eq!(one, Body::Attempt(Attempt { pid: Some(12), ..Attempt::default() }));
}

#[test]
fn a_kind_that_is_not_known_is_shown_and_kept() {
    let bytes = [0xa1, 0x00, 0x05];
    let body = Body::decode(999, &bytes);
    assert_eq!(body, Body::Unknown(bytes.to_vec()));
    assert_eq!(body.words().to_string(), "body=a10005");
    // What is not what its kind has is no reason to lose the record.
    assert_eq!(Body::decode(Kind::Denial as u32, b"\xff"), Body::Unknown(vec![0xff]));
}

#[test]
fn what_is_too_much_is_cut_across_all_texts() {
    let why = "€".repeat(10_000);
    let long = Attempt { op: why.clone(), comm: why.clone(), why, ..Attempt::default() };
    let mut entry = entry(Kind::Denial, long.into());
    assert!(!entry.fits());
    entry.fit();
    assert!(entry.fits() && entry.body.texts_len() <= crate::TEXT_MAX);
    assert_eq!(entry.cut as usize, 90_000 - entry.body.texts_len());
}

proptest! {
    #[test]
    fn no_bytes_break_the_reader(kind in 0_u32..20, bytes: Vec<u8>) {
        let body = Body::decode(kind, &bytes);
        prop_assert!(bytes.is_empty() || !body.words().to_string().is_empty() || body.fields().is_some());
    }
}
