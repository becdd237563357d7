//! What the log is owed lies in the registry beside what it is about: the next daemon writes it, once.

use record::{Entry, NO_PREV};
use rusqlite::{Connection, params};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

/// Newest records among which one is looked for that may be in the log by now: those that an earlier daemon wrote
/// after it last wrote to the registry, which it does every second.
const LOOKED_AT: usize = 262_144;

/// What is owed, by number.
pub(super) type Owed = BTreeMap<u64, Arc<[Entry]>>;

/// Numbers of what lies in the table.
#[derive(Default)]
pub(super) struct Book(BTreeSet<u64>);

impl Book {
    /// Has the table say what is owed now; what lies in it when that is committed.
    pub fn write(&self, changes: &Connection, owed: &Owed) -> Result<Book, rusqlite::Error> {
        for number in self.0.iter().filter(|number| !owed.contains_key(number)) {
            let paid = "DELETE FROM owed WHERE number = ?1";
            changes.prepare_cached(paid)?.execute([number.cast_signed()])?;
        }
        for (number, entries) in owed.iter().filter(|(number, _)| !self.0.contains(number)) {
            let put = "INSERT INTO owed VALUES (?1, ?2)";
            let row = params![number.cast_signed(), encoded(entries)];
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

/// What an earlier daemon owed, the oldest first.
pub(super) fn read(database: &Connection) -> Result<Vec<Entry>, rusqlite::Error> {
    let mut query = database.prepare("SELECT entries FROM owed ORDER BY number")?;
    let rows = query.query_map([], |row| row.get::<_, Vec<u8>>(0))?;
    let mut owed = Vec::new();
    for row in rows {
        let row = row?;
        let records = record::records(&row).filter_map(Result::ok);
        owed.extend(records.filter_map(|(record, _)| record.to_record().to_entry().ok()));
    }
    Ok(owed)
}

/// Those that the log does not have: an earlier daemon may have written some before it ended.
pub(super) fn missing(owed: Vec<Entry>, log: &Path) -> Result<Vec<Entry>, audit::Error> {
    if owed.is_empty() {
        return Ok(owed);
    }
    let newest = audit::Reader::open(log)?.tail(&audit::Filter::default(), LOOKED_AT);
    let logged: Vec<Entry> = newest.iter().filter_map(|record| record.to_entry().ok()).collect();
    Ok(owed.into_iter().filter(|entry| !logged.contains(entry)).collect())
}
