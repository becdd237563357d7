//! The embedded engine: llama.cpp behind the broker's port ([`ports::Backend`]).
//!
//! Continuous batching: one thread decodes a small batch of tokens at a time, drawn
//! from every running sequence. Which sequences are in a step, and with how many tokens, follows the
//! accounts ([`ports::Share`]), so that a sequence that is owed service never waits for more than
//! the step that is under way. It knows nothing of tenants or HTTP.

pub mod cost;
pub mod demand;
mod embedded;
pub mod engine;
mod markers;
pub mod model;
pub mod sampling;
pub mod step;
mod template;
pub mod text;

pub use embedded::Embedded;
pub use engine::{Engine, EngineConfig, Job, Stats};
pub use model::Model;

/// Why the engine could not be started or a request could not be prepared.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The model file is not there or not readable.
    #[error("cannot read the model {path}\nhint: give a GGUF file that this user may read")]
    Unreadable {
        /// The path that was tried.
        path: String,
        /// The operating system's reason.
        #[source]
        source: std::io::Error,
    },
    /// llama.cpp refused the file.
    #[error("llama.cpp refused the model {path}\nhint: is it a GGUF file of a text model?")]
    Load {
        /// The path that was tried.
        path: String,
        /// llama.cpp's reason.
        #[source]
        source: llama_cpp_2::LlamaModelLoadError,
    },
    /// There was not enough memory for the context, or its shape is impossible.
    #[error(
        "cannot make a context of {sequences} sequences of {context} tokens\n\
         hint: lower --slots or --context"
    )]
    Context {
        /// Parallel sequences asked for.
        sequences: u32,
        /// Tokens a sequence.
        context: u32,
        /// llama.cpp's reason.
        #[source]
        source: llama_cpp_2::LlamaContextLoadError,
    },
    /// llama.cpp itself could not start.
    #[error("llama.cpp did not start")]
    Start(#[source] llama_cpp_2::LlamaCppError),
    /// The engine's thread could not be made.
    #[error("cannot start the engine's thread")]
    Thread(#[source] std::io::Error),
    /// The vocabulary's control tokens could not be indexed.
    #[error("cannot index the model's control tokens: {0}")]
    Vocabulary(String),
    /// The model has no chat template, so only plain completions work.
    #[error("the model has no chat template\nhint: use /v1/completions")]
    NoTemplate,
    /// The model's chat template refused these messages.
    #[error("the model's chat template refused the messages: {0}")]
    Template(String),
}
