//! `ps`, `show` and `tree` as a person sees them in 80 columns.

use super::super::sample::{NOW, agent, fits, plain};
use super::*;
use api::agent::{Counters, Provenance};

fn team() -> AgentList {
    let mut coordinator = agent(0x0a1b_2c3d, "coordinator", "dream-team");
    coordinator.denials = 2;
    let mut reviewer = agent(0x0a1b_2c3e, "reviewer-of-the-kernel-modules", "dream-team");
    reviewer.parent = Some(coordinator.aid);
    reviewer.state = AgentState::InferenceBlocked;
    let mut clerk = agent(0x0a1b_2c3f, "clerk", "omar");
    clerk.state = AgentState::TerminatedFailed;
    clerk.ended_ns = Some(NOW - 1_000_000_000);
    clerk.exit = Some(Exit {
        status: Some(3),
        signal: None,
        reason: None,
        state: AgentState::TerminatedFailed,
    });
    AgentList { agents: vec![coordinator, reviewer, clerk], next: None }
}

#[test]
fn ps_fits_eighty_columns() {
    let text = ps(&team(), NOW, 80);
    fits(&text, 80);
    let expected = "\
AID       NAME              TENANT      STATE              DENIED  AGE  COMMAND
0a1b2c3d  coordinator       dream-team  active                  2   2m  python3…
0a1b2c3e  reviewer-of-the…  dream-team  inference-blocked       -   2m  python3…
0a1b2c3f  clerk             omar        exit 3                  -   2m  python3…
";
    assert_eq!(plain(&text), expected);
}

#[test]
fn an_empty_list_says_what_to_do() {
    let text = ps(&AgentList::default(), NOW, 80);
    fits(&text, 80);
    assert!(text.contains("coconut run"));
}

#[test]
fn tree_shows_who_spawned_whom() {
    let text = tree(&team(), NOW, 80);
    fits(&text, 80);
    let expected = "\
AGENT                                 AID       STATE              AGE  COMMAND
dream-team
└─ coordinator                        0a1b2c3d  active              2m  python3…
   └─ reviewer-of-the-kernel-modules  0a1b2c3e  inference-blocked   2m  python3…
omar
└─ clerk                              0a1b2c3f  exit 3              2m  python3…
";
    assert_eq!(plain(&text), expected);
}

#[test]
fn show_tells_everything_about_one_agent() {
    let mut list = team();
    let detail = AgentDetail {
        agent: list.agents.remove(0),
        slot: "3.1".into(),
        cgroup: "/sys/fs/cgroup/coconut.slice/dream-team/019ab000-0000-7000-8000-00000a1b2c3d"
            .into(),
        origin: Provenance {
            path: "/usr/share/coconut/workloads/dream-team/coordinator.toml".into(),
            digest: "0123456789abcdef0123456789abcdef".into(),
            authorizer: "image-workloads".into(),
            signed: true,
        },
        capabilities: vec![],
        counters: Counters { kernel_denials: 2, log_kernel_denials: 2, ..Counters::default() },
        children: vec![list.agents[0].aid],
        program_digest: None,
        log_file: Some("/var/log/coconut/agents/019ab000.log".into()),
        log_dropped: 0,
    };
    let text = show(&detail, NOW, 80);
    fits(&text, 80);
    let expected = "\
coordinator  019ab000-0000-7000-8000-00000a1b2c3d
state       active, pid 412, started 2m ago
command     /usr/bin/python3 /opt/team/researcher.py
tenant      dream-team, weight 100 within it
parent      none
children    0a1b2c3e
runs as     uid 998, asked for by uid 0
manifest    /usr/share/coconut/workloads/dream-team/coordinator.toml, authorized
            by image-workloads, sha256:0123456789abcdef
cgroup      coconut.slice/dream-team/019ab000-0000-7000-8000-00000a1b2c3d (slot
            3.1)
output      /var/log/coconut/agents/019ab000.log
denials     2 in the kernel, 2 in the log, 0 by the daemon
uses        0 in the log

It holds no capability.
";
    assert_eq!(plain(&text), expected);
}
