//! Units of systemd: what is asked of them, and what a case changes about one for as long as it runs.

use anyhow::{Context as _, Result, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What systemd says.
///
/// # Errors
/// When it fails, with what it said.
pub fn systemctl(args: &[&str]) -> Result<String> {
    let done = Command::new("systemctl").args(args).output()?;
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    ensure!(
        done.status.success(),
        "systemctl {}: {}{}",
        args.join(" "),
        said.trim(),
        last_words(args)
    );
    Ok(String::from_utf8_lossy(&done.stdout).trim().to_owned())
}

/// What a unit that does not start has said itself; systemd only names the command that shows it.
fn last_words(args: &[&str]) -> String {
    let [verb, .., unit] = args else { return String::new() };
    if !["start", "restart"].contains(verb) {
        return String::new();
    }
    let lines = Command::new("journalctl").args(["-n", "12", "-o", "cat", "-u", unit]).output();
    lines.map(|done| format!("\n{}", String::from_utf8_lossy(&done.stdout))).unwrap_or_default()
}

/// Whatever a case did to the unit is taken back.
pub struct DropIn {
    file: PathBuf,
    unit: &'static str,
}

impl DropIn {
    /// Changes a unit; it is not restarted.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn put(unit: &'static str, text: &str) -> Result<DropIn> {
        let folder = Path::new("/run/systemd/system").join(format!("{unit}.d"));
        std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        let file = folder.join("acceptance.conf");
        std::fs::write(&file, text).with_context(|| file.display().to_string())?;
        systemctl(&["daemon-reload"])?;
        Ok(DropIn { file, unit })
    }
}

impl Drop for DropIn {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.file);
        let _ = systemctl(&["daemon-reload"]);
        if systemctl(&["is-failed", self.unit]).is_ok() {
            let _ = systemctl(&["reset-failed", self.unit]);
        }
        let _ = systemctl(&["start", self.unit]);
    }
}
