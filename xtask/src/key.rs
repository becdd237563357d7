//! Content keys: what a built thing depends on, as one hash. Equal key, equal thing: no need to build it again.

use crate::context::Context;
use anyhow::{Context as _, Result};
use sha2::{Digest, Sha256};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// Collects the inputs of one thing.
#[derive(Default)]
pub struct Key(Sha256);

impl Key {
    /// Starts from a name and a version of the recipe itself.
    pub fn new(recipe: &str) -> Self {
        let mut key = Self::default();
        key.text(recipe);
        key
    }

    /// Adds a string.
    pub fn text(&mut self, text: &str) -> &mut Self {
        self.0.update((text.len() as u64).to_le_bytes());
        self.0.update(text);
        self
    }

    /// Adds a file's name, mode and content, or a folder's, recursively. What is absent counts as absent.
    pub fn path(&mut self, path: &Path) -> Result<&mut Self> {
        for file in files_below(path)? {
            let meta = fs::symlink_metadata(&file)?;
            self.text(&file.strip_prefix(path).unwrap_or(&file).to_string_lossy());
            self.text(&format!("{:o}", meta.permissions().mode() & 0o111));
            if meta.is_symlink() {
                self.text(&fs::read_link(&file)?.to_string_lossy());
            } else {
                self.0.update(meta.len().to_le_bytes());
                let mut reader = fs::File::open(&file)
                    .with_context(|| format!("cannot read {}", file.display()))?;
                std::io::copy(&mut reader, &mut self.0)?;
            }
        }
        Ok(self)
    }

    /// The key, 24 hex digits.
    pub fn finish(&self) -> String {
        self.0.clone().finalize().iter().take(12).map(|b| format!("{b:02x}")).collect()
    }
}

/// All files and links below a path (or the file itself), sorted; none if it does not exist.
pub fn files_below(path: &Path) -> Result<Vec<PathBuf>> {
    let Ok(meta) = fs::symlink_metadata(path) else { return Ok(Vec::new()) };
    if !meta.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut entries: Vec<PathBuf> =
        fs::read_dir(path)?.map(|e| e.map(|e| e.path())).collect::<Result<_, _>>()?;
    entries.sort();
    let mut files = Vec::new();
    for entry in entries {
        files.extend(files_below(&entry)?);
    }
    Ok(files)
}

/// Remembers in `target/x/stamps` for which key a thing was last built.
pub struct Stamp {
    file: PathBuf,
    key: String,
}

impl Stamp {
    /// The stamp of the thing called `name`, for the inputs in `key`.
    pub fn new(cx: &Context, name: &str, key: &Key) -> Self {
        Self { file: cx.work.join("stamps").join(name), key: key.finish() }
    }

    /// Whether the thing was built from the same inputs and its outputs are still there.
    pub fn is_fresh(&self, outputs: &[&Path]) -> bool {
        outputs.iter().all(|o| o.exists())
            && fs::read_to_string(&self.file).is_ok_and(|k| k == self.key)
    }

    /// To be called when the thing has been built.
    pub fn set(&self) -> Result<()> {
        fs::write(&self.file, &self.key).context("cannot write a stamp")
    }

    /// To be called before the thing is built: a build that breaks off leaves nothing that looks whole.
    pub fn clear(&self) {
        // Absent is what is wanted.
        let _ = fs::remove_file(&self.file);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_depends_on_content_and_name() {
        let dir = std::env::temp_dir().join(format!("xtask-key-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let key = |name: &str, text: &str| {
            let file = dir.join(name);
            fs::write(&file, text).unwrap();
            let key = Key::new("t").path(&dir).unwrap().finish();
            fs::remove_file(file).unwrap();
            key
        };
        assert_eq!(key("a", "x"), key("a", "x"));
        assert_ne!(key("a", "x"), key("a", "y"));
        assert_ne!(key("a", "x"), key("b", "x"));
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn text_boundaries_count() {
        let two = |a: &str, b: &str| Key::new("t").text(a).text(b).finish();
        assert_ne!(two("ab", "c"), two("a", "bc"));
    }
}
