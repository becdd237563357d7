//! `key new`, `key ls`.

use super::Context;
use crate::cli::Key;
use crate::failure::{Done, Failure};
use crate::render::table::{Table, elastic, fixed, styled};
use crate::render::{BAD, clean};
use api::ErrorCode;
use attest::{KeyError, Rights, SecretKey, TrustStore};
use serde::Serialize;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Where coconutd looks, in this order.
const TRUST: [&str; 2] = ["/usr/share/coconut/trust", "/etc/coconut/trust"];

/// `coconut key …`.
pub fn key(cx: &Context, key: &Key) -> Done {
    match key {
        Key::New { name, dir } => new(cx, name, dir),
        Key::Ls { trust } => ls(cx, trust),
        Key::Trust(_) => Err(Failure::planned("key trust")),
    }
}

/// The keys of the given directories, or of those that coconutd reads.
pub fn store(trust: &[PathBuf]) -> Result<TrustStore, Failure> {
    let standard: Vec<PathBuf> = TRUST.iter().map(PathBuf::from).collect();
    let directories = if trust.is_empty() { &standard } else { trust };
    let directories: Vec<&Path> = directories.iter().map(PathBuf::as_path).collect();
    TrustStore::load(&directories)
        .map_err(|error| Failure::from_error(ErrorCode::Failed, error.into()))
}

/// A key that cannot be used.
pub fn key_error(error: KeyError) -> Failure {
    let code = match &error {
        KeyError::Name(_) => ErrorCode::Usage,
        KeyError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
            ErrorCode::NotFound
        }
        _ => ErrorCode::Failed,
    };
    Failure::from_error(code, error.into())
}

#[derive(Serialize)]
struct Made {
    name: String,
    id: String,
    secret: String,
    public: String,
    rights: String,
}

/// The secret half stays where it was made; the other two go into a trust directory.
fn new(cx: &Context, name: &str, dir: &Path) -> Done {
    let key = SecretKey::generate(name).map_err(key_error)?;
    let path = |extension: &str| dir.join(format!("{name}.{extension}"));
    key.store(&path("key")).map_err(key_error)?;
    write_new(&path("pub"), &format!("{}\n", key.public()))?;
    let rights = "# What manifests signed with this key may ask for; nothing until you say so.\n\
                  # grants  = [\"fs.read=/srv\", \"infer=*\", \"@*\"]   # \"*\" is everything\n\
                  # tenants = [\"maya\"]                          # \"*\" is every tenant\n\
                  grants  = []\ntenants = []\ncomment = \"\"\n";
    write_new(&path("toml"), rights)?;
    let shown = |extension: &str| path(extension).display().to_string();
    let made = Made {
        name: name.to_owned(),
        id: key.public().id(),
        secret: shown("key"),
        public: shown("pub"),
        rights: shown("toml"),
    };
    cx.out.answer("coconut.key-new/1", &made, |_| {
        format!(
            "{}  secret: sign with it, show it to nobody\n{}  public\n{}  what it may grant: edit it\n\
             Trust it: put the last two into {} and restart the machine.\n",
            made.secret, made.public, made.rights, TRUST[1]
        )
    })?;
    Ok(0)
}

fn write_new(path: &Path, text: &str) -> Result<(), Failure> {
    let file = std::fs::OpenOptions::new().write(true).create_new(true).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|error| crate::failure::file_error(path, error))
}

#[derive(Serialize)]
struct Listed {
    name: String,
    id: String,
    #[serde(rename = "rights")]
    rights: Rights,
}

#[derive(Serialize)]
struct List {
    keys: Vec<Listed>,
}

fn ls(cx: &Context, trust: &[PathBuf]) -> Done {
    let store = store(trust)?;
    let keys = store.keys().map(|trusted| Listed {
        name: trusted.key.name().to_owned(),
        id: trusted.key.id(),
        rights: trusted.rights.clone(),
    });
    let list = List { keys: keys.collect() };
    cx.out.answer("coconut.key-ls/1", &list, |width| table(&list, width))?;
    Ok(0)
}

fn table(list: &List, width: usize) -> String {
    if list.keys.is_empty() {
        return "No key is trusted here. `coconut key new NAME` makes one.\n".into();
    }
    let mut table = Table::new(&[
        elastic("KEY", 12),
        fixed("ID"),
        elastic("TENANTS", 8),
        elastic("MAY GRANT", 12),
    ]);
    for key in &list.keys {
        let grants = match (key.rights.revoked, key.rights.grants.is_empty()) {
            (true, _) => styled(BAD, "revoked"),
            (false, true) => styled(BAD, "nothing"),
            (false, false) => clean(&key.rights.grants.join(" ")).into(),
        };
        table.row([
            key.name.clone().into(),
            key.id[..key.id.len().min(16)].into(),
            clean(&key.rights.tenants.join(" ")).into(),
            grants,
        ]);
    }
    table.render(width)
}
