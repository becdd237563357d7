//! Every kind of capability that a manifest can name: how it is written, what is expected there. One
//! line each; reading, printing and messages go by it.

use abi::Capability;

/// How a capability is written in `[capabilities]`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Form {
    /// A list of paths, and of profiles.
    Files,
    /// A list.
    List,
    /// `true`.
    Flag,
    /// One word.
    Word,
    /// A table of its own.
    Table,
}

/// One kind.
pub(crate) struct Kind {
    pub capability: Capability,
    pub form: Form,
    /// The key of an entry's value, where an entry is a table: `{ path = "/srv", expires = "1h" }`.
    pub key: &'static str,
    pub expected: &'static str,
}

const FILES: &str = "an absolute path, as \"/srv/input\", or a profile, as \"@python\"";
const CONNECT: &str = "host:port, as \"api.github.com:443\" or \"10.0.0.0/8:*\"";
const BIND: &str = "address:port, as \"127.0.0.1:8080\"";
const UNIX: &str = "a socket's absolute path, or \"@name\" for an abstract one";
const INFER: &str = "a table, as { models = [\"*\"], tokens_per_minute = 60000 }";
const SPAWN: &str = "a table, as { count = 30 }";
const DEVICE: &str = "a device's absolute path, as \"/dev/dri/renderD128\"";
const AUDIT: &str = "\"own\", \"descendants\" or \"all\"";

/// In the order in which messages name them.
pub(crate) const KINDS: [Kind; 14] = [
    kind(Capability::FsRead, Form::Files, "path", FILES),
    kind(Capability::FsWrite, Form::Files, "path", FILES),
    kind(Capability::FsCreate, Form::Files, "path", FILES),
    kind(Capability::FsDelete, Form::Files, "path", FILES),
    kind(Capability::FsExec, Form::Files, "path", FILES),
    kind(Capability::NetConnect, Form::List, "host", CONNECT),
    kind(Capability::NetBind, Form::List, "host", BIND),
    kind(Capability::NetRaw, Form::Flag, "", "true or false"),
    kind(Capability::IpcUnix, Form::List, "path", UNIX),
    kind(Capability::Infer, Form::Table, "", INFER),
    kind(Capability::AgentSpawn, Form::Table, "", SPAWN),
    kind(Capability::AgentSignal, Form::List, "target", "[\"descendants\"]"),
    kind(Capability::Device, Form::List, "path", DEVICE),
    kind(Capability::AuditRead, Form::Word, "", AUDIT),
];

const fn kind(
    capability: Capability,
    form: Form,
    key: &'static str,
    expected: &'static str,
) -> Kind {
    Kind { capability, form, key, expected }
}

/// The kind that a key of the section names.
pub(crate) fn named(key: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| kind.capability.name() == key)
}

/// How a capability is written; that of files for what no manifest can name.
pub(crate) fn of(capability: Capability) -> &'static Kind {
    KINDS.iter().find(|kind| kind.capability == capability).unwrap_or(&KINDS[0])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rule::Rule;

    #[test]
    fn every_capability_but_two_can_be_named_and_reads_as_it_prints() {
        let samples =
            ["/srv", "192.0.2.1:80", "true", "@bus", "*;context=9", "3", "descendants", "own"];
        for capability in Capability::ALL {
            let found = samples.iter().find_map(|text| Rule::parse_value(*capability, text).ok());
            assert_eq!(found.is_some(), named(capability.name()).is_some(), "{capability}");
            let Some(rule) = found else { continue };
            assert_eq!(rule.capability(), *capability);
            let text = format!(
                "[agent]\nname = \"a\"\ntenant = \"t\"\ncommand = [\"/bin/a\"]\n[capabilities]\n{}\n",
                rule.manifest_line()
            );
            let read = crate::Manifest::parse("x", &text).map_err(|e| e.render()).unwrap();
            assert_eq!(read.rules[0].rule, rule);
        }
    }
}
