//! `quarantine --evidence DIR`: what the agents were when they stood still, in files.

use super::{Context, agent_path};
use crate::failure::Failure;
use api::ErrorCode;
use api::agent::Evidence;
use serde::Serialize;
use std::fs;
use std::io::Write;
use std::ops::ControlFlow;
use std::path::Path;

/// Writes `agents.json`, `records.jsonl` and what background agents wrote (`output-AID.log`) into a folder of [`make`].
pub fn collect(cx: &Context, aid: &str, dir: &Path) -> Result<(), Failure> {
    let client = cx.client()?;
    let evidence: Evidence = client.get(&agent_path(aid, "/evidence"))?;
    write(dir, "agents.json", &to_json(&evidence)?)?;
    let mut records = Vec::new();
    for one in &evidence.agents {
        let aid = one.detail.agent.aid;
        let its = aid.to_string();
        let mut all = Vec::new();
        client.records(&[("agent", its.as_str())], None, |record| {
            all.push(record);
            ControlFlow::Continue(())
        })?;
        for record in &all {
            records.extend(serde_json::to_vec(record).map_err(no_json)?);
            records.push(b'\n');
        }
        if one.detail.log_file.is_some() {
            let mut output = Vec::new();
            client.bytes(&agent_path(&aid.to_string(), "/logs"), |data| {
                output.extend_from_slice(data);
                ControlFlow::Continue(())
            })?;
            write(dir, &format!("output-{aid}.log"), &output)?;
        }
    }
    write(dir, "records.jsonl", &records)
}

fn to_json(value: &impl Serialize) -> Result<Vec<u8>, Failure> {
    serde_json::to_vec_pretty(value).map_err(no_json)
}

fn no_json(error: serde_json::Error) -> Failure {
    failed(anyhow::Error::new(error).context("cannot write the evidence as JSON"))
}

/// Makes the folder, where nothing may lie: evidence of two days does not mix.
pub fn make(dir: &Path) -> Result<(), Failure> {
    let taken = fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some());
    if taken {
        let text = format!("{} is not empty", dir.display());
        return Err(Failure::new(ErrorCode::Usage, text).hint("name a folder that does not exist"));
    }
    fs::create_dir_all(dir).map_err(|e| {
        failed(anyhow::Error::new(e).context(format!("cannot make {}", dir.display())))
    })
}

/// For its owner alone: it tells what agents read and wrote.
fn write(dir: &Path, name: &str, bytes: &[u8]) -> Result<(), Failure> {
    use std::os::unix::fs::OpenOptionsExt;
    let path = dir.join(name);
    let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
    let written = file.and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()));
    written.map_err(|e| {
        failed(anyhow::Error::new(e).context(format!("cannot write {}", path.display())))
    })
}

fn failed(error: anyhow::Error) -> Failure {
    Failure::from_error(ErrorCode::Failed, error)
}
