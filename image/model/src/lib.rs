//! Writes `coconut-tiny-bigram`: a toy llama model in one GGUF file, the same bytes every time.
//!
//! It has learnt nothing but which token follows which in `corpus.txt` (a log-bilinear bigram model
//! in its embeddings); its attention and feed-forward weights are random and weak. It exists so that
//! a real engine can run real requests anywhere, quickly. What it says means nothing, and it is
//! named for what it is wherever it is shown.

mod bigram;
mod bpe;
mod gguf;

use bigram::Rng;
use gguf::{Gguf, Kind, Value};

/// What the model is called, in the file and by the API.
pub const NAME: &str = "coconut-tiny-bigram";
const CORPUS: &str = include_str!("../corpus.txt");
const WIDTH: usize = 128;
const CONTEXT: u32 = 8192;
const VOCABULARY: usize = 1000;
const TEMPLATE: &str = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n\
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

/// The model's shape; the default is what the image ships.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Layers of random weights; more make the model slower, not better.
    pub layers: u32,
    /// Attention heads.
    pub heads: u32,
    /// Width of an attention head.
    pub head_size: u32,
    /// Width of the feed-forward part.
    pub feed_forward: u32,
    /// Seed of the random weights.
    pub seed: u64,
    /// Rounds of training; few are enough for a test.
    pub rounds: u32,
}

impl Default for Shape {
    fn default() -> Self {
        Self { layers: 1, heads: 2, head_size: 16, feed_forward: 128, seed: 1, rounds: 120 }
    }
}

/// The file's bytes, and the model's perplexity on its corpus.
pub fn generate(shape: &Shape) -> std::io::Result<(Vec<u8>, f32)> {
    let mut vocabulary = bpe::Bpe::train(CORPUS, VOCABULARY);
    let plain = vocabulary.tokens.len();
    let lines: Vec<Vec<u32>> = CORPUS.lines().map(|l| vocabulary.encode(l)).collect();
    let specials = ["<|bos|>", "<|im_start|>", "<|im_end|>"];
    vocabulary.tokens.extend(specials.map(str::to_owned));
    let end = plain as u32 + 2;
    while !vocabulary.tokens.len().is_multiple_of(32) {
        let n = vocabulary.tokens.len();
        vocabulary.tokens.push(format!("<|unused{n}|>"));
    }
    let newline = vocabulary.encode("\n")[0];
    let counts = bigram::count(&lines, newline, end);
    let mut rng = Rng::new(shape.seed);
    let learnt = bigram::train(&counts, vocabulary.tokens.len(), WIDTH, shape.rounds, &mut rng);
    let mut file = Gguf::default();
    describe(&mut file, shape, &vocabulary, plain);
    weights(&mut file, shape, &learnt, &mut rng);
    let mut bytes = Vec::new();
    file.write(&mut bytes)?;
    Ok((bytes, learnt.perplexity(&counts)))
}

fn describe(file: &mut Gguf, shape: &Shape, vocabulary: &bpe::Bpe, plain: usize) {
    let special = plain as u32;
    let kind = |i: usize| match i {
        i if i < plain => 1,
        i if i < plain + 3 => 3,
        _ => 5,
    };
    let set = [
        ("general.architecture", Value::Text("llama".into())),
        ("general.name", Value::Text(NAME.into())),
        ("general.description", Value::Text("A toy: bigram statistics of a few sentences".into())),
        ("general.license", Value::Text("Apache-2.0".into())),
        ("general.quantization_version", Value::U32(2)),
        ("general.file_type", Value::U32(7)),
        ("llama.context_length", Value::U32(CONTEXT)),
        ("llama.embedding_length", Value::U32(WIDTH as u32)),
        ("llama.block_count", Value::U32(shape.layers)),
        ("llama.feed_forward_length", Value::U32(shape.feed_forward)),
        ("llama.attention.head_count", Value::U32(shape.heads)),
        ("llama.attention.head_count_kv", Value::U32(shape.heads)),
        ("llama.attention.layer_norm_rms_epsilon", Value::F32(1e-5)),
        ("llama.attention.key_length", Value::U32(shape.head_size)),
        ("llama.attention.value_length", Value::U32(shape.head_size)),
        ("llama.rope.dimension_count", Value::U32(shape.head_size)),
        ("llama.rope.freq_base", Value::F32(10_000.0)),
        ("llama.vocab_size", Value::U32(vocabulary.tokens.len() as u32)),
        ("tokenizer.ggml.model", Value::Text("gpt2".into())),
        ("tokenizer.ggml.pre", Value::Text("gpt-2".into())),
        ("tokenizer.ggml.tokens", Value::Texts(vocabulary.tokens.clone())),
        ("tokenizer.ggml.merges", Value::Texts(vocabulary.merges.clone())),
        (
            "tokenizer.ggml.token_type",
            Value::I32s((0..vocabulary.tokens.len()).map(kind).collect()),
        ),
        ("tokenizer.ggml.bos_token_id", Value::U32(special)),
        ("tokenizer.ggml.eos_token_id", Value::U32(special + 2)),
        ("tokenizer.ggml.add_bos_token", Value::Bool(false)),
        ("tokenizer.chat_template", Value::Text(TEMPLATE.into())),
    ];
    set.into_iter().for_each(|(key, value)| file.set(key, value));
}

fn weights(file: &mut Gguf, shape: &Shape, learnt: &bigram::Bigram, rng: &mut Rng) {
    let rows = learnt.input.len() / WIDTH;
    file.tensor("token_embd.weight", rows, WIDTH, &learnt.input, Kind::Q8);
    file.tensor("output.weight", rows, WIDTH, &learnt.output, Kind::Q8);
    file.tensor("output_norm.weight", 0, WIDTH, &[1.0; WIDTH], Kind::F32);
    let attention = (shape.heads * shape.head_size) as usize;
    let feed_forward = shape.feed_forward as usize;
    // What writes into the residual stream is weak, so that the bigram statistics stay on top.
    let (read, write) = (0.6 / (WIDTH as f32).sqrt(), 0.02);
    for layer in 0..shape.layers {
        let mut matrix = |name: &str, rows: usize, columns: usize, scale: f32| {
            let data: Vec<f32> = (0..rows * columns).map(|_| rng.normal() * scale).collect();
            file.tensor(&format!("blk.{layer}.{name}.weight"), rows, columns, &data, Kind::Q8);
        };
        matrix("attn_q", attention, WIDTH, read);
        matrix("attn_k", attention, WIDTH, read);
        matrix("attn_v", attention, WIDTH, read);
        matrix("attn_output", WIDTH, attention, write);
        matrix("ffn_gate", feed_forward, WIDTH, read);
        matrix("ffn_up", feed_forward, WIDTH, read);
        matrix("ffn_down", WIDTH, feed_forward, write);
        for norm in ["attn_norm", "ffn_norm"] {
            let name = format!("blk.{layer}.{norm}.weight");
            file.tensor(&name, 0, WIDTH, &[1.0; WIDTH], Kind::F32);
        }
    }
}
