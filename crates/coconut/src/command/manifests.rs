//! `manifest check`, `sign`, `verify`.

use super::Context;
use super::keys::{key_error, store};
use crate::cli;
use crate::failure::{Done, Failure, file_error};
use ::manifest::{Manifest, ManifestError, Problem, Profiles};
use api::ErrorCode;
use attest::{Authorized, ManifestFacts, SecretKey, VerifyError};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Where profiles that replace or add to the built-in ones lie; as coconutd reads them.
const PROFILES: &str = "/usr/share/coconut/profiles";

/// `coconut manifest …`.
pub fn manifest(cx: &Context, command: cli::Manifest) -> Done {
    match command {
        cli::Manifest::Check { file } => check(cx, &file),
        cli::Manifest::Sign { file, key } => sign(cx, &file, &key),
        cli::Manifest::Verify { file, trust } => verify(cx, &file, &trust),
        cli::Manifest::Init(_) => Err(Failure::planned("manifest init")),
        cli::Manifest::Learn(_) => Err(Failure::planned("manifest learn")),
    }
}

#[derive(Serialize)]
struct Checked {
    file: String,
    ok: bool,
    problems: Vec<Problem>,
}

#[derive(Serialize)]
struct Report {
    files: Vec<Checked>,
}

/// `coconut manifest check`: 0 if all are right, 1 if one is not.
fn check(cx: &Context, files: &[PathBuf]) -> Done {
    let mut report = Report { files: Vec::new() };
    let mut text = String::new();
    for path in files {
        let source = std::fs::read_to_string(path).map_err(|e| file_error(path, e))?;
        let file = path.display().to_string();
        let made = Manifest::parse(&file, &source);
        text.push_str(&verdict(&file, made.as_ref()));
        let problems = made.err().map(|e| e.problems).unwrap_or_default();
        report.files.push(Checked { file, ok: problems.is_empty(), problems });
    }
    let good = report.files.iter().all(|f| f.ok);
    cx.out.answer("coconut.manifest-check/1", &report, |_| text)?;
    Ok(u8::from(!good))
}

fn verdict(file: &str, made: Result<&Manifest, &ManifestError>) -> String {
    match made {
        Ok(manifest) => format!(
            "{file}: ok: agent {} of tenant {}; capabilities: {}, profiles: {}\n",
            manifest.agent.name,
            manifest.agent.tenant,
            manifest.rules.len(),
            manifest.profiles.len()
        ),
        Err(error) => error.render(),
    }
}

/// Reads a manifest that is about to be used; what is wrong is shown as `check` shows it.
pub fn parse(path: &Path, text: &str) -> Result<Manifest, Failure> {
    Manifest::parse(&path.display().to_string(), text).map_err(|error| {
        let mut failure = Failure::new(ErrorCode::Usage, &error);
        failure.excerpt = Some(error.render());
        failure.step = Some("manifest".into());
        failure.hint("correct it, then `coconut manifest check` it")
    })
}

#[derive(Serialize)]
struct Signed {
    manifest: String,
    signature: String,
    signer: String,
    key_id: String,
    manifest_sha256: String,
}

/// `coconut manifest sign`: writes the envelope beside the manifest, over an older one too.
fn sign(cx: &Context, path: &Path, key: &Path) -> Done {
    let text = std::fs::read_to_string(path).map_err(|e| file_error(path, e))?;
    let manifest = parse(path, &text)?;
    let key = SecretKey::load(key).map_err(key_error)?;
    let now = crate::render::time::now_ns() / 1_000_000_000;
    let envelope = attest::sign_manifest(text.as_bytes(), &facts(&manifest), &key, now);
    let signature = signature_path(path);
    std::fs::write(&signature, envelope.to_json()).map_err(|e| file_error(&signature, e))?;
    let signed = Signed {
        manifest: path.display().to_string(),
        signature: signature.display().to_string(),
        signer: key.name().to_owned(),
        key_id: key.public().id(),
        manifest_sha256: attest::sha256_hex(text.as_bytes()),
    };
    cx.out.answer("coconut.manifest-sign/1", &signed, |_| {
        format!("{}: signed by {}\n", signed.signature, signed.signer)
    })?;
    Ok(0)
}

/// `coconut manifest verify`: 0, 3 if the key may not, 6 if the signature does not fit.
fn verify(cx: &Context, path: &Path, trust: &[PathBuf]) -> Done {
    let text = std::fs::read_to_string(path).map_err(|e| file_error(path, e))?;
    let manifest = parse(path, &text)?;
    let signature = signature_path(path);
    let envelope = std::fs::read(&signature).map_err(|e| file_error(&signature, e))?;
    let store = store(trust)?;
    let profiles = Profiles::load(Path::new(PROFILES)).unwrap_or_else(|_| Profiles::built_in());
    let done = attest::verify_manifest(
        text.as_bytes(),
        &facts(&manifest),
        Some(&envelope),
        &store,
        &|grant, wanted| ::manifest::grant_covers(grant, wanted, &profiles),
    );
    let authorized: Authorized = done.map_err(refused)?;
    cx.out.answer("coconut.manifest-verify/1", &authorized, |_| {
        format!("{}: signed by {}, who may grant all of it\n", path.display(), authorized.signer)
    })?;
    Ok(0)
}

fn refused(refusal: VerifyError) -> Failure {
    let code = match &refusal {
        VerifyError::Unsigned
        | VerifyError::UnknownKey(_)
        | VerifyError::RevokedKey(_)
        | VerifyError::RevokedManifest(_)
        | VerifyError::MayNotCharge { .. }
        | VerifyError::MayNotGrant { .. } => ErrorCode::Denied,
        _ => ErrorCode::Integrity,
    };
    Failure::from_error(code, refusal.into())
        .hint("`coconut key ls` shows who is trusted with what")
}

/// What a signature binds beside the text, and what else its signer must be allowed to grant.
fn facts(manifest: &Manifest) -> ManifestFacts {
    ManifestFacts {
        name: manifest.agent.name.clone(),
        tenant: manifest.agent.tenant.clone(),
        capabilities: manifest.capability_texts(),
        further: manifest.further_texts(),
    }
}

/// `x.toml` → `x.toml.sig`.
pub fn signature_path(manifest: &Path) -> PathBuf {
    let mut name = manifest.as_os_str().to_owned();
    name.push(".sig");
    PathBuf::from(name)
}
