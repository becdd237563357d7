//! Authority: what a key or a parent may give is what names lead to, not what they say.

use super::Case;
use crate::world::{PATIENCE, World};
use anyhow::{Context as _, Result, ensure};
use demo::agent::{Agent, Spec};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The table.
pub const CASES: &[Case] = &[
    Case {
        name: "authority.link",
        promise: "a signer's key gives no more than its own, whatever a link, the program or the user names",
        run: link,
    },
    Case {
        name: "delegation.swapped",
        promise: "a folder that is swapped while a child starts gives the child nothing that its parent lacks",
        run: swapped,
    },
];

/// Where an operator puts keys that he trusts, and where the image has its own: what can be covered
/// where `/etc` is part of a root that nobody can write.
const TRUST: [&str; 2] = ["/etc/coconut/trust", "/usr/share/coconut/trust"];
const NOBODY: u32 = 65_534;

/// What was put into the trust folder for one case.
struct Trusted {
    files: [PathBuf; 2],
    covered: Option<&'static str>,
}

impl Trusted {
    /// Trusts a key for one tenant with these grants, for as long as this lives.
    fn new(key: &Path, name: &str, grants: &[String]) -> Result<Trusted> {
        let (folder, covered) = match std::fs::create_dir_all(TRUST[0]) {
            Ok(()) => (TRUST[0], None),
            Err(_) => (TRUST[1], Some(TRUST[1])),
        };
        if let Some(folder) = covered {
            let done = Command::new("mount").args(["-t", "tmpfs", "tmpfs", folder]).status()?;
            ensure!(done.success(), "{folder} cannot be covered");
        }
        let files = ["pub", "toml"].map(|end| Path::new(folder).join(format!("{name}.{end}")));
        let trusted = Trusted { files, covered };
        std::fs::copy(key, &trusted.files[0]).with_context(|| key.display().to_string())?;
        let text = format!("grants = {grants:?}\ntenants = [\"poc\"]\n");
        std::fs::write(&trusted.files[1], text)?;
        Ok(trusted)
    }
}

impl Drop for Trusted {
    fn drop(&mut self) {
        for file in &self.files {
            let _ = std::fs::remove_file(file);
        }
        if let Some(folder) = self.covered {
            let _ = Command::new("umount").arg(folder).status();
        }
    }
}

fn link(world: &World) -> Result<String> {
    let name = world.ctx.unique("vendor");
    let root = world.ctx.work.join(&name);
    let at = |path: &str| root.join(path).display().to_string();
    std::fs::create_dir_all(root.join("own/data"))?;
    std::fs::create_dir(root.join("secret"))?;
    std::fs::write(root.join("secret/s"), "TOP-SECRET\n")?;
    std::os::unix::fs::symlink(root.join("secret"), root.join("own/link"))?;
    std::os::unix::fs::symlink("/usr/bin/env", root.join("own/tool"))?;
    std::fs::copy("/usr/bin/true", root.join("own/true"))?;
    let keys = world.ctx.work.display().to_string();
    world.expect(0, &["key", "new", &name, "--dir", &keys])?;
    let grants = [format!("fs.read={}", at("own")), format!("fs.exec={}", at("own"))];
    let _trusted = Trusted::new(&world.ctx.work.join(format!("{name}.pub")), &name, &grants)?;
    let key = world.ctx.work.join(format!("{name}.key")).display().to_string();
    let spawn = |case: &str,
                 command: &str,
                 agent: &str,
                 read: &str|
     -> Result<demo::coconut::Ran> {
        let manifest = world.file(
            &format!("{name}-{case}.toml"),
            &format!(
                "[agent]\nname = \"{name}-{case}\"\ntenant = \"poc\"\ncommand = [\"{command}\"]\n{agent}\n\n[capabilities]\n\"fs.read\" = [\"{read}\"]\n"
            ),
        )?;
        world.expect(0, &["manifest", "sign", &manifest, "--key", &key])?;
        world.call(&["spawn", &manifest])
    };
    let (own, data) = (at("own/true"), at("own/data"));
    // The controls: what is the vendor's own starts; and the link does lead to the secret.
    let ran = spawn("own", &own, "", &data)?;
    ensure!(ran.code == 0, "the vendor's own: {}", ran.summary());
    let through = std::fs::read_to_string(root.join("own/link/s"))?;
    ensure!(through.contains("TOP-SECRET"), "the link does not lead to the secret");
    for (case, command, agent, read) in [
        ("link", own.as_str(), "", at("own/link").as_str()),
        ("below", own.as_str(), "", at("own/link/s").as_str()),
        ("command", "/usr/bin/env", "", data.as_str()),
        ("tool", at("own/tool").as_str(), "", data.as_str()),
        ("user", own.as_str(), "user = \"nobody\"", data.as_str()),
    ] {
        let ran = spawn(case, command, agent, read)?;
        ensure!(ran.code == 3, "{case}: wanted exit 3, got {}", ran.summary());
    }
    hard_link(&root)
}

