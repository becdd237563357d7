//! One record: what a producer tells ([`Entry`]), with a typed [`Body`] for each kind, and how it lies in a leaf.
//!
//! Nothing is flattened to words: [`Body::words`] is for people. A reader skips fields that it does not know and
//! shows bodies of kinds that it does not know as bytes; an index, once given, is never used for something else.

pub mod body;
mod entry;
mod field;
mod wire;

pub use body::{Body, Words};
pub use entry::{Entry, TENANT_MAX, TEXT_MAX, fitted};
pub use wire::{Hash, MalformedRecord, NO_PREV, Record, RecordView, Records, encode, records};
