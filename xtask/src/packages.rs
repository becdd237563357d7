//! Our own .deb packages, from `image/packages/NAME/{control,install,postinst}`.

use crate::context::Context;
use crate::key::{Key, Stamp, files_below};
use crate::ui::Ui;
use anyhow::{Context as _, Result, bail};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// One moment for every time stamp in an image.
pub const EPOCH: &str = "1790000000";

/// A built package.
#[derive(Debug, Clone)]
pub struct Package {
    /// Its Debian name.
    pub name: String,
    /// Its version; the part behind `+` is the content, so that a change is seen as one.
    pub version: String,
}

/// Where built packages lie.
pub fn folder(cx: &Context) -> PathBuf {
    cx.image().join("packages")
}

/// Builds every package that changed.
pub fn build(cx: &Context, ui: &Ui) -> Result<Vec<Package>> {
    let step = ui.step("packages", "Debian packages");
    let mut recipes: Vec<Recipe> = Vec::new();
    let mut folders: Vec<PathBuf> = fs::read_dir(cx.path("image/packages"))?
        .map(|e| e.map(|e| e.path()))
        .collect::<Result<_, _>>()?;
    folders.sort();
    for folder in folders {
        match Recipe::read(cx, &folder) {
            Ok(recipe) => recipes.push(recipe),
            Err(error) if std::env::var_os("COCONUT_PARTIAL").is_some() => {
                ui.say(&format!("  ! left out: {error:#}"));
            }
            Err(error) => return Err(error),
        }
    }
    // One version for all: they depend on one another exactly.
    let mut all = Key::new("packages-1");
    for recipe in &recipes {
        all.text(&recipe.name).text(&recipe.key(cx)?);
    }
    let version = format!("{}+{}", env!("CARGO_PKG_VERSION"), all.finish());
    let stamp = Stamp::new(cx, "packages", &all);
    let out = folder(cx);
    let packages: Vec<Package> = recipes
        .iter()
        .map(|r| Package { name: r.name.clone(), version: version.clone() })
        .collect();
    if stamp.is_fresh(&[&out]) {
        step.skip();
        return Ok(packages);
    }
    stamp.clear();
    if out.exists() {
        fs::remove_dir_all(&out)?;
    }
    fs::create_dir_all(&out)?;
    for recipe in &recipes {
        step.message(&recipe.name);
        let stage = recipe.stage(cx, &version)?;
        let mut dpkg = Command::new("dpkg-deb");
        dpkg.args(["--root-owner-group", "-Zzstd", "-z3", "--build"]);
        dpkg.env("SOURCE_DATE_EPOCH", EPOCH);
        step.run(dpkg.arg(&stage).arg(&out), "")?;
    }
    stamp.set()?;
    step.done(&version);
    Ok(packages)
}

/// What an item of a package is made from.
enum Source {
    /// A file or a folder with all below it.
    Path(PathBuf),
    /// A symbolic link with this target.
    Link(String),
    /// An empty folder.
    Folder,
}

/// A line of an `install` file.
struct Item {
    mode: u32,
    source: Source,
    destination: String,
}

/// Reads an `install` file: `MODE SOURCE DESTINATION`, `link TARGET DESTINATION`, `include FILE`.
fn read_list(cx: &Context, list: &Path) -> Result<Vec<Item>> {
    let text = fs::read_to_string(list).with_context(|| format!("no {}", list.display()))?;
    let mut items = Vec::new();
    for line in text.lines().filter(|l| !l.trim().is_empty() && !l.starts_with('#')) {
        if let Some(other) = line.strip_prefix("include ") {
            items.extend(read_list(cx, &cx.path(other.trim()))?);
        } else {
            let item = Item::parse(cx, line);
            items.push(item.with_context(|| format!("{}: {line}", list.display()))?);
        }
    }
    Ok(items)
}

struct Recipe {
    name: String,
    folder: PathBuf,
    items: Vec<Item>,
}

impl Recipe {
    fn read(cx: &Context, folder: &Path) -> Result<Self> {
        let name = folder.file_name().context("no name")?.to_string_lossy().into_owned();
        let items = read_list(cx, &folder.join("install"))?;
        Ok(Self { name, folder: folder.to_owned(), items })
    }

