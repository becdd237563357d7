//! What lies between the broker and whatever computes answers.
//!
//! A [`Request`] and an answer ([`Part`] by [`Part`]) are each one typed thing, from the socket to the engine
//! and back. A [`Backend`] checks and measures a request, begins its answer when its turn comes, charges the
//! account ([`Share`]) that pays, and counts what was really done ([`Meter`]). Nothing here knows an engine, a
//! queue or a socket; engines do not know one another.

mod answer;
mod aside;
mod backend;
mod failure;
mod request;
mod share;

pub use answer::{Answer, Finish, Part, Tokens};
pub use aside::aside;
pub use backend::{Backend, Begin, For, Measure, MeasureKind, ModelCard, Payment, Prepared, Start};
pub use failure::{Failure, FailureKind, Passed};
pub use request::{Endpoint, Input, Message, Request, Sampling};
pub use share::{Key, Meter, Share};
