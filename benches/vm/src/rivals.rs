//! Other ways to put a program into a box, as far as they are installed.

use anyhow::{Context as _, Result, ensure};
use demo::Context;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What everybody runs.
pub const PROGRAM: &str = "/usr/bin/true";

/// A rival.
pub struct Rival {
    /// For the table.
    pub name: String,
    program: &'static str,
    args: Vec<String>,
    /// The last argument is a name that must be new each time.
    named: bool,
}

impl Rival {
    /// The one that agents are compared with.
    pub fn is_bwrap(&self) -> bool {
        self.program == "bwrap"
    }

    /// The n-th run.
    pub fn command(&self, n: usize) -> Command {
        let mut command = Command::new(self.program);
        command.args(&self.args);
        if self.named {
            command.arg(format!("coconut-bench-{n}"));
        }
        command
    }
}

/// Those that work here; what does not is named in `missing`.
pub fn find(ctx: &Context, missing: &mut Vec<String>) -> Vec<Rival> {
    let bwrap = [
        "--unshare-all",
        "--ro-bind",
        "/",
        "/",
        "--dev",
        "/dev",
        "--proc",
        "/proc",
        "--tmpfs",
        "/tmp",
        PROGRAM,
    ];
    let bwrap = Rival {
        name: "bwrap --unshare-all".to_owned(),
        program: "bwrap",
        args: bwrap.map(str::to_owned).into(),
        named: false,
    };
    let mut found = Vec::new();
    match bundle(&ctx.work.join("crun")) {
        Ok(dir) => {
            // Its device filter is a BPF program, which the seal refuses: without a cgroup it has
            // less to do than usual.
            let bundle = dir.display().to_string();
            let args = ["--cgroup-manager=disabled", "run", "--bundle", &bundle];
            let args = args.map(str::to_owned).into();
            let name = "crun run, without a cgroup".to_owned();
            found.push(Rival { name, program: "crun", args, named: true });
        }
        Err(error) => missing.push(format!("crun: {error:#}")),
    }
    found.insert(0, bwrap);
    found.retain(|rival| match rival.command(usize::MAX).output() {
        Ok(done) if done.status.success() => true,
        Ok(done) => {
            let why = String::from_utf8_lossy(&done.stderr).trim().to_owned();
            missing.push(format!("{}: {why}", rival.name));
            false
        }
        Err(error) => {
            missing.push(format!("{}: {error}", rival.name));
            false
        }
    });
    found
}

/// An OCI bundle that sees the machine's own /usr, so that the same program runs.
fn bundle(dir: &Path) -> Result<PathBuf> {
    std::fs::create_dir_all(dir.join("rootfs"))?;
    let done = Command::new("crun").arg("spec").current_dir(dir).output().context("crun spec")?;
    ensure!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr).trim());
    let file = dir.join("config.json");
    let mut config: Value = serde_json::from_slice(&std::fs::read(&file)?)?;
    config["process"]["terminal"] = json!(false);
    config["process"]["args"] = json!([PROGRAM]);
    config["root"] = json!({ "path": "rootfs", "readonly": false });
    let mounts = config["mounts"].as_array_mut().context("no mounts in crun's config.json")?;
    for path in ["/usr", "/lib", "/lib64", "/bin"] {
        if Path::new(path).exists() {
            let options = json!(["rbind", "ro"]);
            mounts.push(
                json!({ "destination": path, "type": "bind", "source": path, "options": options }),
            );
        }
    }
    std::fs::write(&file, serde_json::to_vec(&config)?)?;
    Ok(dir.to_owned())
}
