//! The OpenAI API as the broker speaks it: requests, answers, errors.

pub mod answer;
pub mod error;
mod fields;
mod messages;
mod own;
mod request;
mod special;

pub use error::ApiError;
pub use request::{LIMITS, Parsed, parse};
