//! What this kernel and machine offer, read from `/sys` and `/proc`: works without daemon, root
//! and libbpf.

use api::status::{Feature, Level};
use std::path::Path;

/// Oldest kernel with everything that Coconut uses.
const KERNEL_FLOOR: (u32, u32) = (6, 12);

/// Where the kernel tells about itself; another root in tests.
pub struct Probe<'a> {
    root: &'a Path,
}

impl<'a> Probe<'a> {
    /// Reads below `root`, `/` outside tests.
    pub fn new(root: &'a Path) -> Self {
        Self { root }
    }

    /// What the policy needs of the kernel.
    pub fn kernel(&self) -> Vec<Feature> {
        vec![
            self.release(),
            self.bpf_lsm(),
            self.btf(),
            self.cgroup2(),
            self.lockdown(),
            self.sched_ext(),
        ]
    }

    /// What the machine adds.
    pub fn machine(&self) -> Vec<Feature> {
        vec![self.secure_boot(), self.tpm(), self.swap()]
    }

    fn read(&self, path: &str) -> Option<String> {
        let text = std::fs::read_to_string(self.root.join(path)).ok()?;
        Some(text.trim().to_owned())
    }

    fn exists(&self, path: &str) -> bool {
        self.root.join(path).exists()
    }

    fn release(&self) -> Feature {
        let found = self.read("proc/sys/kernel/osrelease").unwrap_or_else(|| "unknown".into());
        let mut parts = found.split(['.', '-']).map(|p| p.parse::<u32>().unwrap_or(0));
        let version = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
        let advice = "Coconut needs Linux 6.12 or newer; Debian backports has one";
        judge("kernel", version >= KERNEL_FLOOR, Level::Missing, &found, advice)
    }

    fn bpf_lsm(&self) -> Feature {
        let Some(active) = self.read("sys/kernel/security/lsm") else {
            let advice = "securityfs is not readable here; run as root, or mount it";
            return feature("bpf-lsm", Level::Weaker, "cannot be seen", Some(advice));
        };
        let on = active.split(',').any(|lsm| lsm == "bpf");
        let advice = "without it nothing is enforced: boot with lsm=landlock,lockdown,yama,bpf";
        judge("bpf-lsm", on, Level::Missing, &active, advice)
    }

    fn btf(&self) -> Feature {
        let there = self.exists("sys/kernel/btf/vmlinux");
        let found = if there { "/sys/kernel/btf/vmlinux" } else { "none" };
        let advice = "the kernel programs cannot be fitted to this kernel: CONFIG_DEBUG_INFO_BTF";
        judge("btf", there, Level::Missing, found, advice)
    }

    fn cgroup2(&self) -> Feature {
        let controllers = self.read("sys/fs/cgroup/cgroup.controllers");
        let advice = "agents are cgroups: boot with systemd.unified_cgroup_hierarchy=1";
        let Some(controllers) = controllers else {
            return feature("cgroup2", Level::Missing, "not at /sys/fs/cgroup", Some(advice));
        };
        let lacking: Vec<&str> = ["cpu", "memory", "pids"]
            .into_iter()
            .filter(|c| !controllers.split(' ').any(|have| have == *c))
            .collect();
        let advice = format!("without {} lanes or limits do not bind", lacking.join(", "));
        judge("cgroup2", lacking.is_empty(), Level::Weaker, &controllers, &advice)
    }

    fn lockdown(&self) -> Feature {
        let text = self.read("sys/kernel/security/lockdown").unwrap_or_default();
        let level = text.split(['[', ']']).nth(1).unwrap_or("cannot be seen").to_owned();
        match level.as_str() {
            "integrity" => feature("lockdown", Level::Ok, "integrity", None),
            "confidentiality" => {
                let advice =
                    "the kernel programs do not load under it: boot with lockdown=integrity";
                feature("lockdown", Level::Missing, "confidentiality", Some(advice))
            }
            other => {
                let advice = "root can change the running kernel: boot with lockdown=integrity";
                feature("lockdown", Level::Weaker, other, Some(advice))
            }
        }
    }

