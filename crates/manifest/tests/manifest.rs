//! Manifests as people write them, right and wrong.

#![allow(clippy::unwrap_used)] // helpers are test code outside of test functions

use coconut_manifest::{
    Children, Consequence, DenialLimit, Exec, Manifest, Namespaces, Profiles, Rule, grant_covers,
};
use proptest::prelude::*;

const RIGHT: &str = r#"
[agent]
name    = "researcher"
tenant  = "maya"
command = ["/usr/bin/python3", "/opt/team/researcher.py"]
user    = "agent-1"
cwd     = "/srv/work"
env     = { LANG = "C.UTF-8", HOME = "/srv/work" }
children = "reparent"
namespaces = "shared"
exec = "strict"
digest  = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

[capabilities]
"fs.read"     = ["/srv/input", "@python", { path = "/srv/secret", expires = "10m" }]
"fs.write"    = ["/srv/work/researcher"]
"net.connect" = ["api.github.com:443", { host = "10.0.0.0/8:*", expires = "1h" }]
"ipc.unix"    = ["/run/db.sock", "@service"]
infer         = { models = ["*"], tokens_per_minute = 60000 }
"agent.spawn" = { count = 30 }
"agent.signal" = ["descendants"]
"net.raw"     = true
"audit.read"  = "own"

[lane]
weight = 200

[denials]
limit = 20
then = "end"

[memory]
hbm = "512MiB"
ram = "256MiB"
ssd = "2GiB"
"#;

fn problems(text: &str) -> Vec<(u32, u32, String, Option<String>)> {
    let error = Manifest::parse("test.toml", text).unwrap_err();
    error.problems.into_iter().map(|p| (p.line, p.column, p.message, p.hint)).collect()
}

/// The least right manifest, with more lines behind it.
fn with(more: &str) -> String {
    format!("[agent]\nname = \"a\"\ntenant = \"t\"\ncommand = [\"/bin/true\"]\n{more}")
}

#[test]
fn everything_is_read() {
    let manifest = Manifest::parse("researcher.toml", RIGHT).map_err(|e| e.render()).unwrap();
    assert_eq!(manifest.agent.user.as_deref(), Some("agent-1"));
    assert_eq!(manifest.agent.children, Children::Reparent);
    assert_eq!(manifest.agent.namespaces, Namespaces::Shared);
    assert_eq!(manifest.agent.exec, Exec::Strict);
    assert!(manifest.agent.digest.is_some());
    assert_eq!(manifest.weight, 200);
    assert_eq!(manifest.denials, Some(DenialLimit { count: 20, then: Consequence::End }));
    assert_eq!(manifest.memory.ssd, Some(2 << 30));
    assert_eq!(manifest.profiles[0].name, "python");
    let rules: Vec<String> = manifest.rules.iter().map(|d| d.rule.to_string()).collect();
    assert!(rules.contains(&"fs.read=/srv/secret;expires=10m".to_owned()), "{rules:?}");
    assert!(rules.contains(&"net.connect=10.0.0.0/8:*;expires=1h".to_owned()));
    assert!(rules.contains(&"infer=*;tokens_per_minute=60000".to_owned()));
    assert_eq!(manifest.rules[0].line, 15);
}

#[test]
fn printing_and_reading_give_the_same() {
    let once = Manifest::parse("a", RIGHT).unwrap();
    let twice = Manifest::parse("b", &once.to_toml()).map_err(|e| e.render()).unwrap();
    let rules = |m: &Manifest| {
        let mut list: Vec<Rule> = m.rules.iter().map(|d| d.rule.clone()).collect();
        list.sort();
        list
    };
    assert_eq!(rules(&once), rules(&twice));
    assert_eq!(once.denials, twice.denials);
    assert_eq!((once.agent, once.weight, once.memory), (twice.agent, twice.weight, twice.memory));
}

#[test]
fn an_unknown_key_names_its_place_and_the_nearest_known_one() {
    let found = problems(&with("[capabilities]\n\"fs.raed\" = [\"/srv\"]\n"));
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].0, found[0].1), (6, 1));
    assert_eq!(found[0].3.as_deref(), Some("did you mean `fs.read`?"));
    let found = problems(&with("[capabilties]\n"));
    assert_eq!(found[0].3.as_deref(), Some("did you mean `capabilities`?"));
    let found = problems("[agent]\nname = \"a\"\ntennant = \"t\"\ncommand = [\"/bin/true\"]\n");
    assert_eq!(found.len(), 2, "{found:?}");
}

#[test]
fn denials_lead_to_what_a_manifest_says() {
    let parsed = |more: &str| Manifest::parse("test.toml", &with(more)).unwrap().denials;
    assert_eq!(parsed(""), None, "what says nothing leads to nothing");
    let quarantine = DenialLimit { count: 5, then: Consequence::Quarantine };
    assert_eq!(parsed("[denials]\nlimit = 5\n"), Some(quarantine));
    for wrong in
        ["[denials]\n", "[denials]\nlimit = 0\n", "[denials]\nlimit = 5\nthen = \"shrug\"\n"]
    {
        assert_eq!(problems(&with(wrong)).len(), 1, "{wrong}");
    }
}

