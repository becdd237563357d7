//! What the daemons read from others: manifests, signatures, requests, the log, the kernel's ring. Each target takes any
//! bytes and asserts what must hold of them; [`TARGETS`] names them.
#![allow(clippy::unwrap_used)] // what cannot be unwrapped is what is looked for

mod attestation;
mod capability;
mod event;
mod log;
mod manifests;
mod records;
mod requests;

/// Asserts what must hold of these bytes, whatever they are.
pub type Target = fn(&[u8]);

/// Every target by its name, which is also that of its corpus in `fuzz/corpus/`.
pub const TARGETS: [(&str, Target); 8] = [
    ("attestation", attestation::envelope),
    ("capability", capability::rules),
    ("event", event::event),
    ("keys", attestation::keys),
    ("log", log::log),
    ("manifest", manifests::manifest),
    ("record", records::leaf),
    ("request", requests::request),
];

/// The target of that name.
pub fn target(name: &str) -> Option<Target> {
    TARGETS.iter().find(|(known, _)| *known == name).map(|(_, target)| *target)
}

/// The bytes as text; what is none is not looked at further.
fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}
