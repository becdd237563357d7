//! What rules mean, read from their text alone: a set of things that somebody may try, one by one. Nothing here knows
//! the algebra; it is slow, and simple enough to be seen to be right.

use std::net::IpAddr;

/// Rules that agents hold, are granted and lose.
pub const RULES: [&str; 32] = [
    "agent.spawn=2",
    "agent.spawn=9",
    "fs.read=/",
    "fs.read=/a",
    "fs.read=/a/b",
    "fs.read=/ab",
    "fs.exec=/",
    "fs.exec=/a",
    "fs.exec=/a/b/c",
    "fs.write=/a",
    "fs.write=/a/b",
    "fs.create=/a",
    "fs.create=/",
    "fs.delete=/a",
    "net.connect=*:*",
    "net.connect=*:443",
    "net.connect=0.0.0.0/0:*",
    "net.connect=192.0.2.0/24:443",
    "net.connect=192.0.2.0/25:*",
    "net.connect=192.0.2.1:443",
    "net.connect=[2001:db8::/32]:80",
    "net.connect=a.example:443",
    "net.bind=*:8080",
    "net.bind=192.0.2.1:8080",
    "ipc.unix=/a",
    "ipc.unix=@x",
    "device=/a/b",
    "infer=*",
    "infer=m0,m1;tokens_per_minute=3",
    "infer=m0;concurrency=2",
    "audit.read=descendants",
    "agent.signal=descendants",
];

const PATHS: [&str; 6] = ["/", "/a", "/a/b", "/a/b/c", "/ab", "/z"];
const HOSTS: [&str; 5] = ["192.0.2.1", "192.0.2.200", "198.51.100.9", "[2001:db8::1]", "a.example"];

/// Everything that can be tried.
pub fn universe() -> Vec<String> {
    let fs = ["fs.read", "fs.write", "fs.create", "fs.delete", "fs.exec", "ipc.unix", "device"];
    let mut all: Vec<String> = Vec::new();
    all.extend(fs.iter().flat_map(|op| PATHS.iter().map(move |path| format!("{op}={path}"))));
    for op in ["net.connect", "net.bind"] {
        let hosts = HOSTS.iter().flat_map(|host| [80, 443, 8080].map(|port| (host, port)));
        all.extend(hosts.map(|(host, port)| format!("{op}={host}:{port}")));
    }
    let spawns = [1, 2, 3, 9].map(|count| format!("agent.spawn={count}"));
    let models = ["m0", "m1", "m2"].into_iter().flat_map(|model| {
        [
            "",
            ";tokens_per_minute=3",
            ";tokens_per_minute=4",
            ";concurrency=2",
            ";tokens_per_minute=3;concurrency=2",
        ]
        .map(|limits| format!("infer={model}{limits}"))
    });
    let rest = [
        "ipc.unix=@x",
        "ipc.unix=@y",
        "audit.read=own",
        "audit.read=descendants",
        "audit.read=all",
    ];
    all.extend(spawns.into_iter().chain(models));
    all.extend(
        rest.into_iter().chain(["agent.signal=descendants", "net.raw=true"]).map(str::to_owned),
    );
    all
}

/// Whether a rule allows one thing.
pub fn allows(rule: &str, tried: &str) -> bool {
    let ((kind, value), (op, object)) = (split(rule), split(tried));
    match kind {
        "fs.exec" => ["fs.exec", "fs.read"].contains(&op) && is_below(object, value),
        "fs.write" => ["fs.write", "fs.create"].contains(&op) && is_below(object, value),
        _ if kind != op => false,
        "fs.read" | "fs.create" | "fs.delete" | "device" => is_below(object, value),
        "ipc.unix" if value.starts_with('@') => object == value,
        "ipc.unix" => !object.starts_with('@') && is_below(object, value),
        "net.connect" | "net.bind" => reaches(value, object),
        "agent.spawn" => number(object) <= number(value),
        "infer" => infers(value, object),
        "audit.read" => reads(object) <= reads(value),
        _ => value == object,
    }
}

fn split(text: &str) -> (&str, &str) {
    text.split_once('=').unwrap()
}

fn number(text: &str) -> u64 {
    text.parse().unwrap()
}

fn reads(whose: &str) -> usize {
    ["own", "descendants", "all"].iter().position(|known| *known == whose).unwrap()
}

fn is_below(path: &str, tree: &str) -> bool {
    let parts = |path: &str| -> Vec<String> {
        path.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect()
    };
    parts(path).starts_with(&parts(tree))
}

fn reaches(rule: &str, tried: &str) -> bool {
    let ((host, port), (to, at)) =
        (rule.rsplit_once(':').unwrap(), tried.rsplit_once(':').unwrap());
    let bare = |host: &str| host.trim_matches(['[', ']']).to_owned();
    let (host, to) = (bare(host), bare(to));
    (port == "*" || port == at) && (host == "*" || host == to || is_within(&host, &to))
}

/// Bit by bit.
fn is_within(block: &str, address: &str) -> bool {
    let Some((network, prefix)) = block.split_once('/') else { return false };
    let bits = |text: &str| -> Option<String> {
        Some(match text.parse().ok()? {
            IpAddr::V4(v4) => format!("{:032b}", v4.to_bits()),
            IpAddr::V6(v6) => format!("{:0128b}", v6.to_bits()),
        })
    };
    let prefix = usize::try_from(number(prefix)).unwrap();
    match (bits(network), bits(address)) {
        (Some(network), Some(address)) => {
            network.len() == address.len() && network[..prefix] == address[..prefix]
        }
        _ => false,
    }
}

fn infers(rule: &str, tried: &str) -> bool {
    let limit = |text: &str, name: &str| -> u64 {
        let found = text.split(';').find_map(|part| part.strip_prefix(name)?.strip_prefix('='));
        found.map_or(u64::MAX, number)
    };
    let models = |text: &str| -> Vec<String> {
        text.split(';').next().unwrap().split(',').map(str::to_owned).collect()
    };
    let model = &models(tried)[0];
    let known = models(rule).iter().any(|named| named == "*" || named == model);
    known
        && ["tokens_per_minute", "concurrency"]
            .iter()
            .all(|name| limit(tried, name) <= limit(rule, name))
}

/// Sets of what can be tried, a bit for each.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Points(u128);

impl Points {
    pub fn of(rule: &str, universe: &[String]) -> Points {
        assert!(universe.len() <= 128);
        let each = universe.iter().enumerate().filter(|(_, tried)| allows(rule, tried));
        Points(each.fold(0, |all, (at, _)| all | 1 << at))
    }

    pub fn all_of(self, other: Points) -> bool {
        other.0 & !self.0 == 0
    }

    pub fn meets(self, other: Points) -> Points {
        Points(self.0 & other.0)
    }

    pub fn has(self, at: usize) -> bool {
        self.0 & (1 << at) != 0
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}
