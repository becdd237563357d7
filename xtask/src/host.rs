//! What the machine that builds tells us: its Debian mirror, whether we are root.

use anyhow::{Context as _, Result};
use std::env;
use std::fs;
use std::path::Path;

/// Where Debian packages come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    /// The archive.
    pub main: String,
    /// Its security updates.
    pub security: String,
}

impl Mirror {
    /// `COCONUT_MIRROR`, else the mirror of this machine's own apt if it is a Debian, else none: then the tools' built-in default holds.
    pub fn find() -> Option<Self> {
        if let Some(url) = env::var("COCONUT_MIRROR").ok().filter(|url| !url.is_empty()) {
            let main = url.trim_end_matches('/').to_owned();
            return Some(Self { security: format!("{main}-security"), main });
        }
        let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
        if !release.lines().any(|l| l == "ID=debian") {
            return None;
        }
        Self::from_sources(&sources_below(Path::new("/")))
    }

    /// The mirror that a tree's own apt configuration names.
    pub fn of_tree(tree: &Path) -> Result<Self> {
        Self::from_sources(&sources_below(tree))
            .with_context(|| format!("{} names no Debian mirror", tree.display()))
    }

    /// The apt sources of a Debian 13 with backports.
    pub fn sources(&self, keyring: &str) -> String {
        format!(
            "Types: deb\nURIs: {}\nSuites: trixie trixie-updates trixie-backports\nComponents: main\nSigned-By: {keyring}\n\n\
             Types: deb\nURIs: {}\nSuites: trixie-security\nComponents: main\nSigned-By: {keyring}\n",
            self.main, self.security
        )
    }

    fn from_sources(sources: &[Source]) -> Option<Self> {
        let is_security =
            |s: &Source| s.suite.ends_with("-security") || s.suite.contains("/updates");
        let main = sources.iter().find(|s| {
            s.components.iter().any(|c| c == "main") && !is_security(s) && s.is_debian()
        })?;
        let security = sources.iter().find(|s| is_security(s) && s.is_debian());
        let security = security.map_or_else(|| format!("{}-security", main.uri), |s| s.uri.clone());
        Some(Self { main: main.uri.clone(), security })
    }
}

/// One line of apt's sources: a place, a suite, its components.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Source {
    uri: String,
    suite: String,
    components: Vec<String>,
}

impl Source {
    /// Third parties' repositories also have a component called main; Debian's own suites have known names.
    fn is_debian(&self) -> bool {
        const SUITES: [&str; 8] =
            ["bookworm", "trixie", "forky", "sid", "stable", "testing", "unstable", "oldstable"];
        let name = self.suite.split(['-', '/']).next().unwrap_or_default();
        SUITES.contains(&name) && self.uri.trim_end_matches("-security").ends_with("/debian")
    }
}

fn sources_below(tree: &Path) -> Vec<Source> {
    let apt = tree.join("etc/apt");
    let mut files = vec![apt.join("sources.list")];
    if let Ok(entries) = fs::read_dir(apt.join("sources.list.d")) {
        let mut parts: Vec<_> = entries.flatten().map(|e| e.path()).collect();
        parts.sort();
        files.extend(parts);
    }
    let mut sources = Vec::new();
    for file in files {
        let Ok(text) = fs::read_to_string(&file) else { continue };
        match file.extension().and_then(|e| e.to_str()) {
            Some("sources") => sources.extend(deb822(&text)),
            Some("list") => sources.extend(text.lines().filter_map(one_line)),
            _ => {}
        }
    }
    sources
}

/// `deb [options] URI SUITE COMPONENT…`
fn one_line(line: &str) -> Option<Source> {
    let rest = line.split('#').next()?.trim().strip_prefix("deb ")?.trim();
    let rest = if rest.starts_with('[') { rest.split_once(']')?.1 } else { rest };
    let mut words = rest.split_whitespace().map(str::to_owned);
    let uri = words.next()?.trim_end_matches('/').to_owned();
    Some(Source { uri, suite: words.next()?, components: words.collect() })
}

/// Stanzas of `Key: value` with continuation lines.
fn deb822(text: &str) -> Vec<Source> {
    let text: String =
        text.lines().filter(|l| !l.starts_with('#')).map(|l| format!("{l}\n")).collect();
    text.split("\n\n").flat_map(stanza).collect()
}

fn stanza(text: &str) -> Vec<Source> {
    let unfolded = text.replace("\n ", " ").replace("\n\t", " ");
    let field = |name: &str| -> Vec<String> {
        let values = unfolded.lines().filter_map(|l| l.split_once(':'));
        let mut values = values.filter(|(key, _)| key.trim().eq_ignore_ascii_case(name));
        values
            .next()
            .map_or_else(Vec::new, |(_, v)| v.split_whitespace().map(str::to_owned).collect())
    };
    let off = field("Enabled").first().is_some_and(|v| v.eq_ignore_ascii_case("no"));
    if off || !field("Types").iter().any(|t| t == "deb") {
        return Vec::new();
    }
    let (uris, components) = (field("URIs"), field("Components"));
    let suites = field("Suites");
    let pairs = uris.iter().flat_map(|uri| suites.iter().map(move |suite| (uri, suite)));
    pairs
        .map(|(uri, suite)| Source {
            uri: uri.trim_end_matches('/').to_owned(),
            suite: suite.clone(),
            components: components.clone(),
        })
        .collect()
}

/// Whether we run as root. Read from `/proc`, as the standard library has no call for it.
pub fn is_root() -> bool {
    fs::read_to_string("/proc/self/status")
        .unwrap_or_default()
        .lines()
        .find_map(|l| l.strip_prefix("Uid:"))
        .and_then(|ids| ids.split_whitespace().nth(1))
        .is_some_and(|id| id == "0")
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEB822: &str = "# made by hand\nTypes: deb\n# an old one\nURIs: http://mirror.test/debian/\n\
        Suites: bookworm bookworm-updates\nComponents: main\n\nTypes: deb\n\
        URIs: http://mirror.test/debian-security\nSuites: bookworm-security\nComponents: main\n\n\
        Types: deb\nURIs: https://vendor.test/node\nSuites: nodistro\nComponents: main\n";

    #[test]
    fn deb822_sources_are_read() {
        let mirror = Mirror::from_sources(&deb822(DEB822)).unwrap();
        assert_eq!(mirror.main, "http://mirror.test/debian");
        assert_eq!(mirror.security, "http://mirror.test/debian-security");
    }

    #[test]
    fn one_line_sources_are_read() {
        let text = "deb https://vendor.test/apt cloud main\n# deb http://off.test/debian trixie main\n\
            deb [arch=amd64 signed-by=/a b] http://mirror.test/debian trixie main contrib\n";
        let sources: Vec<_> = text.lines().filter_map(one_line).collect();
        let mirror = Mirror::from_sources(&sources).unwrap();
        assert_eq!(mirror.main, "http://mirror.test/debian");
        assert_eq!(mirror.security, "http://mirror.test/debian-security");
    }

    #[test]
    fn disabled_and_source_only_stanzas_do_not_count() {
        assert!(deb822("Types: deb\nEnabled: no\nURIs: http://a.test/debian\nSuites: trixie\nComponents: main\n").is_empty());
        assert!(
            deb822(
                "Types: deb-src\nURIs: http://a.test/debian\nSuites: trixie\nComponents: main\n"
            )
            .is_empty()
        );
    }
}
