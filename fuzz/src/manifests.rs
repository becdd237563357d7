//! Manifests and profiles: what is accepted prints as what it is, what is refused says where and why.

use crate::text;
use manifest::{Manifest, ManifestError, Profile, limits};

/// A manifest, and the same bytes as a profile.
pub fn manifest(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    match Manifest::parse("agent.toml", text) {
        Ok(manifest) => accepted(text, &manifest),
        Err(error) => refused(text, &error),
    }
    if let Err(error) = Profile::parse("profile", text) {
        refused(text, &error);
    }
}

fn accepted(text: &str, manifest: &Manifest) {
    assert!(
        text.len() <= limits::MANIFEST_BYTES && manifest.agent.command.len() <= limits::ARGUMENTS
    );
    assert!(manifest::is_name(&manifest.agent.name) && manifest::is_name(&manifest.agent.tenant));
    assert!((1..=limits::WEIGHT).contains(&manifest.weight));
    let printed = manifest.to_toml();
    let again = Manifest::parse("printed.toml", &printed);
    let again = again.unwrap_or_else(|e| panic!("{}\n{printed}", e.render()));
    let (before, after) = (without_places(manifest), without_places(&again));
    assert_eq!(after, before, "what is printed is another manifest:\n{printed}");
    assert_eq!(again.to_toml(), printed);
}

/// Rules and profiles as texts, in an order of their own; and all the rest.
fn without_places(manifest: &Manifest) -> (Vec<String>, Vec<String>, Manifest) {
    let mut rules: Vec<String> = manifest.rules.iter().map(|one| one.rule.to_string()).collect();
    let mut profiles: Vec<String> = manifest.profiles.iter().map(|one| one.name.clone()).collect();
    rules.sort();
    profiles.sort();
    (rules, profiles, Manifest { rules: Vec::new(), profiles: Vec::new(), ..manifest.clone() })
}

fn refused(text: &str, error: &ManifestError) {
    assert!(!error.problems.is_empty(), "refused without a reason");
    assert!(error.problems.len() <= limits::PROBLEMS + 1);
    for problem in &error.problems {
        assert!(!problem.message.is_empty() && problem.line >= 1 && problem.column >= 1);
        assert!(problem.offset + problem.length <= text.len(), "{problem:?} is beyond the text");
        assert!(text.is_char_boundary(problem.offset), "{problem:?} is within a character");
        assert!(text.is_char_boundary(problem.offset + problem.length), "{problem:?}");
        assert!((problem.line as usize) <= text.lines().count() + 1, "{problem:?}");
    }
    // The plain text fits into a terminal and shows the lines.
    assert!(error.render().lines().all(|line| line.chars().count() <= 512));
}
