//! The Dream Team's programs and its report, tested together with this binary, as one `cargo test`.

use std::path::Path;
use std::process::Command;

#[test]
fn the_teams_own_tests_pass() {
    let home = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let output = Command::new("python3")
        .args(["-B", "-m", "unittest", "discover", "-s", "tests"])
        .current_dir(&home)
        .env("TREESCAN", env!("CARGO_BIN_EXE_treescan"))
        .output()
        .expect("python3 starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(!said.contains("skipped"), "{said}");
}
