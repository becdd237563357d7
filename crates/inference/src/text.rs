//! From token bytes to text that may be sent: whole UTF-8 characters, nothing past a stop string.

/// Collects a sequence's bytes and releases text that is certain.
#[derive(Debug, Default)]
pub struct TextStream {
    stops: Vec<String>,
    bytes: Vec<u8>,
    held: String,
    stopped: bool,
}

impl TextStream {
    /// Text ends before the first of `stops`; empty ones are ignored.
    pub fn new(stops: Vec<String>) -> Self {
        Self { stops: stops.into_iter().filter(|s| !s.is_empty()).collect(), ..Self::default() }
    }

    /// True once a stop string was met.
    pub fn stopped(&self) -> bool {
        self.stopped
    }

    /// Adds a token's bytes; returns what may be sent now (possibly nothing).
    pub fn push(&mut self, bytes: &[u8]) -> String {
        if self.stopped {
            return String::new();
        }
        self.bytes.extend_from_slice(bytes);
        self.take_characters(false);
        self.release(false)
    }

    /// The sequence has ended: everything held back that is no stop string.
    pub fn finish(&mut self) -> String {
        if self.stopped {
            return String::new();
        }
        self.take_characters(true);
        self.release(true)
    }

    fn take_characters(&mut self, last: bool) {
        loop {
            match std::str::from_utf8(&self.bytes) {
                Ok(text) => {
                    self.held.push_str(text);
                    self.bytes.clear();
                    return;
                }
                Err(error) => {
                    let good = error.valid_up_to();
                    self.held.push_str(&String::from_utf8_lossy(&self.bytes[..good]));
                    let bad = match error.error_len() {
                        Some(n) => n,
                        // An unfinished character: wait for its rest, unless there is none.
                        None if !last => {
                            self.bytes.drain(..good);
                            return;
                        }
                        None => self.bytes.len() - good,
                    };
                    self.held.push(char::REPLACEMENT_CHARACTER);
                    self.bytes.drain(..good + bad);
                }
            }
        }
    }

    fn release(&mut self, last: bool) -> String {
        if let Some(at) = self.stops.iter().filter_map(|s| self.held.find(s.as_str())).min() {
            self.stopped = true;
            self.held.truncate(at);
            return std::mem::take(&mut self.held);
        }
        let keep = if last { 0 } else { self.longest_begun_stop() };
        let rest = self.held.split_off(self.held.len() - keep);
        std::mem::replace(&mut self.held, rest)
    }

    /// Bytes at the end of the held text that may be the beginning of a stop string.
    fn longest_begun_stop(&self) -> usize {
        let begun = |stop: &String| {
            (1..stop.len())
                .rev()
                .filter(|n| stop.is_char_boundary(*n))
                .find(|n| self.held.ends_with(&stop[..*n]))
        };
        self.stops.iter().filter_map(begun).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(stops: &[&str], pieces: &[&[u8]]) -> String {
        let mut t = TextStream::new(stops.iter().map(|s| s.to_string()).collect());
        let mut out: String = pieces.iter().map(|p| t.push(p)).collect();
        out.push_str(&t.finish());
        out
    }

    #[test]
    fn a_stop_string_over_several_tokens_is_never_sent() {
        assert_eq!(all(&["END"], &[b"a E", b"N", b"D b"]), "a ");
        assert_eq!(all(&["END"], &[b"a E", b"N", b"C b"]), "a ENC b");
        assert_eq!(all(&["b", "ab"], &[b"xa", b"b"]), "x");
    }

    #[test]
    fn split_and_broken_characters() {
        assert_eq!(all(&[], &[&[0xc3], &[0xa4], b"x"]), "ä".to_owned() + "x");
        assert_eq!(all(&[], &[b"a", &[0xff], b"b", &[0xe2, 0x82]]), "a\u{fffd}b\u{fffd}");
    }

    proptest! {
        #[test]
        fn text_is_the_same_however_it_is_cut(text in "\\PC{0,40}", cut in 1usize..5, stop in "[a-c]{1,3}") {
            let pieces: Vec<&[u8]> = text.as_bytes().chunks(cut).collect();
            let want = text.split(stop.as_str()).next().unwrap_or("");
            prop_assert_eq!(all(&[&stop], &pieces), want);
        }
    }
}
