//! Fields of bodies: how each type is encoded and shown. What is empty is left out.

use minicbor::decode::Error;
use minicbor::{Decoder, Encoder};
use std::fmt::{self, Formatter, Write as _};

/// A type that a field may have.
pub(crate) trait Field: Default + PartialEq + Sized {
    /// Appends it.
    fn put(&self, out: &mut Encoder<&mut Vec<u8>>);
    /// Reads it.
    fn get(from: &mut Decoder<'_>) -> Result<Self, Error>;
    /// As people read it: one word.
    fn word(&self, out: &mut Formatter<'_>) -> fmt::Result;
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

// Writing to a vector cannot fail.
impl Field for u64 {
    fn put(&self, out: &mut Encoder<&mut Vec<u8>>) {
        let _ = out.u64(*self);
    }
    fn get(from: &mut Decoder<'_>) -> Result<Self, Error> {
        from.u64()
    }
    fn word(&self, out: &mut Formatter<'_>) -> fmt::Result {
        write!(out, "{self}")
    }
}

impl Field for bool {
    fn put(&self, out: &mut Encoder<&mut Vec<u8>>) {
        let _ = out.bool(*self);
    }
    fn get(from: &mut Decoder<'_>) -> Result<Self, Error> {
        from.bool()
    }
    fn word(&self, out: &mut Formatter<'_>) -> fmt::Result {
        write!(out, "{self}")
    }
}

impl Field for String {
    fn put(&self, out: &mut Encoder<&mut Vec<u8>>) {
        let _ = out.str(self);
    }
    fn get(from: &mut Decoder<'_>) -> Result<Self, Error> {
        from.str().map(str::to_owned)
    }
    // Without spaces.
    fn word(&self, out: &mut Formatter<'_>) -> fmt::Result {
        let mut plain =
            self.chars().map(|c| if c.is_whitespace() || c.is_control() { '_' } else { c });
        plain.try_for_each(|c| out.write_char(c))
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
    fn word(&self, out: &mut Formatter<'_>) -> fmt::Result {
        self.as_ref().map_or(Ok(()), |value| value.word(out))
    }
    fn text(&mut self) -> Option<&mut String> {
        self.as_mut().and_then(T::text)
    }
    fn text_len(&self) -> usize {
        self.as_ref().map_or(0, T::text_len)
    }
}
