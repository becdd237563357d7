//! What the kernel offers, in the words of `coconut doctor`; what is weaker is recorded at boot.

use api::status::{Feature, Level};
use kernel::{Features, Lockdown};

/// Every feature that Coconut uses, and how far it is there.
pub fn list(found: &Features) -> Vec<Feature> {
    let yes = |there: bool| if there { "yes" } else { "no" }.to_owned();
    vec![
        feature("bpf-lsm", found.bpf_lsm, Level::Missing, found.lsms.join(",")),
        feature("btf", found.btf, Level::Missing, yes(found.btf)),
        feature("cgroup2", found.cgroup2, Level::Missing, found.controllers.join(" ")),
        feature(
            "lockdown",
            found.lockdown == Lockdown::Integrity,
            Level::Weaker,
            format!("{:?}", found.lockdown).to_lowercase(),
        ),
        feature("sched_ext", found.sched_ext, Level::Weaker, yes(found.sched_ext)),
        feature(
            "shared-namespaces",
            found.shared_namespaces,
            Level::Weaker,
            yes(found.shared_namespaces),
        ),
        user_limits(&found.low_limits),
    ]
}

/// Whether an agent can use up what is counted by user, which all agents of that user share.
fn user_limits(low: &[&str]) -> Feature {
    let found = match low {
        [] => "out of an agent's reach".to_owned(),
        some => format!("one agent can use up: {}", some.join(", ")),
    };
    let mut feature = feature("user-limits", low.is_empty(), Level::Weaker, found);
    feature.advice = (!low.is_empty()).then(|| "systemctl restart systemd-sysctl".to_owned());
    feature
}

/// Whether each hook of this kernel has been thought about.
pub fn hooks(unknown: &[String]) -> Feature {
    let found = match unknown {
        [] => "each is in the table".to_owned(),
        some => format!("not in the table: {}", some.join(", ")),
    };
    feature("hooks", unknown.is_empty(), Level::Weaker, found)
}

fn feature(name: &str, good: bool, otherwise: Level, found: String) -> Feature {
    let level = if good { Level::Ok } else { otherwise };
    Feature { name: name.to_owned(), level, found, advice: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hook_that_nobody_knows_is_named() {
        assert_eq!(hooks(&[]).level, Level::Ok);
        let weaker = hooks(&["file_teleport".to_owned()]);
        assert_eq!(weaker.level, Level::Weaker);
        assert!(weaker.found.contains("file_teleport"));
    }
}
