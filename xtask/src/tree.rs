//! The root tree, made by mkosi, and the plain ext4 disk from it that boots straight from the kernel.

use crate::context::Context;
use crate::kernel::Kernel;
use crate::key::{Key, Stamp};
use crate::packages::{EPOCH, Package};
use crate::sandbox::Sandbox;
use crate::tools::Tools;
use crate::ui::Ui;
use anyhow::{Context as _, Result};
use std::fs;
use std::path::PathBuf;

/// Fixed, so that equal inputs give equal disks.
const UUID: &str = "0e9a6fe2-68f6-408c-bbeb-136054d20445";
/// Free space on the writable disk, for agents' work and the log.
const FREE_MIB: u64 = 3072;

/// What `./x vm` boots.
#[derive(Debug, Clone)]
pub struct Tree {
    /// The root tree as a folder.
    pub root: PathBuf,
    /// The same as an ext4 disk.
    pub disk: PathBuf,
    /// The kernel in it.
    pub vmlinuz: PathBuf,
    /// What it was made from.
    pub key: String,
}

impl Tree {
    /// Builds what changed.
    pub fn prepare(cx: &Context, ui: &Ui, tools: &Tools, packages: &[Package]) -> Result<Self> {
        let out = cx.image();
        fs::create_dir_all(&out)?;
        let kernel = Kernel::find(cx, ui, tools)?;
        let step = ui.step("image", "image: root tree");
        let mut key = Key::new("tree-1");
        key.text(&kernel.release).path(&cx.path("image/tree"))?.text(&tools.tree.to_string_lossy());
        for package in packages {
            key.text(&package.name).text(&package.version);
        }
        let stamp = Stamp::new(cx, "tree", &key);
        let tree = Self {
            root: out.join("tree"),
            disk: out.join("root.ext4"),
            vmlinuz: out.join("vmlinuz"),
            key: key.finish(),
        };
        if stamp.is_fresh(&[&tree.root, &tree.disk, &tree.vmlinuz]) {
            step.skip();
            return Ok(tree);
        }
        stamp.clear();
        let mut mkosi = mkosi(cx, tools, "tree")?;
        for package in kernel.packages() {
            mkosi.args(["--package".to_owned(), package]);
        }
        for package in packages {
            mkosi.args(["--volatile-package".to_owned(), package.name.clone()]);
        }
        mkosi.args([
            "--volatile-package-directory".into(),
            crate::packages::folder(cx).into_os_string(),
        ]);
        mkosi.args(["-f", "build"]);
        step.run(&mut mkosi.command(), "./x clean && ./x image starts from nothing")?;
        step.done(&kernel.release);
        tree.make_disk(cx, ui, tools)?;
        stamp.set()?;
        Ok(tree)
    }

    fn make_disk(&self, cx: &Context, ui: &Ui, tools: &Tools) -> Result<()> {
        let step = ui.step("disk-ext4", "image: disk for direct boot");
        let script = format!(
            "set -e; size=$(du -sm tree | cut -f1); rm -f root.part; \
             truncate -s $((size * 5 / 4 + {FREE_MIB}))M root.part; \
             mke2fs -q -t ext4 -U {UUID} -O ^has_journal,verity,metadata_csum -m 0 -L root \
               -E hash_seed={UUID},lazy_itable_init=1,nodiscard -d tree root.part; \
             mv root.part root.ext4; cp tree/usr/lib/modules/*/vmlinuz vmlinuz; chmod a+r vmlinuz root.ext4; \
             cp tree/usr/share/coconut/manifest.json manifest.json"
        );
        let mut sandbox = tools.sandbox(cx, "bash");
        sandbox.writable(&cx.image()).dir(&cx.image()).no_network().env("SOURCE_DATE_EPOCH", EPOCH);
        sandbox.args(["-c", &script]);
        step.run(&mut sandbox.command(), "")?;
        step.done("");
        Ok(())
    }
}

/// mkosi for one of the configurations below `image/`, with our sources, caches and outputs.
pub fn mkosi(cx: &Context, tools: &Tools, config: &str) -> Result<Sandbox> {
    let sources = cx.work.join("mkosi-sandbox");
    let apt = sources.join("etc/apt");
    fs::create_dir_all(apt.join("sources.list.d"))?;
    fs::create_dir_all(apt.join("apt.conf.d"))?;
    fs::write(apt.join("sources.list.d/mkosi.sources"), tools.sources()?)?;
    fs::write(
        apt.join("apt.conf.d/90coconut"),
        "Acquire::Languages \"none\";\nAcquire::Retries \"5\";\n",
    )?;
    let package_cache = cx.cache.join("packages");
    let cache = cx.work.join("mkosi-cache");
    for dir in [&package_cache, &cache] {
        fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    }
    let mut sandbox = tools.sandbox(cx, "mkosi");
    let folder = cx.path("image").join(config);
    sandbox.network().read_only(&cx.path("image")).writable(&package_cache).dir(&folder);
    // One mount for all of it: between two, mkosi would have to copy where it can rename.
    sandbox.writable(&cx.root.join("target"));
    for (flag, path) in [
        ("--directory", &folder),
        ("--output-directory", &cx.image()),
        ("--cache-directory", &cache),
        ("--workspace-directory", &cx.work.join("tmp")),
        ("--package-cache-directory", &package_cache),
        ("--sandbox-tree", &sources),
    ] {
        sandbox.arg(flag).arg(path);
    }
    Ok(sandbox)
}
