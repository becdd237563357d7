//! Durations and sizes as people write them.

use crate::limits;
use std::time::Duration;

/// In milliseconds.
const DURATIONS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
const SIZES: [(&str, u64); 5] =
    [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// Reads `250ms`, `90s`, `10m`, `2h` or `7d`; whole numbers, more than zero, at most ten years.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let span = parse(text, &DURATIONS)?;
    (1..=limits::EXPIRY_MS).contains(&span).then(|| Duration::from_millis(span))
}

/// Writes a duration in its largest whole unit; fractions of a millisecond are dropped.
pub fn print_duration(duration: Duration) -> String {
    print(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX), &DURATIONS)
}

/// Reads `512MiB`, `2GiB`, `64KiB` or `1024B`; whole numbers of bytes.
pub fn parse_size(text: &str) -> Option<u64> {
    parse(text, &SIZES)
}

/// Writes a size in its largest whole unit.
pub fn print_size(bytes: u64) -> String {
    print(bytes, &SIZES)
}

fn parse(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

fn print(value: u64, units: &[(&str, u64)]) -> String {
    let whole = units.iter().find(|(_, factor)| value > 0 && value.is_multiple_of(*factor));
    let (name, factor) = whole.unwrap_or(&units[units.len() - 1]);
    format!("{}{name}", value / factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways() {
        for text in ["250ms", "1500ms", "90s", "10m", "25h", "7d"] {
            assert_eq!(print_duration(parse_duration(text).unwrap()), text);
        }
        for text in ["512MiB", "2GiB", "0B", "1025B"] {
            assert_eq!(print_size(parse_size(text).unwrap()), text);
        }
    }

    #[test]
    fn wrong_units_are_refused() {
        for text in ["", "10", "m", "10 m", "0s", "-1s", "1.5h", "99999999999d"] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
        for text in ["12", "12MB", "1e3B", "99999999999TiB"] {
            assert_eq!(parse_size(text), None, "{text}");
        }
    }
}
