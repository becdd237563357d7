//! Every case: a stable name, the promise that it keeps, and how.

mod accounts;
mod attacks;
mod audit;
mod authority;
mod broker;
mod budget;
mod delegation;
mod exit_codes;
mod fairness;
mod filesystems;
mod folders;
mod hoard;
mod isolation;
mod kept;
mod lent;
mod lifecycle;
mod log;
mod manifests;
mod own;
mod records;
mod restart;
mod rights;
mod schemas;
mod seal;
mod shared;
mod shutdown;
mod soak;
mod strict;
mod unwritten;

use crate::world::World;

/// One case.
pub struct Case {
    /// Stable: SPECIFICATION.md refers to it.
    pub name: &'static str,
    /// What it shows.
    pub promise: &'static str,
    /// Does it; gives a short note for the PASS line.
    pub run: fn(&World) -> anyhow::Result<String>,
}

/// Every case, in the order in which they run: what could disturb others comes last.
pub fn all() -> impl Iterator<Item = &'static Case> {
    let tables = [
        lifecycle::CASES,
        schemas::CASES,
        exit_codes::CASES,
        manifests::CASES,
        delegation::CASES,
        authority::CASES,
        budget::CASES,
        rights::CASES,
        lent::CASES,
        isolation::CASES,
        attacks::CASES,
        kept::CASES,
        strict::CASES,
        own::CASES,
        shared::CASES,
        filesystems::CASES,
        broker::CASES,
        accounts::CASES,
        fairness::CASES,
        audit::CASES,
        records::CASES,
        hoard::CASES,
        seal::CASES,
        restart::CASES,
        unwritten::CASES,
        log::CASES,
        // Behind the others: the log that it leaves is long.
        soak::CASES,
        shutdown::CASES,
    ];
    tables.into_iter().flatten()
}

/// Names and promises as a Markdown table.
pub fn table() -> String {
    let rows = all().map(|c| format!("| `{}` | {} |\n", c.name, c.promise));
    format!("| case | promise |\n|---|---|\n{}", rows.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = all().map(|c| c.name).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn the_readme_lists_every_case() {
        let readme = include_str!("../../README.md");
        assert!(readme.contains(&table()), "put this into acceptance/README.md:\n{}", table());
    }

    /// Whether there is a case of this name; one that ends in `*` means all that begin so.
    fn is_there(name: &str) -> bool {
        all().any(|case| match name.strip_suffix('*') {
            Some(start) => case.name.starts_with(start),
            None => case.name == name,
        })
    }

    /// The names that a document gives behind `A:`, up to what keeps it otherwise.
    fn named(text: &str) -> Vec<&str> {
        let lists = text.lines().flat_map(|line| line.split("A: ").skip(1));
        let own = lists.map(|list| {
            let ends = ["|", ";", " U:", " K:", " K "].into_iter().filter_map(|end| list.find(end));
            &list[..ends.min().unwrap_or(list.len())]
        });
        own.flat_map(|list| list.split('`').skip(1).step_by(2)).collect()
    }

    #[test]
    fn documents_name_cases_that_are_there() {
        for (document, text) in [
            ("SPECIFICATION.md", include_str!("../../../SPECIFICATION.md")),
            ("docs/threat-model.md", include_str!("../../../docs/threat-model.md")),
        ] {
            let named = named(text);
            assert!(named.len() > 20, "{document} names {} cases", named.len());
            let lost: Vec<&str> = named.into_iter().filter(|name| !is_there(name)).collect();
            assert!(lost.is_empty(), "{document} names what is no case: {lost:?}");
        }
    }
}
