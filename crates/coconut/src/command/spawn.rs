//! `spawn`: starts an agent in the background from a manifest.

use super::Context;
use crate::cli::Spawn;
use crate::failure::{Done, Failure, file_error};
use api::agent::SpawnSource;
use api::{AgentDetail, SpawnRequest};
use std::path::Path;

/// `coconut spawn`.
pub fn spawn(cx: &Context, args: Spawn) -> Done {
    let request = SpawnRequest {
        source: manifest_source(&args.manifest, args.tenant, args.name, Vec::new())?,
        args: args.args,
        cwd: None,
        env: args.env,
        allow_unsigned: args.allow_unsigned,
        stdio: None,
    };
    let detail: AgentDetail = cx.client()?.post("/v1/agents", &request)?;
    cx.out.answer("coconut.spawn/1", &detail, |_| format!("{}\n", detail.agent.aid))?;
    Ok(0)
}

/// Reads a manifest and the signature beside it, checks its grammar here where the file's name is
/// known.
pub fn manifest_source(
    path: &Path,
    tenant: Option<String>,
    name: Option<String>,
    capabilities: Vec<String>,
) -> Result<SpawnSource, Failure> {
    let text = std::fs::read_to_string(path).map_err(|e| file_error(path, e))?;
    super::manifests::parse(path, &text)?;
    let signature = match std::fs::read_to_string(super::manifests::signature_path(path)) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(file_error(&super::manifests::signature_path(path), error)),
    };
    let shown = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    Ok(SpawnSource::Manifest {
        path: shown.display().to_string(),
        text,
        signature,
        tenant,
        name,
        capabilities,
    })
}
