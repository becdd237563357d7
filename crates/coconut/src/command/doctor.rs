//! `doctor`: kernel and machine by our own eyes, the daemon by its own word.

use super::Context;
use super::probe::Probe;
use crate::failure::Done;
use crate::render::{self, thousands};
use api::Status;
use api::client::ClientError;
use api::status::{Feature, Level, LogCheck, LogState};
use serde::Serialize;
use std::path::Path;

#[derive(Serialize)]
struct Report {
    kernel: Vec<Feature>,
    machine: Vec<Feature>,
    daemon: Vec<Feature>,
    /// What coconutd says of itself; none when it is not there.
    status: Option<Status>,
}

/// `coconut doctor`: 0 unless something is missing that Coconut cannot run without.
pub fn doctor(cx: &Context) -> Done {
    let probe = Probe::new(Path::new("/"));
    let (daemon, status) = match cx.client()?.get::<Status>("/v1/status") {
        Ok(status) => (daemon(&status), Some(status)),
        Err(error) => (vec![absent(&error)], None),
    };
    let report = Report { kernel: probe.kernel(), machine: probe.machine(), daemon, status };
    cx.out.answer("coconut.doctor/1", &report, |width| {
        let sections: [(&str, &[Feature]); 3] = [
            ("Kernel", &report.kernel),
            ("Machine", &report.machine),
            ("coconutd", &report.daemon),
        ];
        render::doctor::report(&sections, width)
    })?;
    let missing = report.kernel.iter().any(|f| f.level == Level::Missing);
    Ok(u8::from(missing))
}

fn absent(error: &ClientError) -> Feature {
    Feature {
        name: "daemon".into(),
        level: Level::Weaker,
        found: "does not answer".into(),
        advice: Some(match error {
            ClientError::Unreachable { .. } => "start it with `systemctl start coconutd`".into(),
            other => other.to_string(),
        }),
    }
}

fn fact(name: &str, good: bool, found: String, advice: &str) -> Feature {
    Feature {
        name: name.into(),
        level: if good { Level::Ok } else { Level::Weaker },
        found,
        advice: (!good).then(|| advice.to_owned()),
    }
}

fn daemon(status: &Status) -> Vec<Feature> {
    let mut facts = vec![
        fact("daemon", true, format!("version {}, pid {}", status.version, status.pid), ""),
        fact(
            "sealed",
            status.sealed,
            if status.sealed { "yes: only coconutd can change the policy" } else { "no" }.into(),
            "root can unload or blind the policy; see `journalctl -u coconutd`",
        ),
        fact(
            "programs",
            !status.programs.is_empty(),
            format!("{} kernel programs attached", status.programs.len()),
            "nothing is enforced",
        ),
        fact(
            "log",
            status.events_lost == 0,
            format!("{} records, key {}", thousands(status.records), status.log_key),
            "kernel events were lost; each gap is a record: `coconut audit query --kind gap`",
        ),
        fact(
            "broker",
            status.broker_connected,
            if status.broker_connected { "connected" } else { "not connected" }.into(),
            "agents with infer are refused until it is: `systemctl status coconut-broker`",
        ),
        fact(
            "trust",
            !status.trusted_keys.is_empty(),
            match status.trusted_keys.len() {
                0 => "no key".into(),
                _ => status.trusted_keys.join(", "),
            },
            "only unsigned manifests can run, with --allow-unsigned; `coconut key new` makes a key",
        ),
    ];
    facts.push(log_check(status));
    facts.extend(status.log_stuck.iter().map(|why| {
        fact(
            "recording",
            false,
            format!("nothing can be recorded: {why}"),
            "agents wait and none can start; make room in /var/lib/coconut, it goes on by itself",
        )
    }));
    facts.extend(status.registry_stuck.iter().map(|why| {
        fact(
            "registry",
            false,
            format!("changes are not written down for the next coconutd: {why}"),
            "a restart would end the agents that were changed; make room in /run, it goes on by itself",
        )
    }));
    let shares = |feature: &&Feature| feature.name == "shared-namespaces";
    facts.extend(status.features.iter().find(shares).map(|feature| {
        fact(
            "sharing",
            feature.level == Level::Ok,
            format!("agents can share namespaces: {}", feature.found),
            "`namespaces = \"shared\"` in [agent] needs Linux 6.15 or later",
        )
    }));
    facts.extend(status.features.iter().filter(|feature| feature.name == "user-limits").cloned());
    if status.sealed {
        // The seal's own price: it makes no exception for PID 1.
        facts.push(fact(
            "unit-filters",
            false,
            "systemd cannot attach BPF filters either".into(),
            "DeviceAllow=, IPAddressDeny= and SocketBindDeny= of units that start after coconutd \
             have no effect",
        ));
    }
    facts.extend(status.degraded.iter().map(|what| {
        fact(
            "degraded",
            false,
            what.clone(),
            "recorded in the log: `coconut audit query --kind degraded`",
        )
    }));
    facts
}

/// What the daemon found when it read its log whole.
fn log_check(status: &Status) -> Feature {
    let LogCheck { state, leaves, found } = &status.log_check;
    let found = found.clone().unwrap_or_default();
    let text = match state {
        LogState::Running => "is being verified; it is written meanwhile".to_owned(),
        LogState::Sound => {
            format!("sound: all {} leaves at the start were verified", thousands(*leaves))
        }
        LogState::Violated => format!("VIOLATED: {found}"),
        LogState::Failed => format!("could not be verified: {found}"),
    };
    let good = matches!(state, LogState::Running | LogState::Sound);
    fact(
        "log-check",
        good,
        text,
        "`coconut audit verify` says more; copy the log away, it is evidence",
    )
}