/// A second name of somebody else's file would be within the folder: the system lets nobody make one
/// but whoever may have the file. The control: root can.
fn hard_link(root: &Path) -> Result<String> {
    let (secret, own) = (root.join("secret/s"), root.join("open"));
    std::fs::create_dir(&own)?;
    std::os::unix::fs::chown(&own, Some(NOBODY), Some(NOBODY))?;
    let linked = Command::new("ln").arg(&secret).arg(own.join("theirs")).uid(NOBODY).output()?;
    ensure!(!linked.status.success(), "a user made a second name of root's file");
    std::fs::hard_link(&secret, own.join("roots")).context("root cannot link")?;
    Ok("link, file below a link, command, linked command, user, hard link".to_owned())
}

fn swapped(world: &World) -> Result<String> {
    let name = world.ctx.unique("swapped");
    let root = world.ctx.work.join(&name);
    let at = |path: &str| root.join(path).display().to_string();
    for folder in ["box/x", "secret"] {
        std::fs::create_dir_all(root.join(folder))?;
    }
    std::fs::write(root.join("secret/s"), "NOT-YOURS\n")?;
    std::fs::write(root.join("box/x/s"), "yours\n")?;
    // Hashing a long program leaves the parent time to swap what its child was promised.
    let program = root.join("box/prog");
    let script = format!("#!/usr/bin/dash\ncat {}\nexit\n", at("box/x/s"));
    std::fs::write(&program, &script)?;
    let file = std::fs::OpenOptions::new().write(true).open(&program)?;
    file.set_len(64 << 20)?;
    drop(file);
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755))?;
    let own = Command::new("chown").args(["-R", "coconut-agent", &at("box")]).status()?;
    ensure!(own.success(), "chown");
    let run = |swap: &str| -> Result<String> {
        let words = format!(
            "coconut run --tenant maya --cap fs.exec=@shell --cap fs.read={} -- {} & {swap} wait",
            at("box/x"),
            program.display()
        );
        let mut caps = vec!["fs.exec=@shell".to_owned(), "fs.exec=/usr/bin/coconut".to_owned()];
        caps.push(format!("fs.exec={}", program.display()));
        caps.extend(["read", "write", "delete"].map(|right| format!("fs.{right}={}", at("box"))));
        caps.push("agent.spawn=2".to_owned());
        let spec = Spec {
            name: world.ctx.unique("swapper"),
            tenant: "maya".to_owned(),
            caps,
            command: ["/usr/bin/dash", "-c", &words].map(str::to_owned).into(),
            ..Spec::default()
        };
        let ran = Agent::start(&world.ctx.coconut, spec)?.end(PATIENCE)?;
        Ok(format!("{}{}", ran.stdout, ran.stderr))
    };
    // The control: without a swap the child reads what it was promised.
    let plain = run("")?;
    ensure!(plain.contains("yours"), "the child cannot read its own: {plain}");
    let (x, old, secret) = (at("box/x"), at("box/old"), at("secret"));
    let seen = run(&format!("sleep 0.3; mv {x} {old}; ln -s {secret} {x};"))?;
    let through = std::fs::read_to_string(root.join("box/x/s"))?;
    ensure!(through.contains("NOT-YOURS"), "nothing was swapped: {seen}");
    ensure!(!seen.contains("NOT-YOURS"), "the child read what its parent may not: {seen}");
    Ok(String::new())
}
