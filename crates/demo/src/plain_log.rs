//! The control of the audit demonstration: the same records as an ordinary log on disk, one JSON object
//! a line.
//!
//! Its reader does what readers of such logs do: every line parses, has its fields, and time does not
//! run backwards. Nothing more can be checked, so a careful forger is never seen.

use anyhow::{Context, Result, ensure};
use api::audit::Record;
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader, BufWriter, Write as _};
use std::path::{Path, PathBuf};

/// An ordinary log: a file. Nothing of it is kept anywhere else.
#[derive(Debug)]
pub struct PlainLog(PathBuf);

impl PlainLog {
    /// Writes the records as an ordinary program would: a time and what happened.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(path: &Path, records: &[Record]) -> Result<PlainLog> {
        // Such a log is written as things happen; ours has kernel events in between.
        let mut records: Vec<&Record> = records.iter().collect();
        records.sort_by_key(|r| r.time_ns);
        let file = std::fs::File::create(path).with_context(|| path.display().to_string())?;
        let mut file = BufWriter::new(file);
        for r in records {
            let line = json!({
                "time": r.time_ns, "agent": r.agent, "tenant": r.tenant, "event": r.kind.to_string(),
                "verdict": r.verdict.to_string(), "object": r.object, "detail": r.detail,
            });
            writeln!(file, "{line}").with_context(|| path.display().to_string())?;
        }
        file.flush().with_context(|| path.display().to_string())?;
        Ok(PlainLog(path.to_owned()))
    }

    /// A copy, to be forged.
    ///
    /// # Errors
    /// When it cannot be copied.
    pub fn copy(&self, to: &Path) -> Result<PlainLog> {
        std::fs::copy(&self.0, to).with_context(|| to.display().to_string())?;
        Ok(PlainLog(to.to_owned()))
    }

    /// What its reader notices; an error names the line.
    ///
    /// # Errors
    /// When a line is broken or time runs backwards.
    pub fn read(&self) -> Result<usize> {
        let file = std::fs::File::open(&self.0).with_context(|| self.0.display().to_string())?;
        let (mut last, mut lines) = (0, 0);
        for (n, line) in BufReader::new(file).lines().enumerate() {
            let value: Value = serde_json::from_str(&line?).with_context(|| format!("line {n}"))?;
            let time = value["time"].as_u64().with_context(|| format!("line {n} has no time"))?;
            ensure!(time >= last, "time runs backwards at line {n}");
            ensure!(value["event"].is_string(), "line {n} has no event");
            (last, lines) = (time, n + 1);
        }
        Ok(lines)
    }

    /// Whether the two files differ.
    ///
    /// # Errors
    /// When one cannot be read.
    pub fn differs(&self, other: &PlainLog) -> Result<bool> {
        Ok(self.lines()? != other.lines()?)
    }

    fn lines(&self) -> Result<Vec<String>> {
        let text = std::fs::read_to_string(&self.0);
        Ok(text.with_context(|| self.0.display().to_string())?.lines().map(str::to_owned).collect())
    }

    /// Puts other lines into the file, as whoever may write to it can.
    fn change(&self, edit: impl FnOnce(&mut Vec<String>) -> Result<()>) -> Result<()> {
        let mut lines = self.lines()?;
        edit(&mut lines)?;
        let text: String = lines.iter().flat_map(|line| [line, "\n"]).collect();
        std::fs::write(&self.0, text).with_context(|| self.0.display().to_string())
    }

    /// Changes one letter of `text`.
    ///
    /// # Errors
    /// When the text is nowhere.
    pub fn edit(&self, text: &str) -> Result<()> {
        self.change(|lines| {
            let n = find(lines, text)?;
            let changed: String = text.chars().map(|c| if c == 's' { 'S' } else { c }).collect();
            lines[n] = lines[n].replace(text, &changed);
            Ok(())
        })
    }

    /// Takes the line with `text` out.
    ///
    /// # Errors
    /// When the text is nowhere.
    pub fn delete(&self, text: &str) -> Result<()> {
        self.change(|lines| find(lines, text).map(|n| drop(lines.remove(n))))
    }

    /// Swaps what happened with its neighbour; each keeps the time of its place.
    ///
    /// # Errors
    /// When the text is nowhere or has no neighbour.
    pub fn reorder(&self, text: &str) -> Result<()> {
        self.change(|lines| {
            let n = find(lines, text)?;
            let next = Some(n + 1).filter(|next| *next < lines.len());
            let with = next.or(n.checked_sub(1)).context("one line")?;
            let mut a: Value = serde_json::from_str(&lines[n])?;
            let mut b: Value = serde_json::from_str(&lines[with])?;
            let time = a["time"].take();
            a["time"] = b["time"].take();
            b["time"] = time;
            lines[n] = b.to_string();
            lines[with] = a.to_string();
            Ok(())
        })
    }

    /// Drops the last lines.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn truncate(&self, count: usize) -> Result<()> {
        self.change(|lines| {
            lines.truncate(lines.len().saturating_sub(count));
            Ok(())
        })
    }
}

impl Drop for PlainLog {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn find(lines: &[String], text: &str) -> Result<usize> {
    lines.iter().position(|line| line.contains(text)).with_context(|| format!("no {text:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use abi::{Capability, Kind, Verdict};

    fn record(n: u64) -> Record {
        Record {
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
            body: None,
            cut: 0,
            count: 1,
        }
    }

    fn log(dir: &Path) -> PlainLog {
        PlainLog::write(&dir.join("plain.log"), &[record(2), record(0), record(1)]).unwrap()
    }

    #[test]
    fn it_is_a_file_with_a_line_for_each_record() {
        let dir = tempfile::tempdir().unwrap();
        let log = log(dir.path());
        let text = std::fs::read_to_string(dir.path().join("plain.log")).unwrap();
        assert_eq!(text.lines().count(), 3);
        assert!(text.lines().next().unwrap().contains("/secret/0"), "{text}");
        drop(log);
        assert!(!dir.path().join("plain.log").exists());
    }

    #[test]
    fn a_careful_forger_of_the_file_is_not_seen() {
        type Forge = fn(&PlainLog) -> Result<()>;
        let forgeries: &[Forge] = &[
            |log| log.edit("/secret/1"),
            |log| log.reorder("/secret/1"),
            |log| log.delete("/secret/0"),
            |log| log.truncate(1),
        ];
        let dir = tempfile::tempdir().unwrap();
        let log = log(dir.path());
        for forge in forgeries {
            let forged = log.copy(&dir.path().join("forged.log")).unwrap();
            assert!(!log.differs(&forged).unwrap(), "the copy itself");
            forge(&forged).unwrap();
            assert!(log.differs(&forged).unwrap());
            assert!(forged.read().is_ok());
        }
        assert_eq!(log.read().unwrap(), 3, "the log itself is whole");
        assert!(log.edit("/not/there").is_err());
    }

    #[test]
    fn a_clumsy_one_is() {
        let dir = tempfile::tempdir().unwrap();
        let log = log(dir.path());
        log.change(|lines| {
            lines.swap(0, 2);
            Ok(())
        })
        .unwrap();
        assert!(log.read().is_err());
        std::fs::write(&log.0, "{\n").unwrap();
        assert!(log.read().is_err());
    }
}