    fn key(&self, cx: &Context) -> Result<String> {
        let mut key = Key::new(&self.name);
        key.path(&self.folder)?;
        for item in &self.items {
            key.text(&item.destination);
            match &item.source {
                // What cargo built is told apart by content too, so nothing here depends on times.
                Source::Path(path) => key.path(path)?,
                Source::Link(target) => key.text(target),
                Source::Folder => &mut key,
            };
        }
        key.path(&cx.path("xtask/src/packages.rs"))?;
        Ok(key.finish())
    }

    /// Lays the package out as `dpkg-deb` wants it.
    fn stage(&self, cx: &Context, version: &str) -> Result<PathBuf> {
        let stage = cx.work.join("packages").join(&self.name);
        if stage.exists() {
            fs::remove_dir_all(&stage)?;
        }
        let debian = stage.join("DEBIAN");
        fs::create_dir_all(&debian)?;
        let fields =
            fs::read_to_string(self.folder.join("control"))?.replace("${version}", version);
        let architecture =
            if fields.contains("\nArchitecture:") { "" } else { "Architecture: amd64\n" };
        let control = format!(
            "Package: {}\nVersion: {version}\n{architecture}Priority: optional\nMaintainer: The Coconut OS authors <coconut@localhost>\n{fields}",
            self.name
        );
        fs::write(debian.join("control"), control)?;
        let postinst = self.folder.join("postinst");
        if postinst.exists() {
            copy(&postinst, &debian.join("postinst"), 0o755)?;
        }
        for item in &self.items {
            item.install(&stage)?;
        }
        open_folders(&stage)?;
        Ok(stage)
    }
}

impl Item {
    fn parse(cx: &Context, line: &str) -> Result<Self> {
        let mut words = line.split_whitespace();
        let (Some(mode), Some(source), Some(to), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            bail!("expected MODE SOURCE DESTINATION");
        };
        let destination = to.trim_start_matches('/').to_owned();
        if mode == "link" {
            return Ok(Self { mode: 0, source: Source::Link(source.to_owned()), destination });
        }
        let mode = u32::from_str_radix(mode, 8).context("mode")?;
        if source == "-" {
            return Ok(Self { mode, source: Source::Folder, destination });
        }
        let path = match source.split_once('/') {
            Some(("release", binary)) => cx.binary(binary),
            Some(("manual", file)) => cx.work.join("manual").join(file),
            _ => cx.path(source.trim_end_matches('/')),
        };
        if !path.exists() {
            bail!("{} does not exist", path.display());
        }
        Ok(Self { mode, source: Source::Path(path), destination })
    }

    fn install(&self, stage: &Path) -> Result<()> {
        let destination = stage.join(&self.destination);
        let source = match &self.source {
            Source::Path(path) => path,
            Source::Link(target) => {
                fs::create_dir_all(destination.parent().context("no parent folder")?)?;
                return Ok(std::os::unix::fs::symlink(target, destination)?);
            }
            Source::Folder => return Ok(fs::create_dir_all(destination)?),
        };
        if !source.is_dir() {
            return copy(source, &destination, self.mode);
        }
        for file in files_below(source)? {
            let to = destination.join(file.strip_prefix(source)?);
            let meta = fs::symlink_metadata(&file)?;
            // Scripts keep their x bit.
            copy(&file, &to, self.mode | (meta.permissions().mode() & 0o111))?;
        }
        Ok(())
    }
}

fn copy(from: &Path, to: &Path, mode: u32) -> Result<()> {
    let parent = to.parent().context("no parent folder")?;
    fs::create_dir_all(parent)?;
    if fs::symlink_metadata(from)?.is_symlink() {
        std::os::unix::fs::symlink(fs::read_link(from)?, to)?;
        return Ok(());
    }
    fs::copy(from, to).with_context(|| format!("cannot copy {}", from.display()))?;
    fs::set_permissions(to, fs::Permissions::from_mode(mode))?;
    Ok(())
}

/// Whatever the umask of who builds: folders are 0755.
fn open_folders(dir: &Path) -> Result<()> {
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755))?;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            open_folders(&entry.path())?;
        }
    }
    Ok(())
}
