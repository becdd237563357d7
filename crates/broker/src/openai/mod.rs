//! The OpenAI API as the broker speaks it: requests, answers, errors, event streams.

pub mod answer;
pub mod error;
pub mod request;

pub use error::ApiError;
pub use request::{Call, Endpoint, Input};
