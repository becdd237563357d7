//! TOML to a validated manifest; the capability algebra. Pure: no file is touched but profiles.
//!
//! ```
//! let text = r#"
//! [agent]
//! name    = "researcher"
//! tenant  = "maya"
//! command = ["/usr/bin/python3", "/opt/team/researcher.py"]
//! [capabilities]
//! "fs.read" = ["/srv/input"]
//! "#;
//! let manifest = coconut_manifest::Manifest::parse("researcher.toml", text).unwrap();
//! assert_eq!(manifest.rules[0].rule.to_string(), "fs.read=/srv/input");
//! ```

mod algebra;
mod capabilities;
mod decode;
mod effective;
mod kinds;
pub mod limits;
mod net;
mod path;
mod print;
mod problem;
mod profile;
mod reader;
mod rule;
pub mod secrets;
mod types;
mod units;

pub use effective::{Origin, grant_covers};
pub use net::{Endpoint, EndpointError, Host, IpNet};
pub use path::{AbsPath, PathError};
pub use problem::{ManifestError, Problem};
pub use profile::{Profile, ProfileError, Profiles};
pub use rule::{AuditScope, FsRight, InferScope, NetRight, Rule, RuleError, Scope, UnixAddress};
pub use types::{
    Agent, Children, Consequence, Declared, DenialLimit, Digest, Exec, Manifest, Memory,
    Namespaces, ProfileUse, is_name,
};
pub use units::{parse_duration, parse_size, print_duration, print_size};
