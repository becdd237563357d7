//! The official `openai` package for the image's Python, from pinned wheels, compiled ahead: importing it under emulation must not compile it.

use crate::context::Context;
use crate::key::{Key, Stamp};
use crate::tools::Tools;
use crate::ui::Ui;
use anyhow::Result;
use std::env;
use std::fs;
use std::path::Path;

const REQUIREMENTS: &str = "image/python-requirements.txt";
/// The host's own certificates: where a company's proxy signs anew, only the host knows its root.
const CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Fills `target/python`.
pub fn prepare(cx: &Context, ui: &Ui, tools: &Tools) -> Result<()> {
    let step = ui.step("python", "Python packages");
    let out = cx.path("target/python");
    let mut key = Key::new("python-1");
    key.path(&cx.path(REQUIREMENTS))?.text(&tools.tree.to_string_lossy());
    let stamp = Stamp::new(cx, "python", &key);
    if stamp.is_fresh(&[&out]) {
        step.skip();
        return Ok(());
    }
    stamp.clear();
    if out.exists() {
        fs::remove_dir_all(&out)?;
    }
    fs::create_dir_all(&out)?;
    let cache = cx.cache.join("pip");
    fs::create_dir_all(&cache)?;
    let mut pip = tools.sandbox(cx, "pip");
    pip.network().read_only(&cx.path("image")).writable(&out).writable(&cache);
    if Path::new(CERTIFICATES).exists() {
        pip.read_only(Path::new(CERTIFICATES)).env("PIP_CERT", CERTIFICATES);
    }
    for name in ["PIP_INDEX_URL", "HTTPS_PROXY", "https_proxy"] {
        if let Ok(value) = env::var(name) {
            pip.env(name, &value);
        }
    }
    pip.args(["install", "--quiet", "--disable-pip-version-check", "--root-user-action=ignore"]);
    pip.args(["--no-compile", "--require-hashes", "--only-binary", ":all:", "--cache-dir"]);
    pip.arg(&cache).arg("--target").arg(&out).arg("-r").arg(cx.path(REQUIREMENTS));
    step.run(
        &mut pip.command(),
        "is PyPI reachable? pip's own variables (PIP_INDEX_URL) are honoured",
    )?;
    let mut compile = tools.sandbox(cx, "python3");
    compile.writable(&out).no_network();
    // Checked by hash or not at all: times in an image are all the same.
    compile.args(["-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash", "-s"]);
    compile.arg(&out).arg("-p").arg("/opt/coconut/python").arg(&out);
    step.run(&mut compile.command(), "")?;
    stamp.set()?;
    step.done("");
    Ok(())
}
