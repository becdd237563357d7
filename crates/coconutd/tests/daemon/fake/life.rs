//! A daemon that is killed in this process: from one step on it does nothing more, and what lies on disk is what lay
//! there at that moment.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

#[derive(Default)]
pub struct Life(Mutex<State>);

#[derive(Default)]
struct State {
    /// Which daemon this is; those before it do nothing.
    number: u64,
    run: PathBuf,
    /// So many steps are still done.
    left: Option<u64>,
    /// The step that was not.
    killed_at: Option<String>,
}

impl Life {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of the daemon that begins.
    pub fn begin(&self, run: &Path) -> u64 {
        let mut state = self.state();
        run.clone_into(&mut state.run);
        state.number
    }

    /// The daemon does nothing more, unless it was killed before.
    pub fn end(&self) {
        let mut state = self.state();
        if state.killed_at.is_none() {
            state.number += 1;
        }
    }

    pub fn is_over(&self, number: u64) -> bool {
        self.state().number != number
    }

    /// After so many steps more the daemon is killed, instead of the next one; none is never.
    pub fn kill_after(&self, steps: Option<u64>) {
        self.state().left = steps;
    }

    /// The step at which it was killed.
    pub fn killed_at(&self) -> Option<String> {
        self.state().killed_at.clone()
    }

    /// Each step of a daemon begins here; that of a killed one ends here, with its thread or task.
    pub fn go_on(&self, number: u64, step: &str) {
        let mut state = self.state();
        if state.number == number {
            match state.left.as_mut() {
                None => return,
                Some(left) if *left > 0 => {
                    *left -= 1;
                    return;
                }
                Some(_) => {}
            }
            state.left = None;
            state.number += 1;
            state.killed_at = Some(step.to_owned());
            // Until they have unwound its threads may write on.
            copy(&registry(&state.run), &state.run.join("as-killed"));
        }
        drop(state);
        std::panic::resume_unwind(Box::new("killed"));
    }

    /// The next daemon finds what the killed one left.
    pub fn bury(&self, run: &Path) {
        let mut state = self.state();
        if state.killed_at.take().is_some() {
            let begun = std::time::Instant::now();
            while is_open(&registry(run).join("agents.db")) {
                assert!(begun.elapsed().as_secs() < 20, "the killed daemon's registry is open");
                std::thread::sleep(std::time::Duration::from_millis(2));
            }
            std::fs::remove_dir_all(registry(run)).unwrap();
            std::fs::rename(run.join("as-killed"), registry(run)).unwrap();
        }
    }
}

fn registry(run: &Path) -> PathBuf {
    run.join("registry")
}

/// By this process.
fn is_open(file: &Path) -> bool {
    let all = std::fs::read_dir("/proc/self/fd").unwrap().filter_map(Result::ok);
    all.filter_map(|open| std::fs::read_link(open.path()).ok()).any(|open| open == file)
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for file in std::fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}
