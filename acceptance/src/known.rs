//! Cases that do not hold yet, each with its reason. They count as neither passed nor failed, and
//! their promise is not made; one that holds after all says that it is to be taken out.

const LIST: &str = include_str!("../known-failing.txt");

/// Why this case is known to fail, if it is.
pub fn reason(case: &str) -> Option<&'static str> {
    entries().find(|(name, _)| *name == case).map(|(_, reason)| reason)
}

fn entries() -> impl Iterator<Item = (&'static str, &'static str)> {
    let lines = LIST.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| line.split_once(": ").unwrap_or((line, "")))
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_entry_names_a_case_and_a_reason() {
        for (name, reason) in super::entries() {
            assert!(crate::cases::all().any(|case| case.name == name), "no case {name}");
            assert!(!reason.is_empty(), "{name} has no reason");
        }
    }
}
