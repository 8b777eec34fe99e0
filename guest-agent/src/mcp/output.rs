//! What a command writes, as text for a JSON message: all of it in the end, up to a bound, and the news of it meanwhile.

use std::mem;

use nexus_protocol::Channel;

/// Most that is kept of each output, in bytes as JSON writes them: twice that of both is less than
/// [`MAX_TOOLS_LINE_BYTES`](nexus_protocol::MAX_TOOLS_LINE_BYTES), which is how often a result has them.
const MAX_KEPT_BYTES: usize = 3 * 1024 * 1024;

/// Most news at a time, in bytes.
const MAX_NEWS_BYTES: usize = 16 * 1024;

/// Both outputs of a command.
#[derive(Debug, Default)]
pub(super) struct Outputs {
    pub(super) stdout: Kept,
    pub(super) stderr: Kept,
    /// What nobody was told of yet, if anybody is.
    news: Option<News>,
}

/// The beginning of one output.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) text: String,
    /// How much was written altogether, in bytes.
    pub(super) bytes: u64,
    /// Whether more was written than `text` holds.
    pub(super) truncated: bool,
    decoder: Decoder,
    room: usize,
}

impl Default for Kept {
    fn default() -> Self {
        Self { text: String::new(), bytes: 0, truncated: false, decoder: Decoder::default(), room: MAX_KEPT_BYTES }
    }
}

#[derive(Debug, Default)]
struct News {
    text: String,
    /// Bytes of text that came since somebody was told last and are not in `text` any more.
    dropped: usize,
}

impl Outputs {
    /// With news where somebody wants to be told.
    pub(super) fn new(told: bool) -> Self {
        Self { news: told.then(News::default), ..Self::default() }
    }

    /// Takes what was written.
    pub(super) fn take(&mut self, channel: Channel, bytes: &[u8]) {
        let kept = if channel == Channel::Stderr { &mut self.stderr } else { &mut self.stdout };
        kept.bytes += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let text = kept.decoder.decode(bytes);
        kept.keep(&text);
        if let Some(news) = &mut self.news {
            news.add(&text);
        }
    }

    /// There is nothing more to come.
    pub(super) fn end(&mut self) {
        for kept in [&mut self.stdout, &mut self.stderr] {
            let text = kept.decoder.end();
            kept.keep(&text);
            if let Some(news) = &mut self.news {
                news.add(&text);
            }
        }
    }

    /// How much was written so far, in bytes, and what of it was not told yet: its end, if it is much.
    pub(super) fn news(&mut self) -> Option<(u64, String)> {
        let mut news = mem::take(self.news.as_mut()?);
        if news.text.is_empty() {
            return None;
        }
        news.trim();
        let News { mut text, dropped } = news;
        if dropped > 0 {
            text.insert_str(0, &format!("[{dropped} bytes are only in the result]\n"));
        }
        Some((self.stdout.bytes.saturating_add(self.stderr.bytes), text))
    }
}

impl Kept {
    fn keep(&mut self, text: &str) {
        if self.truncated {
            return;
        }
        let mut end = 0;
        for character in text.chars() {
            let Some(room) = self.room.checked_sub(written_bytes(character)) else {
                self.truncated = true;
                break;
            };
            self.room = room;
            end += character.len_utf8();
        }
        self.text.push_str(text.get(..end).unwrap_or_default());
    }
}

impl News {
    fn add(&mut self, text: &str) {
        self.text.push_str(text);
        // Not each time, or much that comes in little pieces would be moved again and again.
        if self.text.len() > 2 * MAX_NEWS_BYTES {
            self.trim();
        }
    }

    fn trim(&mut self) {
        let begin = self.text.ceil_char_boundary(self.text.len().saturating_sub(MAX_NEWS_BYTES));
        self.text.drain(..begin);
        self.dropped += begin;
    }
}

/// How many bytes a character takes in a JSON string, as serde_json writes it.
fn written_bytes(character: char) -> usize {
    match character {
        '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
        '\0'..='\u{1f}' => 6,
        other => other.len_utf8(),
    }
}

/// Makes text of bytes that come in pieces; what is no UTF-8 becomes U+FFFD.
#[derive(Debug, Default)]
struct Decoder {
    /// The beginning of a character: at most three bytes.
    begun: Vec<u8>,
}

impl Decoder {
    fn decode(&mut self, bytes: &[u8]) -> String {
        let mut all = mem::take(&mut self.begun);
        all.extend_from_slice(bytes);
        let mut text = String::with_capacity(all.len());
        let mut rest = all.as_slice();
        loop {
            match str::from_utf8(rest) {
                Ok(valid) => {
                    text.push_str(valid);
                    return text;
                }
                Err(error) => {
                    let (valid, after) = rest.split_at(error.valid_up_to());
                    text.push_str(str::from_utf8(valid).unwrap_or_default());
                    let Some(invalid) = error.error_len() else {
                        self.begun = after.to_vec();
                        return text;
                    };
                    text.push(char::REPLACEMENT_CHARACTER);
                    rest = after.get(invalid..).unwrap_or_default();
                }
            }
        }
    }

    fn end(&mut self) -> String {
        if mem::take(&mut self.begun).is_empty() { String::new() } else { char::REPLACEMENT_CHARACTER.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_may_come_in_pieces() {
        let mut outputs = Outputs::new(true);
        let bytes = "aé€😀\u{0}".as_bytes();
        for byte in bytes {
            outputs.take(Channel::Stdout, &[*byte]);
            outputs.take(Channel::Stderr, b".");
        }
        outputs.take(Channel::Stdout, b"\xff\xe2\x82");
        outputs.end();
        assert_eq!(outputs.stdout.text, "aé€😀\u{0}\u{fffd}\u{fffd}");
        assert_eq!(outputs.stdout.bytes, u64::try_from(bytes.len() + 3).unwrap());
        let (written, news) = outputs.news().unwrap();
        assert_eq!(written, outputs.stdout.bytes + outputs.stderr.bytes);
        assert_eq!(news, "a..é...€....😀.\u{0}.\u{fffd}\u{fffd}");
        assert_eq!(outputs.news(), None);
    }

    #[test]
    fn what_is_kept_fits_into_a_message() {
        for (unit, written) in [("\u{1}", 6), ("\"", 2), ("x", 1), ("é", 2)] {
            let mut outputs = Outputs::new(false);
            let much = unit.repeat(MAX_KEPT_BYTES / unit.len() + 1);
            outputs.take(Channel::Stdout, much.as_bytes());
            outputs.end();
            let kept = outputs.stdout;
            assert!(kept.truncated);
            assert_eq!(kept.bytes, u64::try_from(much.len()).unwrap());
            assert_eq!(serde_json::to_string(&kept.text).unwrap().len() - 2, MAX_KEPT_BYTES / written * written);
        }
        let mut exact = Outputs::default();
        exact.take(Channel::Stdout, "x".repeat(MAX_KEPT_BYTES).as_bytes());
        assert!(!exact.stdout.truncated);
    }

    #[test]
    fn of_much_news_the_end_is_told() {
        let mut outputs = Outputs::new(true);
        for _ in 0..10_000 {
            outputs.take(Channel::Stdout, b"0123456789");
        }
        outputs.take(Channel::Stdout, b"end");
        let (written, news) = outputs.news().unwrap();
        assert_eq!(written, 100_003);
        assert!(news.ends_with("789end") && news.len() < 3 * MAX_NEWS_BYTES, "{} bytes", news.len());
        let (note, rest) = news.split_once('\n').unwrap();
        assert_eq!(note, format!("[{} bytes are only in the result]", 100_003 - rest.len()));
    }
}
