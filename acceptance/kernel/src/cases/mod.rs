//! The scenarios, by what they are about; in each, what an agent may not do a non-agent may.

mod audit;
mod counted;
mod files;
mod forbidden;
mod hooks;
mod kept;
mod launch;
mod mapped;
mod net;
mod races;
mod reach;
mod revoke;
mod rooms;
mod seal;
mod shared;
mod shares;
mod strict;
mod tasks;
mod unix;
mod waiting;
mod wire;

use crate::world::World;
use anyhow::Result;
use std::fs;

type Group = fn(&World) -> Result<()>;

/// In this order: the seal comes last, because it stays; `mapped` comes while files have small numbers, for of
/// those that are the same modulo 256 one is taken for the other.
pub const GROUPS: [(&str, Group); 21] = [
    ("mapped", mapped::run),
    ("hooks", hooks::run),
    ("launch", launch::run),
    ("shared", shared::run),
    ("rooms", rooms::run),
    ("files", files::run),
    ("revoke", revoke::run),
    ("kept", kept::run),
    ("counted", counted::run),
    ("races", races::run),
    ("waiting", waiting::run),
    ("net", net::run),
    ("wire", wire::run),
    ("unix", unix::run),
    ("tasks", tasks::run),
    ("strict", strict::run),
    ("reach", reach::run),
    ("forbidden", forbidden::run),
    ("audit", audit::run),
    ("shares", shares::run),
    ("seal", seal::run),
];

/// The files that the scenarios are about.
pub fn lay_out() -> Result<()> {
    for dir in ["/dev/shm", "/dev/pts"] {
        fs::create_dir_all(dir)?;
    }
    let devpts = ["mount", "-t", "devpts", "devpts", "/dev/pts"];
    let mounted = std::process::Command::new("/bin/busybox").args(devpts).status()?;
    anyhow::ensure!(mounted.success(), "no /dev/pts");
    for dir in ["/data/ok/a/b/c/d/e/f", "/data/no", "/data/exe", "/data/out", "/data/ro"] {
        fs::create_dir_all(dir)?;
    }
    let files = ["/data/ok/f", "/data/ok/g", "/data/ok/a/b/c/d/e/f/deep", "/data/no/f"];
    for file in files.into_iter().chain(["/data/no/g", "/data/ro/f", "/data/exact"]) {
        fs::write(file, "hello world")?;
    }
    fs::copy("/bin/busybox", "/data/ok/program")?;
    for dir in ["exe", "no"] {
        fs::copy("/bin/busybox", format!("/data/{dir}/busybox"))?;
        let script = format!("/data/{dir}/script");
        fs::write(&script, format!("#!/data/{dir}/busybox true\n"))?;
        fs::set_permissions(script, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    }
    // A script that may be run, with an interpreter that may not.
    fs::write("/data/exe/lure", "#!/data/no/busybox true\n")?;
    fs::set_permissions("/data/exe/lure", std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    std::os::unix::fs::symlink("/data/ok", "/data/way")?;
    Ok(())
}
