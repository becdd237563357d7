//! Verdicts, said as they come and counted.

use std::cell::Cell;

/// How many passed and failed.
#[derive(Default)]
pub struct Tally {
    passed: Cell<u32>,
    failed: Cell<u32>,
}

impl Tally {
    /// Notes one verdict of a test.
    pub fn check(&self, name: &str, ok: bool, detail: impl FnOnce() -> String) {
        let counter = if ok { &self.passed } else { &self.failed };
        counter.set(counter.get() + 1);
        match ok {
            true => println!("PASS {name}"),
            false => println!("FAIL {name}: {}", detail()),
        }
    }

    /// Two values that must be equal.
    pub fn same<T: PartialEq + std::fmt::Debug>(&self, name: &str, got: &T, want: &T) {
        self.check(name, got == want, || format!("got {got:?}, want {want:?}"));
    }

    /// How many passed and failed.
    pub fn count(&self) -> (u32, u32) {
        (self.passed.get(), self.failed.get())
    }
}
