//! One tenant's requests when it is told to send them: the pace is that of whoever tells.

use crate::client::{Ask, Client, Target};
use serde::{Deserialize, Serialize};
use std::io::Write;

/// What came of one request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Asked {
    /// The HTTP status, or why there is none.
    pub outcome: String,
    /// Time to first token, in milliseconds; none if there was no answer.
    pub first_token_ms: Option<f64>,
    /// Tokens that came.
    pub tokens: u64,
}

/// For each line of stdin, which is the number of words of the prompt, sends one request to its end
/// and prints an [`Asked`] as a line of JSON. Ends with stdin.
///
/// # Errors
/// When a line is no number, or stdin or stdout fails.
pub async fn run(target: Target, max_tokens: u32) -> anyhow::Result<()> {
    let mut client = Client::new(target);
    // Nothing else goes on in this task while it waits for a line.
    for (seed, line) in (1..).zip(std::io::stdin().lines()) {
        let ask = Ask { prompt_words: line?.trim().parse()?, max_tokens, stream: true, seed };
        let asked = match client.chat(ask).await {
            Ok(got) => Asked {
                outcome: got.status.to_string(),
                first_token_ms: (got.tokens > 0).then_some(got.first.as_secs_f64() * 1e3),
                tokens: got.tokens,
            },
            Err(error) => Asked { outcome: format!("{error:#}"), first_token_ms: None, tokens: 0 },
        };
        let mut out = std::io::stdout().lock();
        writeln!(out, "{}", serde_json::to_string(&asked)?)?;
        out.flush()?;
    }
    Ok(())
}
