//! Fairness, as the demonstration shows it but with fewer requests. What is judged are counts of what the engine did,
//! the same on a slow machine as on a fast one; the control is the same load without lanes.

use super::Case;
use crate::world::World;
use anyhow::{Context as _, Result, ensure};
use demo::report::{Check, Report};

/// The table.
pub const CASES: &[Case] = &[Case {
    name: "fairness.flood",
    promise: "who asks beside a flood waits for the step under way, not for the flood",
    run: flood,
}];

/// Blocks of six requests, alone and then beside the flood.
const PAIRS: &str = "2";
/// What a flood in front of an engine without lanes must break.
const WITH_CONTROL: [&str; 2] = ["quiet-next", "others-bounded"];

fn flood(world: &World) -> Result<String> {
    let out = world.ctx.work.join("fairness").display().to_string();
    let ran = world.call(&["demo", "fairness", "--pairs", PAIRS, "--json", "--out", &out])?;
    let report: Report = serde_json::from_str(&ran.stdout).with_context(|| ran.summary())?;
    let shown = report.demonstrations.first().context("nothing was shown")?;
    ensure!(shown.error.is_none(), "it was stopped: {}", shown.error.as_deref().unwrap_or("-"));
    let failed: Vec<String> = shown.checks.iter().filter(|c| !c.passed).map(told).collect();
    ensure!(failed.is_empty(), "{}", failed.join("; "));
    for name in WITH_CONTROL {
        let check = shown.checks.iter().find(|check| check.name == name);
        let control = check.and_then(|check| check.control.as_ref());
        ensure!(control.is_some_and(|control| control.harm), "{name} has no control");
    }
    ensure!(ran.code == 0 && report.failed == 0, "all passed, and yet: {}", ran.summary());
    let next = shown.checks.iter().find(|check| check.name == WITH_CONTROL[0]);
    Ok(next.map(|check| format!("({})", told(check))).unwrap_or_default())
}

fn told(check: &Check) -> String {
    let control = check.control.as_ref().map_or("none", |control| &control.observed);
    format!("{}: {}, without lanes {control}", check.name, check.observed)
}
