//! The checked-in C header is what cbindgen makes of this crate.
//!
//! After a change of the ABI: `COCONUT_BLESS=1 cargo test -p coconut-abi --test header`.

use cbindgen::{Builder, Config, Language, RenameRule, Style};
use std::path::Path;

const NOTICE: &str = "/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Generated from crates/abi by its test `header`; do not edit. */
#pragma once";

fn generate(root: &Path) -> String {
    let mut config = Config {
        language: Language::C,
        style: Style::Tag,
        header: Some(NOTICE.to_owned()),
        no_includes: true,
        usize_is_size_t: true,
        ..Config::default()
    };
    config.enumeration.rename_variants = RenameRule::ScreamingSnakeCase;
    config.enumeration.prefix_with_name = true;
    // Values pass between kernel programs and user space as `struct`s named as in Rust.
    config.export.include =
        ["KernelAgent", "RightsList", "FileKey", "FileNode", "GrantKey", "Grant", "OpenedFile"]
            .into_iter()
            .chain(["CountedKey", "Counted", "UseCounter", "Taken", "TakenFile"])
            .chain(["NetKey", "AbstractKey", "PlainKey", "TcpPeerKey", "KeptKey"])
            .chain(["Event", "SockObject", "Policy", "Control", "Resolved", "Hook", "AgentState"])
            .map(str::to_owned)
            .collect();
    config.export.exclude = vec!["AgentId".to_owned()];
    let mut builder = Builder::new().with_config(config);
    for file in ["agent", "caps", "control", "event"] {
        builder = builder.with_src(root.join("src").join(file).with_extension("rs"));
    }
    let mut text = Vec::new();
    builder.generate().expect("the ABI parses").write(&mut text);
    String::from_utf8(text).expect("a header is text")
}

#[test]
fn the_checked_in_header_is_the_generated_one() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let path = root.join("../../bpf/include/coconut_abi.h");
    let want = generate(root);
    if std::env::var_os("COCONUT_BLESS").is_some() {
        std::fs::write(&path, &want).expect("the header can be written");
    }
    let have = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        have == want,
        "bpf/include/coconut_abi.h is stale\nhint: COCONUT_BLESS=1 cargo test -p coconut-abi --test header"
    );
}
