//! Watches a backend's event stream go by: counts its tokens, finds the usage and the end.

/// Bytes of the newest event that are kept to look for the usage in.
const KEPT: usize = 4096;

/// State of one stream.
#[derive(Debug, Default)]
pub struct Watcher {
    line: Vec<u8>,
    usage: Option<(u32, u32)>,
    done: bool,
}

impl Watcher {
    /// Some bytes went by; returns how many events with content ended in them: a token each.
    pub fn see(&mut self, bytes: &[u8]) -> u32 {
        let mut tokens = 0;
        for part in bytes.split_inclusive(|b| *b == b'\n') {
            let room = KEPT.saturating_sub(self.line.len());
            self.line.extend_from_slice(&part[..part.len().min(room)]);
            if part.last() == Some(&b'\n') {
                tokens += self.end_of_line();
                self.line.clear();
            }
        }
        tokens
    }

    fn end_of_line(&mut self) -> u32 {
        let Some(data) = self.line.strip_prefix(b"data:") else { return 0 };
        let data = data.trim_ascii();
        if data == b"[DONE]" {
            self.done = true;
            return 0;
        }
        if let Some(usage) = usage_in(data) {
            self.usage = Some(usage);
        }
        // The last chunk of a choice says why it ended and has no text; a token's says null there.
        let text = contains(data, b"\"content\":\"") || contains(data, b"\"text\":\"");
        let empty = contains(data, b"\"content\":\"\"") || contains(data, b"\"text\":\"\"");
        let spaced = contains(data, b"\"content\": \"") || contains(data, b"\"text\": \"");
        u32::from((text && !empty) || spaced)
    }

    /// The backend's own count, if it has sent one.
    pub fn usage(&self) -> Option<(u32, u32)> {
        self.usage
    }

    /// The stream's last event went by.
    pub fn done(&self) -> bool {
        self.done
    }
}

/// Prompt and completion tokens, wherever a JSON text names them.
pub fn usage_in(json: &[u8]) -> Option<(u32, u32)> {
    let prompt = number_after(json, b"\"prompt_tokens\":")?;
    let completion = number_after(json, b"\"completion_tokens\":")?;
    Some((prompt, completion))
}

fn number_after(json: &[u8], key: &[u8]) -> Option<u32> {
    let at = json.windows(key.len()).rposition(|w| w == key)? + key.len();
    let rest = json[at..].trim_ascii_start();
    let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
    std::str::from_utf8(&rest[..digits]).ok()?.parse().ok()
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|w| w == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str = "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n\
        data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n\
        data: {\"choices\":[{\"text\":\"b\",\"index\":0}]}\n\n\
        data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"length\"}]}\n\n\
        data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9, \"completion_tokens\": 2,\"total_tokens\":11}}\n\n\
        data: [DONE]\n\n";

    #[test]
    fn tokens_usage_and_end_however_it_is_cut() {
        for cut in [1, 7, 64, 10_000] {
            let mut w = Watcher::default();
            let tokens: u32 = STREAM.as_bytes().chunks(cut).map(|c| w.see(c)).sum();
            assert_eq!((tokens, w.usage(), w.done()), (2, Some((9, 2)), true), "cut at {cut}");
        }
    }
}
