//! The table of hooks is that of the running kernel.

use crate::world::World;
use anyhow::Result;
use kernel::hooks::{Duty, attachable, hooks, unknown};
use std::collections::BTreeSet;

pub fn run(w: &World) -> Result<()> {
    let rows = hooks()?;
    let known: BTreeSet<&str> = rows.iter().map(|row| row.hook.as_str()).collect();
    let there = attachable()?;
    let there: BTreeSet<&str> = there.iter().map(String::as_str).collect();
    let extra: Vec<&&str> = there.difference(&known).collect();
    w.same("each hook of this kernel is in the table", &extra, &Vec::new());
    // Else a probe that finds nothing would do.
    w.check("and each of the table is one of its hooks", known.is_subset(&there), || {
        format!("{:?}", known.difference(&there).collect::<Vec<_>>())
    });
    w.same("so it is without a look at programs", &unknown()?, &Vec::new());
    let left = |row: &&kernel::hooks::HookRow| matches!(row.duty, Duty::Left(_));
    println!("note: {} hooks, {} of them left alone", rows.len(), rows.iter().filter(left).count());
    Ok(())
}
