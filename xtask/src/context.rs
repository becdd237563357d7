//! Where things lie: the checkout, its `target/`, and the cache that all checkouts share.

use anyhow::{Context as _, Result, bail};
use std::env;
use std::fs;
use std::path::{Path, PathBuf};

/// The folders that every command works with.
#[derive(Debug, Clone)]
pub struct Context {
    /// The checkout.
    pub root: PathBuf,
    /// What only this checkout uses: `target/x`.
    pub work: PathBuf,
    /// Where cargo puts what it builds.
    pub cargo_target: PathBuf,
    /// What all checkouts share, keyed by content.
    pub cache: PathBuf,
}

impl Context {
    /// Finds the folders and makes those that are missing.
    pub fn new() -> Result<Self> {
        // `./x` says where it lies: a checkout may have been moved or copied since this was compiled.
        let compiled = || Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_owned);
        let root = env::var_os("COCONUT_ROOT")
            .map(PathBuf::from)
            .or_else(compiled)
            .context("xtask has no parent folder")?
            .canonicalize()?;
        let cargo_target =
            env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
        let work = root.join("target/x");
        let cache = cache_dir()?;
        for dir in [&work.join("logs"), &work.join("stamps"), &work.join("tmp"), &cache] {
            fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        }
        Ok(Self { root, work, cargo_target, cache })
    }

    /// A path below the checkout.
    pub fn path(&self, below: &str) -> PathBuf {
        self.root.join(below)
    }

    /// A release binary that cargo built.
    pub fn binary(&self, name: &str) -> PathBuf {
        self.cargo_target.join("release").join(name)
    }

    /// The folder of the image and what belongs to it.
    pub fn image(&self) -> PathBuf {
        self.root.join("target/image")
    }
}

fn cache_dir() -> Result<PathBuf> {
    if let Some(dir) = env::var_os("COCONUT_CACHE") {
        return Ok(std::path::absolute(PathBuf::from(dir))?);
    }
    if let Some(dir) = env::var_os("XDG_CACHE_HOME") {
        return Ok(PathBuf::from(dir).join("coconut-os"));
    }
    match env::var_os("HOME") {
        Some(home) => Ok(PathBuf::from(home).join(".cache/coconut-os")),
        None => bail!("neither COCONUT_CACHE nor HOME is set\nhint: COCONUT_CACHE=/some/dir ./x …"),
    }
}
