//! Everything between a checkout and a bootable image, in the order that takes least time.

use crate::accel::Accel;
use crate::context::Context;
use crate::disk::Disk;
use crate::tools::Tools;
use crate::tree::Tree;
use crate::ui::{Ui, seconds};
use crate::vm::Boot;
use crate::{build, kernel, packages, python, source};
use anyhow::{Result, anyhow};
use std::sync::OnceLock;
use std::time::Instant;

/// What a VM needs.
#[derive(Clone)]
pub struct Ready {
    /// The tools tree, with QEMU in it.
    pub tools: Tools,
    /// The image's root tree and the disk for direct boot.
    pub tree: Tree,
    /// How the VM's processor is made.
    pub accel: Accel,
}

/// Builds what changed, once in a run of `./x`: the parts of a test share it.
pub fn image(cx: &Context, ui: &Ui) -> Result<Ready> {
    static READY: OnceLock<Ready> = OnceLock::new();
    if let Some(ready) = READY.get() {
        return Ok(ready.clone());
    }
    let ready = build_image(cx, ui)?;
    Ok(READY.get_or_init(|| ready).clone())
}

/// The downloads run beside the compiler, which is the long pole.
fn build_image(cx: &Context, ui: &Ui) -> Result<Ready> {
    let begun = Instant::now();
    let tools = std::thread::scope(|scope| {
        let downloads = scope.spawn(|| downloads(cx, ui));
        let built = build::binaries(cx, ui);
        let downloads = downloads.join().map_err(|_| anyhow!("a thread of ./x fell over"))?;
        built.and(downloads)
    })?;
    build::model(cx, ui)?;
    build::sign(cx, ui)?;
    build::manual(cx, ui)?;
    let packages = packages::build(cx, ui)?;
    let tree = Tree::prepare(cx, ui, &tools, &packages)?;
    let accel = Accel::find(cx, ui, &tools, &tree.vmlinuz)?;
    ui.say(&format!("  ✓ {:<34} {:>6}", "the image is ready", seconds(begun.elapsed())));
    Ok(Ready { tools, tree, accel })
}

/// The image, and the disk of it that boots through UEFI.
pub fn image_and_disk(cx: &Context, ui: &Ui) -> Result<(Ready, Disk)> {
    let ready = image(cx, ui)?;
    let disk = Disk::prepare(cx, ui, &ready.tools, &ready.tree)?;
    Ok((ready, disk))
}

fn downloads(cx: &Context, ui: &Ui) -> Result<Tools> {
    source::prepare(cx, ui)?;
    let tools = Tools::prepare(cx, ui)?;
    python::prepare(cx, ui, &tools)?;
    kernel::Kernel::find(cx, ui, &tools)?;
    Ok(tools)
}

/// The boot that takes seconds.
pub fn direct(ready: &Ready) -> Boot {
    Boot::Direct { vmlinuz: ready.tree.vmlinuz.clone(), disk: ready.tree.disk.clone() }
}