#[test]
fn shared_namespaces_need_a_limit_of_memory() {
    let own = Manifest::parse("own", &with("")).unwrap();
    assert_eq!(own.agent.namespaces, Namespaces::Own, "what says nothing has its own");
    let found = problems(&with("namespaces = \"shared\"\n"));
    assert_eq!((found[0].0, found[0].1), (1, 2), "{found:?}");
    assert!(found[0].2.contains("limit of memory"), "{found:?}");
    let found = problems(&with("namespaces = \"sharde\"\n[memory]\nram = \"1MiB\"\n"));
    assert_eq!(found[0].0, 5);
    assert!(found[0].2.contains("sharde"), "{found:?}");
    let right = with("namespaces = \"shared\"\n[memory]\nram = \"1MiB\"\n");
    assert!(Manifest::parse("right", &right).is_ok());
}

#[test]
fn several_problems_are_reported_together() {
    let text = "[agent]\nname = \"Not A Name\"\ntenant = 7\ncommand = [\"python3\"]\n\
                [capabilities]\n\"fs.read\" = [\"../etc\", 5]\n\"net.connect\" = [\"host\"]\n\
                [lane]\nweight = 0\n[memory]\nram = \"12 MB\"\n";
    let lines: Vec<u32> = problems(text).iter().map(|p| p.0).collect();
    assert_eq!(lines, [2, 3, 4, 6, 6, 7, 9, 11]);
}

#[test]
fn what_must_not_pass_is_refused() {
    for text in [
        "",
        "[agent]\nname = \"a\"\n",
        "[agent",
        &with("[capabilities]\n\"fs.read\" = \"/srv\"\n"),
        &with("[capabilities]\n\"fs.read\" = [\"/srv/../etc\"]\n"),
        &with("[capabilities]\n\"fs.read\" = [{ path = \"/srv\", expire = \"1s\" }]\n"),
        &with("[capabilities]\n\"fs.read\" = [{ expires = \"1s\" }]\n"),
        &with("[capabilities]\n\"fs.read\" = [{ path = \"/srv\", expires = \"soon\" }]\n"),
        &with("[capabilities]\n\"fs.read\" = [{ path = \"/srv\", uses = 0 }]\n"),
        &with("[capabilities]\n\"fs.read\" = [{ path = \"/srv\", uses = \"3\" }]\n"),
        &with("[capabilities]\n\"fs.read\" = [{ path = \"@python\", uses = 3 }]\n"),
        &with("[capabilities]\n\"agent.signal\" = [{ target = \"descendants\", uses = 3 }]\n"),
        &with("[capabilities]\n\"agent.spawn\" = { count = 3, uses = 3 }\n"),
        &with("[capabilities]\n\"net.connect\" = [\"*.github.com:443\"]\n"),
        &with("[capabilities]\ninfer = { models = [] }\n"),
        &with("[capabilities]\ninfer = { tokens_per_minute = 5 }\n"),
        &with("[capabilities]\n\"agent.spawn\" = { count = 0 }\n"),
        &with("[capabilities]\n\"audit.read\" = \"everything\"\n"),
        &with("[capabilities]\nforbidden = [\"bpf\"]\n"),
        &with("[capabilities]\n\"ipc.unix\" = [\"@\"]\n"),
        &with("env = { LD_PRELOAD = \"/tmp/x.so\" }\n"),
        &with("digest = \"abc\"\n"),
        &with("children = \"keep\"\n"),
        &with("cwd = \"work\"\n"),
        &with("user = \"root:root\"\n"),
        &with("name = \"again\"\n"),
    ] {
        assert!(Manifest::parse("x", text).is_err(), "accepted:\n{text}");
    }
}

#[test]
fn uses_are_counted_where_there_are_single_ones() {
    let text = with(
        "[capabilities]\n\"fs.read\" = [{ path = \"/srv\", expires = \"10m\", uses = 3 }, \"/etc/a;uses=1\"]\n\
         \"ipc.unix\" = [{ path = \"@bus\", uses = 2 }]\n",
    );
    let manifest = Manifest::parse("x", &text).map_err(|e| e.render()).unwrap();
    let rules: Vec<String> = manifest.rules.iter().map(|d| d.rule.to_string()).collect();
    assert_eq!(
        rules,
        ["fs.read=/srv;uses=3;expires=10m", "fs.read=/etc/a;uses=1", "ipc.unix=@bus;uses=2"]
    );
    let parse = |text: &str| text.parse::<Rule>();
    assert_eq!(parse("fs.read=/a;expires=1m;uses=2"), parse("fs.read=/a;uses=2;expires=1m"));
    for wrong in ["0", "-1", "+1", "", "x", "1000000001", "1;uses=1"] {
        assert!(parse(&format!("fs.read=/a;uses={wrong}")).is_err(), "{wrong}");
    }
    for what in ["net.raw=true", "agent.signal=descendants", "audit.read=own", "infer=m"] {
        assert!(parse(what).is_ok(), "{what}");
        let refused = parse(&format!("{what};uses=1")).unwrap_err().to_string();
        assert!(refused.contains("are not counted"), "{refused}");
    }
    assert!(parse("agent.spawn=3;uses=1").is_err());
}

