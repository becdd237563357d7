//! Compiles `bpf/lsm` to one object and generates its skeleton.

use libbpf_cargo::SkeletonBuilder;
use std::path::{Path, PathBuf};
use std::process::{Command, exit};

/// The CO-RE code needs clang 17 or newer; distributions name it with its version.
const CLANGS: [&str; 6] = ["clang-19", "clang-20", "clang-21", "clang-18", "clang-17", "clang"];

fn main() {
    let Some(out) = std::env::var_os("OUT_DIR").map(PathBuf::from) else {
        fail("cargo did not say where to build");
    };
    // Relative to the package, which is where cargo runs this: two checkouts may share a target
    // folder, and neither must see the other's programs.
    let root = Path::new("../../bpf");
    let object = out.join("coconut.bpf.o");
    let built = SkeletonBuilder::new()
        .source(root.join("lsm/coconut.bpf.c"))
        .obj(&object)
        .clang(clang())
        .clang_args(["-mcpu=v3", "-Wall", "-Werror"])
        .build_and_generate(out.join("coconut.skel.rs"));
    if let Err(error) = built {
        fail(&format!("cannot compile bpf/lsm: {error:#}"));
    }
    println!("cargo:rerun-if-changed={}", root.display());
    println!("cargo:rustc-env=COCONUT_BPF_OBJECT={}", object.display());
}

fn clang() -> String {
    println!("cargo:rerun-if-env-changed=CLANG");
    if let Ok(clang) = std::env::var("CLANG") {
        return clang;
    }
    let found = CLANGS.into_iter().find(|c| version(c).is_some_and(|v| v >= 17));
    let Some(clang) = found else {
        fail("clang 17 or newer is needed for the kernel programs\nhint: apt-get install clang-19");
    };
    clang.to_owned()
}

/// Major version, from the first line: `Debian clang version 19.1.7 (…)`.
fn version(clang: &str) -> Option<u32> {
    let output = Command::new(clang).arg("--version").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.split("version ").nth(1)?.split('.').next()?.parse().ok()
}

fn fail(message: &str) -> ! {
    eprintln!("error: {message}");
    exit(1);
}
