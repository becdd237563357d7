//! `coconut-model FILE`: writes the toy model that the image ships.

use anyhow::Context;
use clap::Parser;
use coconut_model::{NAME, Shape, generate};
use std::path::PathBuf;

/// Writes coconut-tiny-bigram, the toy model that the image ships; the same bytes every time.
#[derive(Parser)]
#[command(name = "coconut-model", version)]
struct Args {
    /// File to write
    out: PathBuf,
    /// Layers of random weights; more make the model slower, not better
    #[arg(long, default_value_t = Shape::default().layers)]
    layers: u32,
    /// Seed of the random weights
    #[arg(long, default_value_t = Shape::default().seed)]
    seed: u64,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let shape = Shape { layers: args.layers, seed: args.seed, ..Shape::default() };
    let (bytes, perplexity) = generate(&shape)?;
    std::fs::write(&args.out, &bytes)
        .with_context(|| format!("cannot write {}", args.out.display()))?;
    println!(
        "{}: {NAME}, {} bytes, perplexity {perplexity:.1} on its corpus",
        args.out.display(),
        bytes.len()
    );
    Ok(())
}
