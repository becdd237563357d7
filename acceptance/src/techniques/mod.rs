//! Techniques of attack: those of the demonstration, and many more that only this suite tries. Each is one call, or the
//! few that belong together, on one target; what refuses it is part of what is promised.

mod agents;
mod files;
mod kernel;
mod known;
mod network;
mod processes;

use demo::attacks::{self, Attack, Target, Who};
use demo::scene::Scene;

/// What an attack is aimed at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Files and names of others.
    Files,
    /// Addresses, sockets, packets.
    Network,
    /// Other processes.
    Processes,
    /// The machine, and more rights on it.
    Kernel,
    /// Another agent, by what programs of one user share.
    Agents,
}

impl Kind {
    /// Every one.
    pub const ALL: [Kind; 5] =
        [Kind::Files, Kind::Network, Kind::Processes, Kind::Kernel, Kind::Agents];

    /// As the cases and the table of evidence have it.
    #[cfg(test)]
    fn name(self) -> &'static str {
        match self {
            Kind::Files => "files",
            Kind::Network => "network",
            Kind::Processes => "processes",
            Kind::Kernel => "kernel",
            Kind::Agents => "agents",
        }
    }

    /// Those that only this suite tries.
    fn own(self) -> &'static [Technique] {
        match self {
            Kind::Files => files::TECHNIQUES,
            Kind::Network => network::TECHNIQUES,
            Kind::Processes => processes::TECHNIQUES,
            Kind::Kernel => kernel::TECHNIQUES,
            Kind::Agents => agents::TECHNIQUES,
        }
    }

    /// Those of the demonstration.
    fn shown(self, scene: &Scene, target: &Target) -> Vec<Attack> {
        match self {
            Kind::Files => {
                [attacks::reading(scene), attacks::key_theft(scene), attacks::writing(scene)]
                    .concat()
            }
            Kind::Network => attacks::network(scene),
            Kind::Processes => [attacks::processes(target), attacks::leaked(target)].concat(),
            Kind::Kernel => [attacks::privileges(scene, target), attacks::limits(target)].concat(),
            Kind::Agents => Vec::new(),
        }
    }

    /// All of this kind, on this scene and victim.
    pub fn all(self, grounds: &Grounds) -> Vec<Tried> {
        let shown = self.shown(grounds.scene, &grounds.target);
        let shown = shown.into_iter().map(|attack| {
            let by = known::refuser(attack.attempt);
            Tried { attack, by }
        });
        shown.chain(self.own().iter().map(|technique| technique.on(grounds))).collect()
    }
}

