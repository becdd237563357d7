//! The control of the audit demonstration: the same records as an ordinary log, one JSON object a line.
//!
//! Its reader does what readers of such logs do: every line parses, has its fields, and time does not
//! run backwards. Nothing more can be checked, so a careful forger is never seen.

use anyhow::{Context, Result, ensure};
use api::audit::Record;
use serde_json::{Value, json};

/// An ordinary log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlainLog(Vec<String>);

impl PlainLog {
    /// Writes the records as an ordinary program would: a time and what happened.
    pub fn of(records: &[Record]) -> PlainLog {
        let line = |r: &Record| {
            json!({
                "time": r.time_ns, "agent": r.agent, "tenant": r.tenant, "event": r.kind.to_string(),
                "verdict": r.verdict.to_string(), "object": r.object, "detail": r.detail,
            })
        };
        // Such a log is written as things happen; ours has kernel events in between.
        let mut records: Vec<&Record> = records.iter().collect();
        records.sort_by_key(|r| r.time_ns);
        PlainLog(records.into_iter().map(|r| line(r).to_string()).collect())
    }

    /// What its reader notices; an error names the line.
    ///
    /// # Errors
    /// When a line is broken or time runs backwards.
    pub fn read(&self) -> Result<usize> {
        let mut last = 0;
        for (n, line) in self.0.iter().enumerate() {
            let value: Value = serde_json::from_str(line).with_context(|| format!("line {n}"))?;
            let time = value["time"].as_u64().with_context(|| format!("line {n} has no time"))?;
            ensure!(time >= last, "time runs backwards at line {n}");
            ensure!(value["event"].is_string(), "line {n} has no event");
            last = time;
        }
        Ok(self.0.len())
    }

    fn find(&self, text: &str) -> Result<usize> {
        self.0.iter().position(|l| l.contains(text)).with_context(|| format!("no {text:?}"))
    }

    /// Changes one letter of `text`.
    ///
    /// # Errors
    /// When the text is nowhere.
    pub fn edit(&mut self, text: &str) -> Result<()> {
        let n = self.find(text)?;
        let changed: String = text.chars().map(|c| if c == 's' { 'S' } else { c }).collect();
        self.0[n] = self.0[n].replace(text, &changed);
        Ok(())
    }

    /// Takes the line with `text` out.
    ///
    /// # Errors
    /// When the text is nowhere.
    pub fn delete(&mut self, text: &str) -> Result<()> {
        let n = self.find(text)?;
        self.0.remove(n);
        Ok(())
    }

    /// Swaps what happened with its neighbour; each keeps the time of its place.
    ///
    /// # Errors
    /// When the text is nowhere or has no neighbour.
    pub fn reorder(&mut self, text: &str) -> Result<()> {
        let n = self.find(text)?;
        let with =
            if n + 1 < self.0.len() { n + 1 } else { n.checked_sub(1).context("one line")? };
        let (mut a, mut b): (Value, Value) =
            (serde_json::from_str(&self.0[n])?, serde_json::from_str(&self.0[with])?);
        let time = a["time"].take();
        a["time"] = b["time"].take();
        b["time"] = time;
        self.0[n] = b.to_string();
        self.0[with] = a.to_string();
        Ok(())
    }

    /// Drops the last lines.
    pub fn truncate(&mut self, lines: usize) {
        self.0.truncate(self.0.len().saturating_sub(lines));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use abi::{Capability, Kind, Verdict};

    fn log() -> PlainLog {
        let record = |n: u64| Record {
            sequence: n,
            time_ns: 10 + n,
            agent: uuid::Uuid::nil(),
            name: None,
            parent: uuid::Uuid::nil(),
            tenant: "maya".into(),
            kind: abi::Code::Known(Kind::Denial),
            capability: abi::Code::Known(Capability::FsRead),
            verdict: abi::Code::Known(Verdict::Deny),
            object: format!("/secret/{n}"),
            detail: String::new(),
            cut: 0,
            count: 1,
        };
        PlainLog::of(&[record(0), record(1), record(2)])
    }

    #[test]
    fn a_careful_forger_is_not_seen() {
        let mut log = log();
        log.edit("/secret/1").unwrap();
        log.reorder("/Secret/1").unwrap();
        log.delete("/secret/0").unwrap();
        log.truncate(1);
        assert_eq!(log.read().unwrap(), 1);
    }

    #[test]
    fn a_clumsy_one_is() {
        let mut log = log();
        log.0.swap(0, 2);
        assert!(log.read().is_err());
        log.0[0] = "{".into();
        assert!(log.read().is_err());
    }
}
