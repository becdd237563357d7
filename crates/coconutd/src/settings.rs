//! What an operator sets: `/etc/coconut/coconutd.toml`. A file that cannot be read changes nothing, and the
//! daemon says so: it must not be kept from starting by a typing error.

use crate::config::Config;
use manifest::{parse_duration, parse_size};
use serde::{Deserialize, Deserializer, de};
use std::path::Path;
use std::time::Duration;

/// Where it lies.
pub const SETTINGS: &str = "/etc/coconut/coconutd.toml";
/// The log keeps no less, so that nobody empties it by setting it to nothing.
pub const LOG_LEAST: u64 = 64 << 20;
/// How long agents may run without a daemon at most.
const GRACE_MOST: Duration = Duration::from_secs(600);

/// The file. What is left out stays as it is.
#[derive(Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    log: Log,
    output: Output,
    daemon: Daemon,
}

#[derive(Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
struct Log {
    /// Bytes of records that are kept.
    #[serde(deserialize_with = "size")]
    keep: Option<u64>,
}

#[derive(Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
struct Output {
    /// Bytes that are kept of what each background agent writes, and of what all do.
    #[serde(deserialize_with = "size")]
    each: Option<u64>,
    #[serde(deserialize_with = "size")]
    all: Option<u64>,
}

#[derive(Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
struct Daemon {
    /// How long agents run without a daemon.
    #[serde(deserialize_with = "duration")]
    grace: Option<Duration>,
}

fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let size = parse_size(&text).filter(|size| *size > 0);
    size.map(Some).ok_or_else(|| de::Error::custom(format!("`{text}` is no size; write `4GiB`")))
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let duration = parse_duration(&text).filter(|duration| *duration <= GRACE_MOST);
    let why = || de::Error::custom(format!("`{text}` is no time up to ten minutes; write `10s`"));
    duration.map(Some).ok_or_else(why)
}

impl Settings {
    /// Reads the file. The second is what is wrong with it, if anything: then all stays as it is.
    pub fn load(path: &Path) -> (Settings, Option<String>) {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Default::default();
            }
            Err(error) => {
                return (Settings::default(), Some(format!("{}: {error}", path.display())));
            }
        };
        match Settings::parse(&text) {
            Ok(settings) => (settings, None),
            Err(why) => {
                let why = format!("{} says nothing, it cannot be read: {why}", path.display());
                (Settings::default(), Some(why))
            }
        }
    }

    fn parse(text: &str) -> Result<Settings, String> {
        let settings: Settings = toml::from_str(text).map_err(|e| e.message().to_owned())?;
        match settings.log.keep {
            Some(keep) if keep < LOG_LEAST => Err("log.keep is at least 64MiB".to_owned()),
            _ => Ok(settings),
        }
    }

    /// What it changes of the daemon's own.
    pub fn apply(&self, config: &mut Config) {
        config.log_bytes = self.log.keep.or(config.log_bytes);
        config.output.each = self.output.each.unwrap_or(config.output.each);
        config.output.all = self.output.all.unwrap_or(config.output.all);
    }

    /// How long agents run without a daemon, if it is set.
    pub fn grace(&self) -> Option<Duration> {
        self.daemon.grace
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_set_and_the_rest_stays() {
        let text = "[log]\nkeep = \"4GiB\"\n[output]\neach = \"1MiB\"\n[daemon]\ngrace = \"30s\"\n";
        let settings = Settings::parse(text).unwrap();
        let (mut config, default) = (Config::default(), Config::default());
        settings.apply(&mut config);
        assert_eq!((config.log_bytes, config.output.each), (Some(4 << 30), 1 << 20));
        assert_eq!(config.output.all, default.output.all);
        assert_eq!(settings.grace(), Some(Duration::from_secs(30)));
    }

    #[test]
    fn a_file_with_anything_wrong_changes_nothing_and_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("coconutd.toml");
        assert_eq!(Settings::load(&path), (Settings::default(), None));
        for (text, said) in [
            ("[log]\nkeep = \"4 GB\"", "is no size"),
            ("[log]\nkeep = 4096", "string"),
            ("[log]\nkeep = \"1MiB\"", "at least 64MiB"),
            ("[log]\nkeeps = \"4GiB\"", "keeps"),
            ("[logs]", "logs"),
            ("[daemon]\ngrace = \"2h\"", "ten minutes"),
            ("[log", "coconutd.toml"),
        ] {
            std::fs::write(&path, text).unwrap();
            let (settings, wrong) = Settings::load(&path);
            assert_eq!(settings, Settings::default(), "{text}");
            let wrong = wrong.unwrap_or_else(|| panic!("{text}"));
            assert!(wrong.contains(said) && wrong.contains("coconutd.toml"), "{text}: {wrong}");
        }
    }
}