#[test]
fn sets_are_bounded() {
    let many = |n: usize| {
        let paths: Vec<String> = (0..n).map(|i| format!("\"/p{i}\"")).collect();
        with(&format!("[capabilities]\n\"fs.read\" = [{}]\n", paths.join(",")))
    };
    assert!(Manifest::parse("x", &many(512)).is_ok());
    assert!(Manifest::parse("x", &many(513)).is_err());
    assert!(Manifest::parse("x", &" ".repeat(300_000)).is_err());
}

#[test]
fn unquoted_dotted_keys_mean_the_same() {
    let quoted = with("[capabilities]\n\"fs.read\" = [\"/srv\"]\n");
    let dotted = with("[capabilities]\nfs.read = [\"/srv\"]\n");
    let rule = |text: &str| Manifest::parse("x", text).unwrap().rules[0].rule.clone();
    assert_eq!(rule(&quoted), rule(&dotted));
}

#[test]
fn the_rendering_fits_eighty_columns_and_points_at_the_place() {
    let long =
        with(&format!("[capabilities]\n\"fs.read\" = [\"/{}\", \"nope\"]\n", "x/".repeat(90)));
    let text =
        Manifest::parse("a-rather-long-name-of-a-manifest.toml", &long).unwrap_err().render();
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    let text = Manifest::parse("m.toml", &with("[lane]\nwieght = 5\n")).unwrap_err().render();
    assert_eq!(
        text,
        "m.toml:6:1: unknown key in [lane] `wieght`\n 6 | wieght = 5\n   | ^^^^^^\n   \
         = expected: one of weight\n   = hint: did you mean `weight`?\n\n1 problem: the manifest is refused\n"
    );
}

#[test]
fn errors_have_a_json_form() {
    let error = Manifest::parse("m.toml", &with("[lane]\nwieght = 5\n")).unwrap_err();
    let json = serde_json::to_value(&error).unwrap();
    assert_eq!(json["problems"][0]["line"], 6);
    assert_eq!(json["problems"][0]["expected"], "one of weight");
}

#[test]
fn a_grant_of_the_trust_store_covers_what_lies_below() {
    let profiles = Profiles::built_in();
    let covers = |grant: &str, wanted: &str| grant_covers(grant, wanted, &profiles);
    assert!(covers("fs.read=/srv", "fs.read=/srv/input"));
    assert!(!covers("fs.read=/srv", "fs.write=/srv/input"));
    assert!(!covers("fs.read=/srv;expires=1h", "fs.read=/srv"));
    assert!(covers("fs.read=/srv;uses=3", "fs.read=/srv/a;uses=2"));
    assert!(covers("fs.read=/srv", "fs.read=/srv;uses=2"));
    assert!(!covers("fs.read=/srv;uses=3", "fs.read=/srv;uses=4"));
    assert!(!covers("fs.read=/srv;uses=3", "fs.read=/srv"));
    assert!(covers("@python", "@python") && covers("@*", "@git"));
    assert!(!covers("@python", "@git") && !covers("fs.read=/", "@python"));
    assert!(!covers("nonsense", "fs.read=/") && !covers("fs.read=/", "nonsense"));
    assert!(covers("user=postgres", "user=postgres") && !covers("user=postgres", "user=root"));
    let manifest = Manifest::parse("researcher.toml", RIGHT).unwrap();
    assert!(manifest.capability_texts().contains(&"@python".to_owned()));
    assert_eq!(manifest.further_texts(), ["fs.exec=/usr/bin/python3", "user=agent-1"]);
    // A profile that a key may give contains the program that it is made for.
    assert!(covers("@python", "fs.exec=/usr/bin/python3"));
    assert!(!covers("@python", "fs.exec=/usr/bin/git") && !covers("@git", "user=agent-1"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_breaks_the_reader_or_the_terminal(
        at in any::<prop::sample::Index>(), length in 0_usize..40, other in "\\PC{0,120}", name in "\\PC{1,120}",
    ) {
        // A right manifest with a piece cut out and something put in.
        let characters: Vec<char> = RIGHT.chars().collect();
        let at = at.index(characters.len());
        let end = (at + length).min(characters.len());
        let mut text: String = characters[..at].iter().collect();
        text.push_str(&other);
        text.extend(&characters[end..]);
        for text in [text, other] {
            match Manifest::parse(&name, &text) {
                Ok(manifest) => {
                    prop_assert!(Manifest::parse("again", &manifest.to_toml()).is_ok(), "{}", manifest.to_toml());
                }
                Err(error) => {
                    let shown = error.render();
                    prop_assert!(!error.problems.is_empty());
                    prop_assert!(shown.lines().all(|line| line.chars().count() <= 80), "{shown}");
                }
            }
        }
    }
}