    fn sched_ext(&self) -> Feature {
        let there = self.exists("sys/kernel/sched_ext");
        let found = match self.read("sys/kernel/sched_ext/root/ops") {
            Some(name) => format!("{name} runs"),
            None if there => "available; cpu.weight is used".into(),
            None => "not in this kernel".into(),
        };
        let advice = "processor lanes are cgroup weights alone, which many threads can outrun";
        judge("sched_ext", there, Level::Weaker, &found, advice)
    }

    fn secure_boot(&self) -> Feature {
        const NAME: &str =
            "sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c";
        let advice = "nothing proves which kernel was booted: turn it on in the firmware";
        // Four bytes of attributes, then the value.
        let on = std::fs::read(self.root.join(NAME)).ok().and_then(|bytes| bytes.get(4).copied());
        let found = match on {
            Some(1) => "on",
            Some(_) => "off",
            None if self.exists("sys/firmware/efi") => "cannot be seen",
            None => "not booted through UEFI",
        };
        judge("secure-boot", on == Some(1), Level::Weaker, found, advice)
    }

    fn tpm(&self) -> Feature {
        let version = self.read("sys/class/tpm/tpm0/tpm_version_major");
        let found = version.as_ref().map_or("none".into(), |v| format!("TPM {v}"));
        let advice = "the log key lies in a file, and boots cannot be attested";
        judge("tpm", version.as_deref() == Some("2"), Level::Weaker, &found, advice)
    }

    fn swap(&self) -> Feature {
        let text = self.read("proc/swaps").unwrap_or_default();
        let devices: Vec<&str> =
            text.lines().skip(1).filter_map(|line| line.split_whitespace().next()).collect();
        let found = if devices.is_empty() { "none".into() } else { devices.join(" ") };
        let advice = "an agent's ssd budget is nothing without it: `mkswap` and `swapon` a file";
        judge("swap", !devices.is_empty(), Level::Weaker, &found, advice)
    }
}

fn feature(name: &str, level: Level, found: &str, advice: Option<&str>) -> Feature {
    Feature { name: name.into(), level, found: found.into(), advice: advice.map(str::to_owned) }
}

fn judge(name: &str, good: bool, otherwise: Level, found: &str, advice: &str) -> Feature {
    let (level, advice) = if good { (Level::Ok, None) } else { (otherwise, Some(advice)) };
    feature(name, level, found, advice)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        root
    }

    fn level(features: &[Feature], name: &str) -> Level {
        features.iter().find(|f| f.name == name).unwrap().level
    }

    #[test]
    fn a_machine_that_has_all_is_ok() {
        let root = machine(&[
            ("proc/sys/kernel/osrelease", "7.3.2+deb13-cloud-amd64\n"),
            ("sys/kernel/security/lsm", "lockdown,capability,landlock,yama,bpf"),
            ("sys/kernel/security/lockdown", "none [integrity] confidentiality\n"),
            ("sys/kernel/btf/vmlinux", ""),
            ("sys/fs/cgroup/cgroup.controllers", "cpuset cpu io memory pids\n"),
            ("sys/kernel/sched_ext/state", "disabled"),
        ]);
        let kernel = Probe::new(root.path()).kernel();
        for feature in &kernel {
            assert_eq!(feature.level, Level::Ok, "{feature:?}");
        }
        // What nothing here uses makes no machine stronger, and is not named.
        let named: Vec<&str> = kernel.iter().map(|feature| feature.name.as_str()).collect();
        assert_eq!(named, ["kernel", "bpf-lsm", "btf", "cgroup2", "lockdown", "sched_ext"]);
    }

    #[test]
    fn what_is_missing_is_named() {
        let root = machine(&[
            ("proc/sys/kernel/osrelease", "6.1.0-30-amd64"),
            ("sys/kernel/security/lsm", "lockdown,capability,yama"),
            ("sys/kernel/security/lockdown", "none integrity [confidentiality]"),
        ]);
        let probe = Probe::new(root.path());
        let kernel = probe.kernel();
        for name in ["kernel", "bpf-lsm", "btf", "cgroup2", "lockdown"] {
            assert_eq!(level(&kernel, name), Level::Missing, "{name}");
        }
        for feature in probe.machine() {
            assert_eq!(feature.level, Level::Weaker, "{feature:?}");
            assert!(feature.advice.is_some());
        }
    }
}
