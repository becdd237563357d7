//! Capabilities as text: one a line.

use crate::text;
use manifest::Rule;

/// Lines that are rules print as what they are, and keep the laws of the algebra among each other.
pub fn rules(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    let rules: Vec<Rule> = text.lines().take(6).filter_map(|line| line.parse().ok()).collect();
    for rule in &rules {
        let printed = rule.to_string();
        assert_eq!(printed.parse::<Rule>().as_ref(), Ok(rule), "{printed}");
        let json = serde_json::to_string(rule).unwrap();
        assert_eq!(&serde_json::from_str::<Rule>(&json).unwrap(), rule, "{json}");
        assert_eq!(Rule::parse_value(rule.capability(), &rule.value()).as_ref(), Ok(rule));
        assert!(rule.covers(rule));
    }
    for a in &rules {
        rules.iter().for_each(|b| laws(a, b));
    }
    let chains = rules.iter().zip(rules.iter().skip(1)).zip(rules.iter().skip(2));
    for ((a, b), c) in chains {
        assert!(!a.covers(b) || !b.covers(c) || a.covers(c), "{a}, {b}, {c}");
    }
}

fn laws(a: &Rule, b: &Rule) {
    let meet = a.meet(b);
    assert_eq!(meet, b.meet(a), "{a} and {b}");
    if let Some(meet) = &meet {
        assert!(a.covers(meet) && b.covers(meet), "{a} and {b} give {meet}");
        assert_eq!(meet.to_string().parse::<Rule>().as_ref(), Ok(meet));
    }
    if a.covers(b) {
        assert!(meet.is_some_and(|meet| meet.covers(b) && b.covers(&meet)), "{a} covers {b}");
    }
}
