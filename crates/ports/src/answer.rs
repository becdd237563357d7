//! Answers, part by part.

use crate::Failure;
use bytes::Bytes;
use futures_util::stream::BoxStream;

/// What of an answer is there now. The order is `Begun`, any number of the others, `End`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// It will be answered; what goes wrong from now on goes wrong in the middle.
    Begun,
    /// One token was written; its text may be held back for a while, and then be longer.
    Token(String),
    /// OpenAI's JSON, as another server wrote it: an event of a stream, or the whole answer.
    Json(Bytes),
    /// Nothing more comes. Another server has said why in its own JSON.
    End(Option<Finish>),
}

/// Why a text ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// The model's end-of-text token or a stop string.
    Stop,
    /// As many tokens as were asked for, or the context is full.
    Length,
}

/// An answer on its way; dropping it cancels the work. One that ends without `End` or a failure has lost its
/// engine.
pub type Answer = BoxStream<'static, Result<Part, Failure>>;

/// Tokens of one call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tokens {
    /// Read.
    pub prompt: u32,
    /// Written.
    pub completion: u32,
}
