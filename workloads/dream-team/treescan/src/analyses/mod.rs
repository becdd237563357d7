//! The analyses: each reads a tree and gives figures, findings and a question for a model.

pub mod audit;
pub mod docs;
pub mod review;
pub mod structure;
pub mod tests;

/// Findings listed one by one; the figures count all of them.
pub const MOST_FINDINGS: usize = 40;
