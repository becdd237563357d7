//! Reads the files that an analyst was given: text only, nothing outside, symbolic links not followed.

use crate::language::{self, Language};
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};

/// Folders that hold no source of the tree's own.
const SKIPPED: &[&str] =
    &["target", "node_modules", "__pycache__", "venv", "dist", "build", "vendor", "third_party"];
/// A larger file is data, whatever its name says.
const LARGEST: u64 = 4 << 20;

/// One text file.
#[derive(Debug)]
pub struct Source {
    /// Path below the tree's root, with `/`.
    pub name: String,
    /// Its language.
    pub language: &'static Language,
    /// Its contents.
    pub text: String,
}

impl Source {
    /// Lines in the file.
    pub fn lines(&self) -> usize {
        self.text.lines().count()
    }
}

/// Files of a known language, and how many others were seen.
#[derive(Debug, Default)]
pub struct Tree {
    /// In order of name.
    pub sources: Vec<Source>,
    /// Files that are no text or of no known language.
    pub other_files: usize,
    /// Bytes in all files.
    pub bytes: u64,
}

/// Reads `paths` (folders or files), naming each file relative to `root`. No path means the whole root.
pub fn read(root: &Path, paths: &[PathBuf]) -> Result<Tree> {
    let mut tree = Tree::default();
    let whole = [root.to_path_buf()];
    for path in if paths.is_empty() { &whole[..] } else { paths } {
        let path = if path.is_absolute() { path.clone() } else { root.join(path) };
        let kind = fs::symlink_metadata(&path)
            .with_context(|| format!("cannot look at {}", path.display()))?;
        if kind.is_dir() {
            walk(root, &path, &mut tree)?;
        } else if kind.is_file() {
            add(root, &path, kind.len(), &mut tree)?;
        } else {
            bail!("{} is neither a file nor a folder", path.display());
        }
    }
    tree.sources.sort_by(|a, b| a.name.cmp(&b.name));
    tree.sources.dedup_by(|a, b| a.name == b.name);
    Ok(tree)
}

fn walk(root: &Path, folder: &Path, tree: &mut Tree) -> Result<()> {
    let entries =
        fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    for entry in entries {
        let entry = entry.with_context(|| format!("cannot list {}", folder.display()))?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let kind = entry.file_type()?;
        if kind.is_dir() {
            if !is_skipped(&name) {
                walk(root, &entry.path(), tree)?;
            }
        } else if kind.is_file() && (!name.starts_with('.') || name == ".gitignore") {
            add(root, &entry.path(), entry.metadata()?.len(), tree)?;
        }
    }
    Ok(())
}

/// Hidden folders are tools' own, except the one that holds the project's checks.
pub fn is_skipped(folder: &str) -> bool {
    SKIPPED.contains(&folder) || (folder.starts_with('.') && folder != ".ci" && folder != ".github")
}

fn add(root: &Path, path: &Path, bytes: u64, tree: &mut Tree) -> Result<()> {
    tree.bytes += bytes;
    if bytes > LARGEST {
        tree.other_files += 1;
        return Ok(());
    }
    let raw = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let text = match String::from_utf8(raw) {
        Ok(text) if !text.contains('\0') => text,
        _ => {
            tree.other_files += 1;
            return Ok(());
        }
    };
    let name = path.strip_prefix(root).unwrap_or(path).to_string_lossy().into_owned();
    match language::detect(path, &text) {
        Some(language) => tree.sources.push(Source { name, language, text }),
        None => tree.other_files += 1,
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skips_hidden_build_and_binary_files_and_does_not_follow_links() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        fs::create_dir_all(root.join("target/x")).unwrap();
        fs::create_dir_all(root.join("src")).unwrap();
        fs::create_dir_all(root.join(".git")).unwrap();
        fs::write(root.join("target/x/a.rs"), "fn a() {}").unwrap();
        fs::write(root.join(".git/a.rs"), "fn a() {}").unwrap();
        fs::write(root.join("src/b.rs"), "fn b() {}\n").unwrap();
        fs::write(root.join("src/c.py"), [0xff, 0, 1]).unwrap();
        std::os::unix::fs::symlink("/etc", root.join("src/etc")).unwrap();
        let tree = read(root, &[]).unwrap();
        let names: Vec<_> = tree.sources.iter().map(|s| s.name.as_str()).collect();
        assert_eq!(names, ["src/b.rs"]);
        assert_eq!(tree.other_files, 1);
    }

    #[test]
    fn a_missing_path_is_an_error_that_names_it() {
        let dir = tempfile::tempdir().unwrap();
        let error = read(dir.path(), &["gone".into()]).unwrap_err().to_string();
        assert!(error.contains("gone"), "{error}");
    }
}
