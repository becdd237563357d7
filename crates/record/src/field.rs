//! Fields of bodies: how each type is encoded and shown. What is empty is left out.

use minicbor::decode::Error;
use minicbor::{Decoder, Encoder};

/// A type that a field may have.
pub(crate) trait Field: Default + PartialEq + Sized {
    /// Appends it.
    fn put(&self, out: &mut Encoder<&mut Vec<u8>>);
    /// Reads it.
    fn get(from: &mut Decoder<'_>) -> Result<Self, Error>;
    /// As people read it: one word.
    fn word(&self) -> String;
    /// The text in it, if it is one.
    fn text(&mut self) -> Option<&mut String> {
        None
    }
    /// Bytes of the text in it.
    fn text_len(&self) -> usize {
        0
    }
    /// True if it is left out.
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Words have no spaces in them.
fn word(text: &str) -> String {
    text.chars().map(|c| if c.is_whitespace() || c.is_control() { '_' } else { c }).collect()
}

// Writing to a vector cannot fail.
impl Field for u64 {
    fn put(&self, out: &mut Encoder<&mut Vec<u8>>) {
        let _ = out.u64(*self);
    }
    fn get(from: &mut Decoder<'_>) -> Result<Self, Error> {
        from.u64()
    }
    fn word(&self) -> String {
        self.to_string()
    }
}

impl Field for bool {
    fn put(&self, out: &mut Encoder<&mut Vec<u8>>) {
        let _ = out.bool(*self);
    }
    fn get(from: &mut Decoder<'_>) -> Result<Self, Error> {
        from.bool()
    }
    fn word(&self) -> String {
        self.to_string()
    }
}

impl Field for String {
    fn put(&self, out: &mut Encoder<&mut Vec<u8>>) {
        let _ = out.str(self);
    }
    fn get(from: &mut Decoder<'_>) -> Result<Self, Error> {
        from.str().map(str::to_owned)
    }
    fn word(&self) -> String {
        word(self)
    }
    fn text(&mut self) -> Option<&mut String> {
        Some(self)
    }
    fn text_len(&self) -> usize {
        self.len()
    }
}

/// Nothing is left out; zero, false and the empty text are told.
impl<T: Field> Field for Option<T> {
    fn put(&self, out: &mut Encoder<&mut Vec<u8>>) {
        if let Some(value) = self {
            value.put(out);
        }
    }
    fn get(from: &mut Decoder<'_>) -> Result<Self, Error> {
        T::get(from).map(Some)
    }
    fn word(&self) -> String {
        self.as_ref().map(T::word).unwrap_or_default()
    }
    fn text(&mut self) -> Option<&mut String> {
        self.as_mut().and_then(T::text)
    }
    fn text_len(&self) -> usize {
        self.as_ref().map_or(0, T::text_len)
    }
}
