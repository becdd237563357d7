//! Files that are whole or not there, and stay so through a power cut.

use crate::error::Error;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Writes files below a log's directory and remembers which directories must be synced.
pub(crate) struct Store {
    root: PathBuf,
    dirty: BTreeSet<PathBuf>,
}

impl Store {
    pub fn new(root: &Path) -> Self {
        Store { root: root.to_owned(), dirty: BTreeSet::new() }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Writes `relative` whole: beside it first, synced, then renamed over it.
    pub fn write(&mut self, relative: &Path, bytes: &[u8]) -> Result<(), Error> {
        self.put(relative, bytes, File::sync_data)
    }

    /// As [`Store::write`], without syncing: for what may be lost in a power cut.
    pub fn replace(&mut self, relative: &Path, bytes: &[u8]) -> Result<(), Error> {
        self.put(relative, bytes, |_| Ok(()))
    }

    fn put(
        &mut self,
        relative: &Path,
        bytes: &[u8],
        sync: impl FnOnce(&File) -> std::io::Result<()>,
    ) -> Result<(), Error> {
        let path = self.root.join(relative);
        let parent = path.parent().unwrap_or(&self.root).to_owned();
        self.make_directories(&parent)?;
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".new");
        let fresh = parent.join(name);
        let written = File::create(&fresh)
            .and_then(|mut file| file.write_all(bytes).and_then(|()| sync(&file)))
            .and_then(|()| fs::rename(&fresh, &path));
        written.map_err(|error| Error::io("write", &path, error))?;
        self.dirty.insert(parent);
        Ok(())
    }

    fn make_directories(&mut self, directory: &Path) -> Result<(), Error> {
        if directory.is_dir() {
            return Ok(());
        }
        if let Some(parent) = directory.parent() {
            self.make_directories(parent)?;
            self.dirty.insert(parent.to_owned());
        }
        match fs::create_dir(directory) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                Err(Error::io("make", directory, error))
            }
            _ => Ok(()),
        }
    }

    /// Makes the names of everything written so far durable.
    pub fn sync_names(&mut self) -> Result<(), Error> {
        while let Some(directory) = self.dirty.first().cloned() {
            File::open(&directory)
                .and_then(|file| file.sync_all())
                .map_err(|error| Error::io("sync", &directory, error))?;
            self.dirty.remove(&directory);
        }
        Ok(())
    }

    /// Removes what a newer file has replaced. That it stays does no harm, so failing is ignored.
    pub fn remove(&self, relative: &Path) {
        let path = self.root.join(relative);
        let _ = fs::remove_file(&path);
        // The `.p` directory goes with its last file.
        if let Some(parent) = path.parent().filter(|p| p.extension().is_some_and(|e| e == "p")) {
            let _ = fs::remove_dir(parent);
        }
    }
}
