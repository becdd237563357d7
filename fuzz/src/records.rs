//! Records as they lie in a leaf of the log, and entries as they are handed over.

use record::{Body, Entry, TEXT_MAX, encode, records};

/// The bytes as a leaf; what is a record of this version is written as it was read.
pub fn leaf(bytes: &[u8]) {
    let (mut end, mut broken) = (0, false);
    for found in records(bytes) {
        assert!(!broken, "something is read behind what is malformed");
        let Ok((view, own)) = found else {
            broken = true;
            continue;
        };
        assert_eq!(own, &bytes[end..end + own.len()], "records lie one behind the other");
        assert!(!own.is_empty());
        end += own.len();
        let record = view.to_record();
        serde_json::to_value(&record).unwrap();
        assert_eq!(view.detail(), record.detail());
        if let Ok(entry) = record.to_entry() {
            written(&entry, record.seq, record.prev);
        }
    }
    assert!(broken || end == bytes.len());
    if let Ok(entry) = serde_json::from_slice::<Entry>(bytes) {
        let again: Entry = serde_json::from_value(serde_json::to_value(&entry).unwrap()).unwrap();
        assert_eq!(again, entry);
        written(&entry, 1, record::NO_PREV);
    }
}

fn written(entry: &Entry, seq: u64, prev: record::Hash) {
    let mut entry = entry.clone();
    entry.fit();
    assert!(entry.fits());
    let mut leaf = Vec::new();
    encode(&mut leaf, seq, &entry, prev);
    // A leaf's length is written in two bytes.
    assert!(leaf.len() <= usize::from(u16::MAX) && leaf.len() <= 2 * TEXT_MAX + 4096);
    let mut read = records(&leaf);
    let (view, own) = read.next().unwrap().unwrap();
    assert_eq!((own.len(), view.seq, view.prev), (leaf.len(), seq, prev));
    let again = view.to_record().to_entry().unwrap();
    // Of an event that happened once nothing is written; a count of none is one.
    let count = entry.count.max(1);
    assert_eq!(again, Entry { count, body: plain(&entry), ..entry.clone() });
    assert!(read.next().is_none());
}

/// A body of which nothing is left is as good as none.
fn plain(entry: &Entry) -> Body {
    let mut bytes = Vec::new();
    let mut one = entry.clone();
    record::encode(&mut bytes, 0, &one, record::NO_PREV);
    one.body = records(&bytes).next().unwrap().unwrap().0.body();
    one.body
}