/// What refuses it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum By {
    /// The policy: there is one record of it.
    Policy,
    /// Linux, for want of a privilege: the policy sees that, and there is one record of it.
    Privilege,
    /// The policy, in a call that Linux asks about twice, for this reason: there are two records.
    Twice(&'static str),
    /// Linux, before the policy is asked, for this reason: there is none.
    Linux(&'static str),
}

impl By {
    /// Its records.
    pub fn records(self) -> u32 {
        match self {
            By::Policy | By::Privilege => 1,
            By::Twice(_) => 2,
            By::Linux(_) => 0,
        }
    }
}

/// One technique, its argument with places yet to be filled in.
#[derive(Debug)]
pub struct Technique {
    attempt: &'static str,
    argument: &'static str,
    claim: &'static str,
    who: Who,
    secret: bool,
    by: By,
}

/// An attack, and what is to refuse it.
pub struct Tried {
    /// The attempt, its argument and its control.
    pub attack: Attack,
    /// What refuses it.
    pub by: By,
}

/// Everything that the techniques are aimed at.
pub struct Grounds<'a> {
    /// The scene of the demonstration.
    pub scene: &'a Scene,
    /// The process that is attacked.
    pub target: Target,
    /// What a place in an argument stands for.
    pub places: Vec<(&'static str, String)>,
}

/// What an ordinary process of the same user can do.
const fn user(attempt: &'static str, argument: &'static str, claim: &'static str) -> Technique {
    Technique { attempt, argument, claim, who: Who::User, secret: false, by: By::Policy }
}

/// The same, and it gets the secret by it.
const fn theft(attempt: &'static str, argument: &'static str, claim: &'static str) -> Technique {
    Technique { secret: true, ..user(attempt, argument, claim) }
}

/// What takes a privilege, of which no agent has one.
const fn privileged(
    attempt: &'static str,
    argument: &'static str,
    claim: &'static str,
) -> Technique {
    Technique { who: Who::Root, by: By::Privilege, ..user(attempt, argument, claim) }
}

/// What only root can do.
const fn root(attempt: &'static str, argument: &'static str, claim: &'static str) -> Technique {
    Technique { who: Who::Root, ..user(attempt, argument, claim) }
}

impl Technique {
    const fn who(self, who: Who) -> Technique {
        Technique { who, ..self }
    }

    const fn by(self, by: By) -> Technique {
        Technique { by, ..self }
    }

    /// Linux refuses it before the policy is asked.
    const fn linux(self, why: &'static str) -> Technique {
        self.by(By::Linux(why))
    }

    fn on(&self, grounds: &Grounds) -> Tried {
        let filled =
            grounds.places.iter().fold(self.argument.to_owned(), |text, (place, value)| {
                text.replace(&format!("{{{place}}}"), value)
            });
        let Technique { attempt, claim, who, secret, by, .. } = *self;
        Tried { attack: Attack { attempt, claim, argument: filled, who, secret }, by }
    }
}

/// How many there are, and what refuses them, as Markdown tables.
#[cfg(test)]
pub fn table(grounds: &Grounds) -> String {
    let (mut sum, mut reasons) = ([0; 5], std::collections::BTreeMap::new());
    let mut row = |kind: Kind| {
        let all = kind.all(grounds);
        let by = |wanted: fn(&By) -> bool| all.iter().filter(|tried| wanted(&tried.by)).count();
        let counts = [
            all.len(),
            by(|by| matches!(by, By::Policy | By::Twice(_))),
            by(|by| matches!(by, By::Privilege)),
            by(|by| matches!(by, By::Linux(_))),
            all.iter().filter(|tried| tried.attack.who == Who::Nobody).count(),
        ];
        sum.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
        for tried in &all {
            if let By::Linux(why) | By::Twice(why) = tried.by {
                let names: &mut Vec<&str> = reasons.entry(why).or_default();
                names.push(tried.attack.attempt);
            }
        }
        let cells: String = counts.iter().map(|count| format!(" {count} |")).collect();
        let name = kind.name();
        format!("| {name} |{cells} A: `attacks.{name}` |\n")
    };
    let rows: String = Kind::ALL.map(&mut row).concat();
    let cells: String = sum.iter().map(|count| format!(" **{count}** |")).collect();
    let reasons: String = reasons
        .into_iter()
        .map(|(why, mut names)| {
            let count = names.len();
            names.dedup();
            format!("| {why} | {count} | `{}` |\n", names.join("`, `"))
        })
        .collect();
    format!(
        "| kind | techniques | the policy refuses | Linux refuses for want of a privilege, which is recorded | \
         Linux refuses before that, unrecorded | no control: root is refused as well | where |\n\
         |---|---|---|---|---|---|---|\n{rows}| **all** |{cells} A: `attacks.counted` |\n\n\
         | not by one record, because | techniques | which |\n|---|---|---|\n{reasons}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_evidence_has_the_numbers() {
        let dir = tempfile::tempdir().unwrap();
        let user = demo::control::User { uid: 65534, gid: 65534 };
        let probe = std::path::Path::new("/bin/true");
        let mut scene = Scene::set(dir.path(), "s", user, probe).unwrap();
        // Whoever runs this, root or not: the scene in the VM has one.
        scene.helper = Some("/bin/true".into());
        let text = String::new;
        let target = Target {
            pid: 1,
            address: 1,
            length: 1,
            fd: 1,
            cgroup: text(),
            own_cgroup: text(),
            key: text(),
            readable_program: text(),
            hidden_program: text(),
        };
        let table = table(&Grounds { scene: &scene, target, places: Vec::new() });
        let evidence = include_str!("../../../docs/evidence.md");
        assert!(evidence.contains(&table), "put this into docs/evidence.md:\n{table}");
    }
}
