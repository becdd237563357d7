//! `demo`: hands over to the demonstrations' own program.

use super::Context;
use crate::failure::{Done, Failure};
use api::ErrorCode;
use std::os::unix::process::CommandExt;
use std::path::Path;

/// Where the package puts it.
const PROGRAM: &str = "/usr/libexec/coconut/coconut-demo";

/// `coconut demo`: becomes the program; returns only if that is not possible.
pub fn demo(cx: &Context, args: &[String]) -> Done {
    if !Path::new(PROGRAM).exists() {
        return Err(Failure::new(ErrorCode::NotFound, format!("{PROGRAM} is not installed"))
            .hint("install the package coconut-demo, or run `./x demo` in the source tree"));
    }
    let mut command = std::process::Command::new(PROGRAM);
    command.args(args);
    if cx.out.json && !args.iter().any(|a| a == "--json") {
        command.arg("--json");
    }
    let error = anyhow::Error::new(command.exec()).context(format!("cannot run {PROGRAM}"));
    Err(Failure::from_error(ErrorCode::Failed, error))
}
