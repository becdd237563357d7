//! The laws of the capability algebra: no grant amplifies.

#![allow(clippy::unwrap_used)] // strategies are test code outside of test functions

use coconut_manifest::{
    AbsPath, AuditScope, Endpoint, FsRight, Host, InferScope, IpNet, NetRight, Rule, Scope,
    UnixAddress,
};
use proptest::prelude::*;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

/// Few and short components, so that containment happens often.
fn path() -> impl Strategy<Value = AbsPath> {
    prop::collection::vec(prop::sample::select(vec!["a", "ab", "b", "c d", "ü"]), 0..4)
        .prop_map(|parts| AbsPath::parse(&format!("/{}", parts.join("/"))).unwrap())
}

fn block() -> impl Strategy<Value = IpNet> {
    let cut4 = |bits: u32, prefix: u8| {
        let keep = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
        IpNet::new(IpAddr::V4(Ipv4Addr::from_bits(bits & keep)), prefix).unwrap()
    };
    let cut6 = |bits: u128, prefix: u8| {
        let keep = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
        IpNet::new(IpAddr::V6(Ipv6Addr::from_bits(bits & keep)), prefix).unwrap()
    };
    prop_oneof![
        (prop::sample::select(vec![0x0a00_0000_u32, 0x0a01_0203, 0x7f00_0001]), 0_u8..=32)
            .prop_map(move |(bits, prefix)| cut4(bits, prefix)),
        (prop::sample::select(vec![1_u128, 0x2001_0db8 << 96]), 0_u8..=128)
            .prop_map(move |(bits, prefix)| cut6(bits, prefix)),
    ]
}

fn endpoint() -> impl Strategy<Value = Endpoint> {
    let host = prop_oneof![
        Just(Host::Any),
        block().prop_map(Host::Net),
        prop::sample::select(vec!["api.example", "a.b-c.example"])
            .prop_map(|n| Host::Name(n.into())),
    ];
    let port = prop::option::of(prop::sample::select(vec![80_u16, 443]));
    (host, port).prop_map(|(host, port)| Endpoint { host, port })
}

fn infer() -> impl Strategy<Value = InferScope> {
    let models =
        prop::collection::btree_set(prop::sample::select(vec!["m0", "m1", "org/m2"]), 0..3)
            .prop_map(|set| match set.len() {
                0 => std::collections::BTreeSet::from(["*".to_owned()]),
                _ => set.into_iter().map(str::to_owned).collect(),
            });
    (models, prop::option::of(1_u64..4), prop::option::of(1_u32..4), prop::option::of(1_u32..4))
        .prop_map(|(models, tokens_per_minute, concurrency, context)| InferScope {
            models,
            tokens_per_minute,
            concurrency,
            context,
        })
}

fn scope() -> impl Strategy<Value = Scope> {
    let net = prop::sample::select(vec![NetRight::Connect, NetRight::Bind]);
    prop_oneof![
        6 => (prop::sample::select(FsRight::ALL.to_vec()), path())
            .prop_map(|(right, path)| Scope::Fs { right, path }),
        4 => (net, endpoint()).prop_map(|(right, endpoint)| Scope::Net { right, endpoint }),
        1 => Just(Scope::NetRaw),
        2 => path().prop_map(|p| Scope::Unix(UnixAddress::Path(p))),
        1 => prop::sample::select(vec!["x", "y=z"])
            .prop_map(|n| Scope::Unix(UnixAddress::Abstract(n.to_owned()))),
        3 => infer().prop_map(Scope::Infer),
        1 => (1_u32..5).prop_map(|count| Scope::Spawn { count }),
        1 => Just(Scope::Signal),
        1 => path().prop_map(Scope::Device),
        1 => prop::sample::select(AuditScope::ALL.to_vec()).prop_map(Scope::AuditRead),
    ]
}

fn rule() -> impl Strategy<Value = Rule> {
    let expires = prop::option::of(prop::sample::select(vec![1_u64, 600, 7_200, 86_400]));
    let uses = prop::option::of(prop::sample::select(vec![1_u32, 3, 1_000_000_000]));
    (scope(), expires, uses).prop_map(|(scope, expires, uses)| {
        let rule = Rule::new(scope).clipped(expires.map(Duration::from_secs));
        rule.clone().counted(uses).unwrap_or(rule)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn print_then_parse_is_identity(rule in rule()) {
        prop_assert_eq!(rule.to_string().parse::<Rule>().unwrap(), rule);
    }

    #[test]
    fn covers_is_reflexive(rule in rule()) {
        prop_assert!(rule.covers(&rule));
    }

    #[test]
    fn covers_is_transitive(a in rule(), b in rule(), c in rule()) {
        // Chains are rare among random rules: meets make them.
        for (a, b, c) in [(Some(a.clone()), Some(b.clone()), Some(c.clone())),
                          (Some(a.clone()), a.meet(&b), a.meet(&b).and_then(|m| m.meet(&c)))] {
            if let (Some(a), Some(b), Some(c)) = (a, b, c)
                && a.covers(&b) && b.covers(&c) {
                prop_assert!(a.covers(&c));
            }
        }
    }

    #[test]
    fn covers_both_ways_allows_the_same_files(a in rule(), b in rule()) {
        if a.covers(&b) && b.covers(&a)
            && let (Scope::Fs { right: r, path: p }, Scope::Fs { right: s, path: q }) = (&a.scope, &b.scope) {
            prop_assert_eq!((r.bits(), p), (s.bits(), q));
        }
    }

    #[test]
    fn a_meet_is_covered_by_both(a in rule(), b in rule()) {
        prop_assert_eq!(a.meet(&b), b.meet(&a));
        if let Some(meet) = a.meet(&b) {
            prop_assert!(a.covers(&meet) && b.covers(&meet));
        }
        if a.covers(&b) {
            let meet = a.meet(&b).unwrap();
            prop_assert!(meet.covers(&b) && b.covers(&meet));
        }
    }

    #[test]
    fn covered_means_allowed(tree in rule(), leaf in path(), right in prop::sample::select(FsRight::ALL.to_vec())) {
        // An independent reading of what a file rule allows, as the kernel decides it: walk upward.
        if let Scope::Fs { right: granted, path } = &tree.scope {
            let mut at = leaf.as_path();
            let mut allowed = false;
            loop {
                allowed |= at == path.as_path() && granted.bits() & right.bits() == right.bits();
                match at.parent() { Some(up) => at = up, None => break }
            }
            prop_assert_eq!(tree.scope.covers(&Scope::Fs { right, path: leaf }), allowed);
        }
    }
}
