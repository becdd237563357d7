//! The fuzzer: one program for all targets, `COCONUT_FUZZ_TARGET` names the one. `./x fuzz` compiles it with what follows
//! coverage, and runs it.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    static TARGET: std::sync::OnceLock<coconut_fuzz::Target> = std::sync::OnceLock::new();
    let target = TARGET.get_or_init(|| {
        let name = std::env::var("COCONUT_FUZZ_TARGET").unwrap_or_default();
        coconut_fuzz::target(&name).unwrap_or_else(|| panic!("COCONUT_FUZZ_TARGET names no target"))
    });
    target(data);
});

#[cfg(not(fuzzing))]
fn main() {
    coconut_fuzz::TARGETS.iter().for_each(|(name, _)| println!("./x fuzz {name}"));
}
