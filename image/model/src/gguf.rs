//! Just enough of the GGUF v3 format to write a llama model.

use std::io::{self, Write};

/// A metadata value.
pub enum Value {
    /// An unsigned number.
    U32(u32),
    /// A number.
    F32(f32),
    /// A flag.
    Bool(bool),
    /// Text.
    Text(String),
    /// Texts.
    Texts(Vec<String>),
    /// Signed numbers.
    I32s(Vec<i32>),
}

/// How a tensor's numbers are stored.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// 32-bit floats.
    F32,
    /// Blocks of 32 signed bytes with one 16-bit scale.
    Q8,
}

struct Tensor {
    name: String,
    /// Columns (the contiguous ones), rows.
    shape: Vec<u64>,
    kind: Kind,
    bytes: Vec<u8>,
}

/// A file under construction.
#[derive(Default)]
pub struct Gguf {
    metadata: Vec<(String, Value)>,
    tensors: Vec<Tensor>,
}

const ALIGNMENT: usize = 32;
const BLOCK: usize = 32;

impl Gguf {
    /// Adds metadata.
    pub fn set(&mut self, key: &str, value: Value) {
        self.metadata.push((key.to_owned(), value));
    }

    /// Adds a matrix of `rows × columns` (row by row), or a vector when `rows` is 0.
    pub fn tensor(&mut self, name: &str, rows: usize, columns: usize, data: &[f32], kind: Kind) {
        let shape =
            if rows == 0 { vec![columns as u64] } else { vec![columns as u64, rows as u64] };
        let bytes = match kind {
            Kind::F32 => data.iter().flat_map(|x| x.to_le_bytes()).collect(),
            Kind::Q8 => data.chunks(BLOCK).flat_map(q8_block).collect(),
        };
        self.tensors.push(Tensor { name: name.to_owned(), shape, kind, bytes });
    }

    /// Writes the file.
    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let mut head = Vec::new();
        head.extend(b"GGUF");
        head.extend(3u32.to_le_bytes());
        head.extend((self.tensors.len() as u64).to_le_bytes());
        head.extend((self.metadata.len() as u64).to_le_bytes());
        for (key, value) in &self.metadata {
            text(&mut head, key);
            put(&mut head, value);
        }
        let mut offset = 0u64;
        for t in &self.tensors {
            text(&mut head, &t.name);
            head.extend((t.shape.len() as u32).to_le_bytes());
            t.shape.iter().for_each(|n| head.extend(n.to_le_bytes()));
            let kind: u32 = if t.kind == Kind::F32 { 0 } else { 8 };
            head.extend(kind.to_le_bytes());
            head.extend(offset.to_le_bytes());
            offset += t.bytes.len().next_multiple_of(ALIGNMENT) as u64;
        }
        head.resize(head.len().next_multiple_of(ALIGNMENT), 0);
        out.write_all(&head)?;
        for t in &self.tensors {
            out.write_all(&t.bytes)?;
            out.write_all(&vec![0; t.bytes.len().next_multiple_of(ALIGNMENT) - t.bytes.len()])?;
        }
        Ok(())
    }
}

fn text(out: &mut Vec<u8>, s: &str) {
    out.extend((s.len() as u64).to_le_bytes());
    out.extend(s.as_bytes());
}

fn put(out: &mut Vec<u8>, value: &Value) {
    let kind = |out: &mut Vec<u8>, k: u32| out.extend(k.to_le_bytes());
    match value {
        Value::U32(n) => {
            kind(out, 4);
            out.extend(n.to_le_bytes());
        }
        Value::F32(x) => {
            kind(out, 6);
            out.extend(x.to_le_bytes());
        }
        Value::Bool(b) => {
            kind(out, 7);
            out.push(u8::from(*b));
        }
        Value::Text(s) => {
            kind(out, 8);
            text(out, s);
        }
        Value::Texts(list) => {
            kind(out, 9);
            kind(out, 8);
            out.extend((list.len() as u64).to_le_bytes());
            list.iter().for_each(|s| text(out, s));
        }
        Value::I32s(list) => {
            kind(out, 9);
            kind(out, 5);
            out.extend((list.len() as u64).to_le_bytes());
            list.iter().for_each(|n| out.extend(n.to_le_bytes()));
        }
    }
}

fn q8_block(values: &[f32]) -> Vec<u8> {
    let largest = values.iter().fold(0f32, |m, x| m.max(x.abs()));
    let scale = half(largest / 127.0);
    let back = from_half(scale);
    let mut out = scale.to_le_bytes().to_vec();
    let quantised = |x: &f32| if back == 0.0 { 0 } else { (x / back).round() as i8 };
    out.extend(values.iter().map(|x| quantised(x).cast_unsigned()));
    out
}

/// Nearest 16-bit float; the values here are small and never subnormal enough to matter.
fn half(x: f32) -> u16 {
    let bits = x.to_bits();
    let sign = ((bits >> 16) & 0x8000) as u16;
    let exponent = ((bits >> 23) & 0xff) as i32 - 127 + 15;
    if exponent <= 0 {
        return sign;
    }
    if exponent >= 31 {
        return sign | 0x7c00;
    }
    let mantissa = bits & 0x7f_ffff;
    let rounded = (((exponent as u32) << 10) | (mantissa >> 13)) + ((mantissa >> 12) & 1);
    sign | rounded as u16
}

fn from_half(h: u16) -> f32 {
    let exponent = u32::from(h >> 10) & 31;
    if exponent == 0 {
        return 0.0;
    }
    let sign = u32::from(h & 0x8000) << 16;
    f32::from_bits(sign | ((exponent + 127 - 15) << 23) | (u32::from(h & 0x3ff) << 13))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_are_close() {
        for x in [1.0f32, 0.5, 0.000_7, 3.25, 100.0] {
            let back = from_half(half(x));
            assert!((back - x).abs() / x < 0.001, "{x} became {back}");
        }
    }

    #[test]
    fn a_block_keeps_its_values() {
        let values: Vec<f32> = (0..32).map(|i| (i as f32 - 16.0) / 10.0).collect();
        let block = q8_block(&values);
        let scale = from_half(u16::from_le_bytes([block[0], block[1]]));
        for (v, b) in values.iter().zip(&block[2..]) {
            assert!((v - scale * f32::from(b.cast_signed())).abs() < 0.02);
        }
    }
}
