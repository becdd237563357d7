//! What the record of each kind says beside its object.

use crate::field::Field;
use abi::Kind;
use minicbor::{Decoder, Encoder};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt::{self, Display, Formatter};

/// Defines bodies: name, then `index field: type`. A body is a CBOR map from index to value.
macro_rules! bodies {
    ($($(#[$meta:meta])* $name:ident { $($(#[$note:meta])* $index:literal $field:ident: $type:ty,)* })+) => {
        $(
            $(#[$meta])*
            #[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
            #[serde(default)]
            #[allow(missing_docs)] // their names say it; what is not plain has a note
            pub struct $name {
                $(
                    $(#[$note])*
                    #[serde(skip_serializing_if = "Field::is_empty")]
                    pub $field: $type,
                )*
            }

            impl $name {
                fn encode(&self, out: &mut Vec<u8>) {
                    let filled = [$(!Field::is_empty(&self.$field)),*];
                    let count = filled.iter().filter(|filled| **filled).count();
                    let mut out = Encoder::new(out);
                    // Writing to a vector cannot fail.
                    let _ = out.map(count as u64);
                    $(
                        if !Field::is_empty(&self.$field) {
                            let _ = out.u32($index);
                            self.$field.put(&mut out);
                        }
                    )*
                }

                fn decode(bytes: &[u8]) -> Option<Self> {
                    let mut from = Decoder::new(bytes);
                    let mut body = Self::default();
                    for _ in 0..from.map().ok()?? {
                        match from.u32().ok()? {
                            $($index => body.$field = Field::get(&mut from).ok()?,)*
                            _ => from.skip().ok()?,
                        }
                    }
                    (from.position() == bytes.len()).then_some(body)
                }

                fn words(&self, out: &mut Formatter<'_>) -> fmt::Result {
                    let mut first = true;
                    $(
                        if !Field::is_empty(&self.$field) {
                            let gap = if std::mem::take(&mut first) { "" } else { " " };
                            write!(out, "{gap}{}=", stringify!($field))?;
                            self.$field.word(out)?;
                        }
                    )*
                    Ok(())
                }

                fn is_empty(&self) -> bool {
                    true $(&& Field::is_empty(&self.$field))*
                }

                fn texts(&mut self) -> Vec<&mut String> {
                    let all = [$(self.$field.text()),*];
                    all.into_iter().flatten().collect()
                }

                fn texts_len(&self) -> usize {
                    [$(self.$field.text_len()),*].iter().sum()
                }
            }

            impl From<$name> for Body {
                fn from(body: $name) -> Body {
                    Body::$name(body)
                }
            }
        )+

        /// A record's body.
        #[derive(Clone, PartialEq, Eq, Debug)]
        pub enum Body {
            $($(#[$meta])* $name($name),)+
            /// Words of a writer that had no bodies; empty for nothing.
            Words(String),
            /// Of a kind that this reader does not know, or not what its kind has: the bytes.
            Unknown(Vec<u8>),
        }

        impl Body {
            /// Appends it to a record; what has no fields of its own is not appended.
            pub(crate) fn encode(&self, out: &mut Vec<u8>) {
                match self {
                    $(Body::$name(body) => body.encode(out),)+
                    Body::Words(_) => {}
                    Body::Unknown(bytes) => out.extend_from_slice(bytes),
                }
            }

            /// True if it says nothing.
            pub fn is_empty(&self) -> bool {
                match self {
                    $(Body::$name(body) => body.is_empty(),)+
                    Body::Words(words) => words.is_empty(),
                    Body::Unknown(bytes) => bytes.is_empty(),
                }
            }

            /// The texts in it.
            pub(crate) fn texts(&mut self) -> Vec<&mut String> {
                match self {
                    $(Body::$name(body) => body.texts(),)+
                    Body::Words(words) => vec![words],
                    Body::Unknown(_) => Vec::new(),
                }
            }

            /// Bytes of the texts in it.
            pub fn texts_len(&self) -> usize {
                match self {
                    $(Body::$name(body) => body.texts_len(),)+
                    Body::Words(words) => words.len(),
                    Body::Unknown(bytes) => bytes.len(),
                }
            }
        }

        impl Display for Words<'_> {
            fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
                match self.0 {
                    $(Body::$name(body) => body.words(out),)+
                    Body::Words(words) => out.write_str(words),
                    Body::Unknown(bytes) => {
                        out.write_str("body=")?;
                        bytes.iter().try_for_each(|byte| write!(out, "{byte:02x}"))
                    }
                }
            }
        }

        /// Fields, or words where there are none.
        impl Serialize for Body {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                match self {
                    $(Body::$name(body) => body.serialize(serializer),)+
                    Body::Words(_) | Body::Unknown(_) => serializer.collect_str(&self.words()),
                }
            }
        }
    };
}

bodies! {
    /// A daemon's start, or what it took over.
    Boot {
        0 version: String,
        1 kernel: String,
        2 programs: Option<u64>,
        3 sealed: Option<bool>,
        /// Agents that run on, agents that ended meanwhile, and processes that belong to no agent.
        4 running: Option<u64>,
        5 ended: Option<u64>,
        6 strangers: Option<u64>,
    }
    /// A daemon's end.
    Shutdown {
        0 agents: Option<u64>,
    }
    /// Who is made, by whose leave, from what.
    Spawn {
        0 name: String,
        1 manifest: String,
        2 signed: Option<bool>,
        3 authorizer: String,
        4 program: String,
        5 uid: Option<u64>,
    }
    /// A step of an agent's life; its object is the new state.
    State {
        0 from: String,
        1 by: String,
    }
    /// How an agent ended; its object says with what.
    Exit {
        0 reason: String,
        1 step: String,
        2 why: String,
    }
    /// A right that was given, or several of a profile.
    Grant {
        0 rule: Option<u64>,
        1 rules: Option<u64>,
        2 from: String,
        3 authorizer: String,
        /// What every agent has at its launch.
        4 launch: String,
    }
    /// A right that was taken.
    Revoke {
        0 rule: Option<u64>,
        1 why: String,
        2 authorizer: String,
    }
    /// Something that was tried: denials, uses, starts of programs, attempts to break the seal.
    Attempt {
        /// The hook, as the kernel spells it; `api` for coconutd's own.
        0 op: String,
        1 comm: String,
        2 pid: Option<u64>,
        3 errno: String,
        4 rule: Option<u64>,
        5 why: String,
    }
    /// A call of a model.
    Inference {
        0 prompt_tokens: Option<u64>,
        1 completion_tokens: Option<u64>,
        2 queued_us: Option<u64>,
        3 first_token_us: Option<u64>,
        4 steps: Option<u64>,
        5 passed_steps: Option<u64>,
        6 others_tokens: Option<u64>,
        7 refused: String,
        /// The call's id; empty where nobody gave one.
        8 call: String,
    }
    /// A new weight.
    Lane {
        0 weight: Option<u64>,
        1 by: String,
    }
    /// Events that are missing; its object says where.
    Gap {
        0 missing: Option<u64>,
        1 total: Option<u64>,
        2 cpu: Option<u64>,
        3 before: Option<u64>,
        4 kernel: Option<u64>,
        5 log: Option<u64>,
    }
    /// What is weaker; its object says what.
    Degraded {
        0 at: String,
        1 name: String,
        2 records: Option<u64>,
        3 torn_bytes: Option<u64>,
        4 found: String,
    }
    /// What became of the log itself.
    Log {
        0 first_record: Option<u64>,
        1 first_leaf: Option<u64>,
        2 bytes: Option<u64>,
    }
}

/// A body as people read it: `key=value` words.
pub struct Words<'a>(&'a Body);

/// Reads a body of a kind with `$read`, which is given the type's name.
macro_rules! of_kind {
    ($kind:expr, $read:ident) => {
        match $kind {
            Kind::Boot => $read!(Boot),
            Kind::Shutdown => $read!(Shutdown),
            Kind::Spawn => $read!(Spawn),
            Kind::State => $read!(State),
            Kind::Exit => $read!(Exit),
            Kind::Grant => $read!(Grant),
            Kind::Revoke => $read!(Revoke),
            Kind::Denial | Kind::Use | Kind::Exec | Kind::Seal => $read!(Attempt),
            Kind::Inference => $read!(Inference),
            Kind::Lane => $read!(Lane),
            Kind::Gap => $read!(Gap),
            Kind::Degraded => $read!(Degraded),
            Kind::Log => $read!(Log),
            Kind::Syscall => None,
        }
    };
}

impl Body {
    /// Reads the body of a record of this kind. What cannot be read is kept as it is.
    pub(crate) fn decode(kind: u32, bytes: &[u8]) -> Body {
        macro_rules! read {
            ($name:ident) => {
                $name::decode(bytes).map(Body::$name)
            };
        }
        let known = Kind::try_from(kind).ok().and_then(|kind| of_kind!(kind, read));
        known.unwrap_or_else(|| Body::Unknown(bytes.to_vec()))
    }

    /// As people read it: `key=value` words.
    pub const fn words(&self) -> Words<'_> {
        Words(self)
    }

    /// Itself, if it has fields of its own.
    pub const fn fields(&self) -> Option<&Self> {
        match self {
            Body::Words(_) | Body::Unknown(_) => None,
            _ => Some(self),
        }
    }

    /// Reads the JSON of [`Body::fields`] of a record of this kind.
    pub fn from_json(kind: Kind, json: &serde_json::Value) -> Option<Body> {
        macro_rules! read {
            ($name:ident) => {
                $name::deserialize(json).ok().map(Body::$name)
            };
        }
        of_kind!(kind, read)
    }
}

impl Default for Body {
    fn default() -> Self {
        Body::Words(String::new())
    }
}

impl From<&str> for Body {
    fn from(words: &str) -> Self {
        Body::Words(words.to_owned())
    }
}

impl From<String> for Body {
    fn from(words: String) -> Self {
        Body::Words(words)
    }
}

/// Words only: fields do not say of which kind they are.
impl<'de> Deserialize<'de> for Body {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Body::Words)
    }
}

#[cfg(test)]
mod tests;
