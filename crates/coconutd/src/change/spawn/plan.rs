//! What is decided before anything is made: the program, the user, the rights, the standard files.

use super::{HOME, Plan};
use crate::authority::{key, source, users};
use crate::caller::Caller;
use crate::error::{Answer, Refusal};
use crate::handed::Handed;
use crate::output::Output;
use crate::rights::wanted;
use crate::state::Daemon;
use abi::AgentId;
use api::agent::SpawnRequest;
use manifest::{AbsPath, Digest};
use resolve::programs::Program;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use uuid::Uuid;

/// Decides; nothing is made yet.
///
/// # Errors
/// Names the step that refused.
pub(super) async fn plan(
    daemon: &Daemon,
    caller: Caller,
    request: &SpawnRequest,
    handed: Option<Handed>,
) -> Answer<Plan> {
    let prepared = source::prepare(daemon, &caller, request)?;
    let manifest = &prepared.manifest;
    let wrong_user = |refusal: Refusal| refusal.step("user");
    let user = manifest.agent.user.as_deref();
    let run_as = users::run_as(daemon, &caller, user).map_err(wrong_user)?;
    let program = program(daemon, manifest).await.map_err(|refusal| refusal.step("digest"))?;
    let parent = parent_of(&caller);
    let wanted = wanted::wanted(daemon, manifest, &program, parent).await?;
    if let Some(signer) = &prepared.signer {
        let own = users::run_as(daemon, &caller, None).map_err(wrong_user)?;
        let user = user.filter(|_| own.uid != run_as.uid);
        key::check(daemon, signer, &manifest.agent.tenant, &wanted, user).await?;
    }
    let asked = request.cwd.clone().map(PathBuf::from);
    let own = manifest.agent.cwd.as_ref().map(|path| PathBuf::from(path.as_str()));
    let cwd = asked.or(own).unwrap_or_else(|| PathBuf::from(HOME));
    let env = request.env.clone();
    let uuid = Uuid::now_v7();
    let tenant = &manifest.agent.tenant;
    let (stdio, output) =
        standard_files(daemon, uuid, tenant, handed.as_ref()).map_err(|error| {
            Refusal::failed(format!("cannot prepare its standard files: {error}")).step("stdio")
        })?;
    let shown = manifest::secrets::masked(&manifest.agent.command);
    Ok(Plan {
        caller,
        prepared,
        wanted,
        program,
        run_as,
        uuid,
        env,
        cwd,
        handed,
        stdio,
        output,
        shown,
    })
}

pub(super) fn parent_of(caller: &Caller) -> Option<AgentId> {
    match caller {
        Caller::Agent { aid, .. } => Some(*aid),
        _ => None,
    }
}

/// The program, held from now until it runs; its digest is the manifest's, if that names one.
async fn program(daemon: &Daemon, manifest: &manifest::Manifest) -> Answer<Program> {
    let path = AbsPath::parse(&manifest.agent.command[0])
        .map_err(|error| Refusal::usage(error.to_string()))?;
    let program = daemon.lookup.program(&path).await.map_err(|error| {
        Refusal::chain(api::ErrorCode::Failed, &error)
            .or_hint("the command must be the path of a program that exists")
    })?;
    let found = Digest(program.digest);
    match manifest.agent.digest {
        Some(wanted) if wanted != found => Err(Refusal::new(
            api::ErrorCode::Integrity,
            format!("{path} is not what the manifest names: its SHA-256 is {found}"),
        )
        .hint("restore the program, or have the manifest signed for the new one")),
        _ => Ok(program),
    }
}

type Standard = ([OwnedFd; 3], Option<Output>);

fn standard_files(
    daemon: &Daemon,
    uuid: Uuid,
    tenant: &str,
    handed: Option<&Handed>,
) -> std::io::Result<Standard> {
    if let Some(handed) = handed {
        let [a, b, c] = &handed.descriptors;
        return Ok(([a.try_clone()?, b.try_clone()?, c.try_clone()?], None));
    }
    let input: OwnedFd = File::open("/dev/null")?.into();
    let (output, out) = Output::new(daemon.shelf.keep(uuid, tenant)?)?;
    Ok(([input, out.try_clone()?, out], Some(output)))
}
