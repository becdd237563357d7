//! `lane ls`.

use super::table::{Table, elastic, fixed, number, styled};
use super::{BOLD, DIM, clean, short, thousands};
use api::lane::LaneList;

/// Weights, the share that each gets when all want more (a tenant of everything, an agent of its tenant),
/// and use so far.
pub fn list(list: &LaneList, width: usize) -> String {
    if list.tenants.is_empty() {
        return "No tenant has had an agent since the daemon started.\n".into();
    }
    let mut table = Table::new(&[
        elastic("LANE", 16),
        fixed("AID"),
        number("WEIGHT"),
        number("SHARE"),
        number("TOKENS"),
        number("CALLS"),
        number("REFUSED"),
        fixed("INFER"),
    ]);
    let busy = |t: &&api::lane::TenantLane| !t.agents.is_empty();
    let all: u32 = list.tenants.iter().filter(busy).map(|t| t.weight).sum();
    for tenant in &list.tenants {
        let share = if tenant.agents.is_empty() {
            "-".into()
        } else {
            percent(f64::from(tenant.weight) / f64::from(all.max(1)))
        };
        table.row([
            styled(BOLD, clean(&tenant.tenant)),
            "".into(),
            tenant.weight.to_string().into(),
            share.into(),
            thousands(tenant.tokens).into(),
            thousands(tenant.calls).into(),
            thousands(tenant.refused).into(),
        ]);
        for agent in &tenant.agents {
            table.row([
                format!("{}{}", "  ".repeat(agent.depth as usize + 1), clean(&agent.name)).into(),
                short(agent.aid).into(),
                agent.weight.to_string().into(),
                percent(agent.share).into(),
                thousands(agent.tokens).into(),
                thousands(agent.calls).into(),
                "".into(),
                if agent.infer { "yes".into() } else { styled(DIM, "no") },
            ]);
        }
    }
    table.render(width)
}

fn percent(part: f64) -> String {
    format!("{:.0}%", part * 100.0)
}

#[cfg(test)]
mod tests {
    use super::super::sample::{fits, plain};
    use super::*;
    use api::lane::{AgentLane, TenantLane};
    use uuid::Uuid;

    #[test]
    fn children_stand_below_their_parents() {
        let agent = |n, name: &str, weight, depth, share| AgentLane {
            aid: Uuid::from_u128(n),
            name: name.into(),
            weight,
            depth,
            share,
            tokens: 1000,
            calls: 3,
            infer: n == 1,
        };
        let tenant = |tenant: &str, weight, agents| TenantLane {
            tenant: tenant.into(),
            weight,
            tokens: 12_345,
            calls: 17,
            refused: 0,
            agents,
        };
        let agents = vec![
            agent(2, "editor", 300, 0, 0.75),
            agent(1, "researcher", 100, 0, 0.125),
            agent(3, "reader", 100, 1, 0.125),
        ];
        let lanes = LaneList {
            tenants: vec![
                tenant("maya", 300, agents),
                tenant("omar", 100, vec![agent(4, "clerk", 100, 0, 1.0)]),
            ],
        };
        let text = list(&lanes, 80);
        fits(&text, 80);
        assert_eq!(
            plain(&text),
            "LANE          AID       WEIGHT  SHARE  TOKENS  CALLS  REFUSED  INFER\n\
             maya                       300    75%  12,345     17        0\n  \
             editor      00000002     300    75%   1,000      3           no\n  \
             researcher  00000001     100    12%   1,000      3           yes\n    \
             reader    00000003     100    12%   1,000      3           no\n\
             omar                       100    25%  12,345     17        0\n  \
             clerk       00000004     100   100%   1,000      3           no\n"
        );
    }
}
