//! Reading an agent's output, also while its files take each other's places.

use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};

/// Bytes of one read.
const CHUNK: usize = 64 << 10;

/// How far somebody has read.
pub struct Reading {
    path: PathBuf,
    file: File,
    /// What comes after `file`, while the older one is read.
    next: Option<File>,
    at: u64,
    buffer: Vec<u8>,
}

impl Reading {
    /// From the oldest byte that is kept; `older` is what was written before `newer`.
    ///
    /// # Errors
    /// When nothing of it is kept.
    pub async fn open(newer: &Path, older: &Path) -> std::io::Result<Reading> {
        loop {
            let new = File::open(newer).await?;
            let (file, next) = match File::open(older).await {
                Ok(old) if same(&old, &new).await? => continue,
                Ok(old) => (old, Some(new)),
                Err(error) if error.kind() == ErrorKind::NotFound => (new, None),
                Err(error) => return Err(error),
            };
            let (path, buffer) = (newer.to_owned(), vec![0; CHUNK]);
            return Ok(Reading { path, file, next, at: 0, buffer });
        }
    }

    /// The next bytes; none when all that is kept has been read.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn read(&mut self) -> std::io::Result<Option<&[u8]>> {
        loop {
            let count = self.file.read(&mut self.buffer).await?;
            if count > 0 {
                self.at += count as u64;
                return Ok(Some(&self.buffer[..count]));
            }
            if let Some(next) = self.next.take() {
                (self.file, self.at) = (next, 0);
            } else if self.file.metadata().await?.len() < self.at {
                // It was emptied to make room.
                self.at = self.file.seek(std::io::SeekFrom::Start(0)).await?;
            } else {
                let new = match File::open(&self.path).await {
                    Ok(new) => new,
                    Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
                    Err(error) => return Err(error),
                };
                if same(&new, &self.file).await? {
                    return Ok(None);
                }
                (self.file, self.at) = (new, 0);
            }
        }
    }
}

async fn same(a: &File, b: &File) -> std::io::Result<bool> {
    Ok(a.metadata().await?.ino() == b.metadata().await?.ino())
}

#[cfg(test)]
mod tests {
    use super::super::{Limits, Shelf};
    use super::*;
    use uuid::Uuid;

    #[tokio::test]
    async fn a_reader_that_keeps_up_misses_nothing_while_files_turn_over() {
        let dir = tempfile::tempdir().unwrap();
        let shelf = Shelf::open(dir.path(), Limits { each: 300, all: 1 << 20, agents: 9 }).unwrap();
        let id = Uuid::from_u128(1);
        let mut kept = shelf.keep(id, "maya").unwrap();
        let (mut written, mut seen) = (String::new(), Vec::new());
        let mut reading = Reading::open(&shelf.newer(id), &shelf.older(id)).await.unwrap();
        for n in 0..100 {
            let line = format!("line {n}\n");
            kept.write(line.as_bytes());
            written.push_str(&line);
            while let Some(bytes) = reading.read().await.unwrap() {
                seen.extend_from_slice(bytes);
            }
        }
        assert_eq!(String::from_utf8(seen).unwrap(), written);
        // Somebody who comes now reads what is kept, in its order.
        let mut late = Reading::open(&shelf.newer(id), &shelf.older(id)).await.unwrap();
        let mut text = Vec::new();
        while let Some(bytes) = late.read().await.unwrap() {
            text.extend_from_slice(bytes);
        }
        let text = String::from_utf8(text).unwrap();
        assert!(written.ends_with(&text) && text.len() >= 150, "{text}");
    }
}
