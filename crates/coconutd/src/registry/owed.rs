//! What the log is owed lies in the registry beside what it is about: the next daemon writes it, once.

use record::{Entry, NO_PREV};
use rusqlite::{Connection, params};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

/// What is owed, by number.
pub(super) type Owed = BTreeMap<u64, Arc<[Entry]>>;

/// Numbers of what lies in the table.
#[derive(Default)]
pub(super) struct Book(BTreeSet<u64>);

impl Book {
    /// Has the table say what is owed now; what lies in it when that is committed.
    /// None of it is among the log's first `behind` records.
    pub fn write(
        &self,
        changes: &Connection,
        owed: &Owed,
        behind: u64,
    ) -> Result<Book, rusqlite::Error> {
        for number in self.0.iter().filter(|number| !owed.contains_key(number)) {
            let paid = "DELETE FROM owed WHERE number = ?1";
            changes.prepare_cached(paid)?.execute([number.cast_signed()])?;
        }
        for (number, entries) in owed.iter().filter(|(number, _)| !self.0.contains(number)) {
            let put = "INSERT INTO owed VALUES (?1, ?2, ?3)";
            let row = params![number.cast_signed(), behind.cast_signed(), encoded(entries)];
            changes.prepare_cached(put)?.execute(row)?;
        }
        Ok(Book(owed.keys().copied().collect()))
    }
}

fn encoded(entries: &[Entry]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for entry in entries {
        let mut entry = entry.clone();
        entry.fit();
        record::encode(&mut bytes, 0, &entry, NO_PREV);
    }
    bytes
}

/// What an earlier daemon owed.
#[derive(Default)]
pub(super) struct Left {
    /// The oldest first.
    entries: Vec<Entry>,
    /// So many of the log's first records have nothing of it.
    behind: u64,
}

/// What an earlier daemon owed.
pub(super) fn read(database: &Connection) -> Result<Left, rusqlite::Error> {
    let mut query = database.prepare("SELECT behind, entries FROM owed ORDER BY number")?;
    let rows = query.query_map([], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?)))?;
    let mut left = Left { entries: Vec::new(), behind: u64::MAX };
    for row in rows {
        let (behind, bytes) = row?;
        left.behind = left.behind.min(behind.cast_unsigned());
        let records = record::records(&bytes).filter_map(Result::ok);
        left.entries.extend(records.filter_map(|(record, _)| record.to_record().to_entry().ok()));
    }
    Ok(left)
}

/// Those that the log does not have: an earlier daemon may have written some before it ended.
pub(super) fn missing(left: Left, log: &Path) -> Result<Vec<Entry>, audit::Error> {
    let Left { mut entries, behind } = left;
    if entries.is_empty() {
        return Ok(entries);
    }
    let reader = audit::Reader::open(log)?;
    let mut scan = audit::Scan::from(reader, audit::Filter::default(), behind, None);
    let mut logged = |record: &audit::RecordView<'_>| {
        let logged = record.to_record().to_entry();
        entries.retain(|entry| logged.as_ref() != Ok(entry));
    };
    while scan.step(audit::Page::default(), &mut |_| true, &mut logged) {}
    Ok(entries)
}
