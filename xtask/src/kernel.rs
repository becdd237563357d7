//! Which kernel the image gets: the newest of Debian backports, found through its meta package, since the mirror keeps no older one.

use crate::context::Context;
use crate::tools::Tools;
use crate::ui::Ui;
use anyhow::{Context as _, Result};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// Depends on the kernel packages of the day.
const META: &str = "linux-image-cloud-amd64/trixie-backports";

/// The kernel of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kernel {
    /// As `uname -r` says: `7.3.4+deb13-cloud-amd64`.
    pub release: String,
}

impl Kernel {
    /// The packages to install: binary and modules directly, as `linux-image` would pull in an initramfs tool.
    pub fn packages(&self) -> [String; 2] {
        [format!("linux-binary-{}", self.release), format!("linux-modules-{}", self.release)]
    }

    /// The kernel that was found last, else the newest now.
    pub fn find(cx: &Context, ui: &Ui, tools: &Tools) -> Result<Self> {
        match fs::read_to_string(remembered(cx)) {
            Ok(release) => Ok(Self { release: release.trim().to_owned() }),
            Err(_) => Self::newest(cx, ui, tools),
        }
    }

    /// Asks the mirror.
    pub fn newest(cx: &Context, ui: &Ui, tools: &Tools) -> Result<Self> {
        let step = ui.step("kernel", "newest backports kernel");
        let state = cx.cache.join("apt");
        for dir in ["lists/partial", "archives/partial"] {
            fs::create_dir_all(state.join(dir))?;
        }
        fs::write(state.join("status"), "")?;
        fs::write(state.join("coconut.sources"), tools.sources()?)?;
        let mut update = apt(cx, tools, "apt-get", &["update"]);
        step.run(&mut update, "is the Debian mirror reachable? COCONUT_MIRROR=URL names another")?;
        let output = apt(cx, tools, "apt-cache", &["depends", META]).output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let release = release_in(&text)
            .with_context(|| format!("{META} names no kernel: {text}"))?
            .to_owned();
        fs::create_dir_all(cx.image())?;
        fs::write(remembered(cx), &release)?;
        step.done(&release);
        Ok(Self { release })
    }

    /// Forgets what was found: the next build asks the mirror.
    pub fn forget(cx: &Context) {
        // Not there is what is wanted.
        let _ = fs::remove_file(remembered(cx));
    }
}

fn remembered(cx: &Context) -> PathBuf {
    cx.image().join("kernel-release")
}

fn apt(cx: &Context, tools: &Tools, program: &str, args: &[&str]) -> Command {
    let state = cx.cache.join("apt");
    let shown = state.display();
    let mut sandbox = tools.sandbox(cx, program);
    sandbox.writable(&state).network();
    for option in [
        format!("Dir::Etc::sourcelist={shown}/coconut.sources"),
        "Dir::Etc::sourceparts=-".to_owned(),
        format!("Dir::State={shown}"),
        format!("Dir::State::status={shown}/status"),
        format!("Dir::Cache={shown}"),
        "APT::Sandbox::User=root".to_owned(),
        "Acquire::Languages=none".to_owned(),
        "Acquire::Retries=5".to_owned(),
    ] {
        sandbox.args(["-o".to_owned(), option]);
    }
    sandbox.args(args.iter().copied());
    sandbox.command()
}

/// The release in a line `Depends: linux-image-RELEASE`.
fn release_in(depends: &str) -> Option<&str> {
    let mut names = depends.lines().filter_map(|l| l.trim().strip_prefix("Depends: linux-image-"));
    names.find(|name| name.starts_with(|c: char| c.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn release_is_read_from_the_meta_package() {
        let text = "linux-image-cloud-amd64\n  Depends: linux-base-cloud-amd64\n  \
            Depends: linux-image-7.3.4+deb13-cloud-amd64\n  Depends: linux-modules-cloud-amd64\n";
        assert_eq!(release_in(text), Some("7.3.4+deb13-cloud-amd64"));
        assert_eq!(release_in("E: No packages found"), None);
    }
}
