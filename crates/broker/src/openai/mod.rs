//! The OpenAI API as the broker speaks it: requests, answers, errors, event streams.

pub mod answer;
pub mod error;
mod fields;
pub mod forward;
mod messages;
pub mod request;
mod special;

pub use error::ApiError;
pub use request::{Call, Endpoint, Input};
