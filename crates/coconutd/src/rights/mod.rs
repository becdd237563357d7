//! What rules are in the kernel: each set once, whoever holds it, with what each rule stands on.
//!
//! [`room`] keeps the sets, [`system`] those that come with the system and follow their names,
//! [`wanted`] turns a manifest into sets, [`launch`] tells what an agent has that no rule names.

pub mod launch;
pub mod room;
pub mod system;
pub mod wanted;

pub use room::{KernelSet, Room};
pub use wanted::Wanted;

use crate::port::Target;
use manifest::{Rule, Scope};
use std::sync::Arc;
use supervisor::{Inode, Place};

/// What a rule's name led to, for the comparison with other rules.
pub fn place(rule: &Rule, target: &Target, follows: bool) -> Place {
    let inode = |node: &kernel::Node| Inode { dev: node.dev, ino: node.ino };
    match (target, &rule.scope) {
        (Target::File(handle), _) => {
            let own = handle.node();
            let nodes = std::iter::once(&own).chain(handle.above()).map(inode).collect();
            Place::File { nodes, follows }
        }
        (Target::Addresses(all), Scope::Net { endpoint, .. })
            if matches!(endpoint.host, manifest::Host::Name(_)) =>
        {
            Place::Hosts(all.iter().map(|(address, ..)| *address).collect::<Arc<[_]>>())
        }
        (Target::Nothing, Scope::Fs { .. } | Scope::Device(_) | Scope::Unix(_)) => match follows {
            // Whoever holds it gets what is put there later.
            true => Place::File { nodes: Arc::new([]), follows },
            false => Place::Absent,
        },
        _ => Place::Free,
    }
}
