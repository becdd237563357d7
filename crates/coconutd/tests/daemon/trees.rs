//! Trees of agents under random steps, as the kernel sees them: after each of its calls, no child has
//! a file, an address or a time that its parent lacks. What is asked is the sets that the kernel has,
//! by nodes and not by names, whatever the daemon believes.

use crate::fake::Running;
use abi::AgentId;
use api::agent::{CapabilityChange, SpawnSource};
use api::{AgentDetail, SpawnRequest};
use proptest::prelude::*;
use std::path::Path;

#[derive(Clone, Debug)]
enum Step {
    Spawn(usize, Vec<usize>),
    Grant(usize, usize),
    Revoke(usize, usize),
    End(usize),
    /// Something else is put where a folder was.
    Replace(bool),
}

/// `{}` is the folder that is worked in.
const RULES: [&str; 10] = [
    "fs.read={}",
    "fs.read={}/a",
    "fs.read={}/a/b",
    "fs.exec={}/a",
    "fs.write={}/a/b",
    "fs.create={}/a",
    "net.connect=*:443",
    "net.connect=192.0.2.1:443",
    "fs.read={}/a;expires=1h",
    "fs.read={}/link",
];

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0_usize..8, prop::collection::vec(0..RULES.len(), 0..4)).prop_map(|(p, r)| Step::Spawn(p, r)),
        3 => (0_usize..8, 0..RULES.len()).prop_map(|(a, r)| Step::Grant(a, r)),
        3 => (0_usize..8, 0..RULES.len()).prop_map(|(a, r)| Step::Revoke(a, r)),
        1 => (0_usize..8).prop_map(Step::End),
        2 => any::<bool>().prop_map(Step::Replace),
    ]
}

fn request(rules: Vec<String>) -> SpawnRequest {
    let capabilities = [vec!["agent.spawn=4".into(), "fs.exec=/usr/bin".into()], rules].concat();
    SpawnRequest {
        source: SpawnSource::AdHoc {
            tenant: "maya".into(),
            name: Some("n".into()),
            capabilities,
            weight: None,
        },
        args: vec!["/usr/bin/sleep".into(), "600".into()],
        cwd: None,
        env: Vec::new(),
        allow_unsigned: false,
        stdio: None,
    }
}

fn made(root: &Path) {
    std::fs::create_dir_all(root.join("a/b")).unwrap();
    std::fs::create_dir_all(root.join("secret")).unwrap();
    let _ = std::os::unix::fs::symlink(root.join("secret"), root.join("link"));
}

fn run(running: &Running, root: &Path, steps: &[Step]) {
    let client = running.client();
    let rule = |index: usize| RULES[index].replace("{}", &root.display().to_string());
    let change = |index| CapabilityChange { capability: rule(index), expires_ms: None, uses: None };
    let top: AgentDetail = client.post("/v1/agents", &request((0..7).map(rule).collect())).unwrap();
    let mut refused = 0;
    for (round, step) in steps.iter().enumerate() {
        let living: Vec<(AgentId, uuid::Uuid)> =
            running.daemon.inner().supervisor.living().map(|a| (a.aid, a.uuid)).collect();
        let Some((_, _)) = living.first() else { break };
        let pick = |i: usize| living[i % living.len()];
        match step {
            Step::Spawn(parent, rules) => {
                running.become_agent(Some(pick(*parent).0));
                let wanted = request(rules.iter().map(|index| rule(*index)).collect());
                refused +=
                    usize::from(client.post::<_, AgentDetail>("/v1/agents", &wanted).is_err());
                running.become_agent(None);
            }
            Step::Grant(agent, index) | Step::Revoke(agent, index) => {
                let verb = if matches!(step, Step::Grant(..)) { "grant" } else { "revoke" };
                let path = format!("/v1/agents/{}/{verb}", pick(*agent).1);
                let done = client.post::<_, api::agent::ChangeReport>(&path, &change(*index));
                refused += usize::from(done.is_err());
            }
            Step::End(agent) => {
                let path = format!("/v1/agents/{}/kill", pick(*agent).1);
                let _ = client.post::<_, api::Exit>(&path, &());
            }
            Step::Replace(inner) => {
                let path = root.join(if *inner { "a/b" } else { "a" });
                if path.exists() {
                    std::fs::rename(&path, root.join(format!("old-{round}"))).unwrap();
                }
                made(root);
            }
        }
    }
    let _ = client.post::<_, api::Exit>(&format!("/v1/agents/{}/kill", top.agent.aid), &());
    assert!(refused <= steps.len());
}

#[test]
fn at_no_moment_does_the_kernel_give_a_child_what_its_parent_lacks() {
    let running = Running::start();
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: 60,
        failure_persistence: None,
        max_shrink_iters: 40,
        ..ProptestConfig::default()
    });
    let steps = prop::collection::vec(step(), 1..25);
    let done = runner.run(&steps, |steps| {
        let folder = tempfile::tempdir().unwrap();
        let root = std::fs::canonicalize(folder.path()).unwrap();
        made(&root);
        run(&running, &root, &steps);
        let wrong = std::mem::take(&mut *running.fake.wrong.lock().unwrap());
        prop_assert!(wrong.is_empty(), "{wrong:#?}");
        Ok(())
    });
    done.unwrap();
    running.stop();
}
