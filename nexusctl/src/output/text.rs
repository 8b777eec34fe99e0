//! Text that others wrote: guests, VMMs, users.

use nexus_model::steers_display;

/// The text on one line and without characters that steer a terminal.
pub(crate) fn clean(text: &str) -> String {
    let text = text.trim_end().replace("\r\n", " ");
    let plain = |character: char| match character {
        '\n' | '\t' => ' ',
        steering if steers_display(steering) => char::REPLACEMENT_CHARACTER,
        other => other,
    };
    text.chars().map(plain).collect()
}

/// The text as a sentence: a capital first, a full stop last.
pub(crate) fn sentence(text: &str) -> String {
    let text = text.trim();
    let mut letters = text.chars();
    let Some(first) = letters.next() else { return String::new() };
    // A path or a name is not a word.
    let word: String = text.chars().take_while(|letter| !letter.is_whitespace()).collect();
    let mut sentence = if word.contains(['/', '_', '=', '.']) || word.chars().skip(1).any(char::is_uppercase) {
        text.to_owned()
    } else {
        first.to_uppercase().chain(letters).collect()
    };
    if !sentence.ends_with(['.', '!', '?', ':']) {
        sentence.push('.');
    }
    sentence
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences() {
        for (text, expected) in [
            ("there is no VM `a`", "There is no VM `a`."),
            ("/dev/kvm is missing", "/dev/kvm is missing."),
            ("nexus.yaml can't be read.", "nexus.yaml can't be read."),
            ("`web 1` is not a name", "`web 1` is not a name."),
            ("VM `a` runs", "VM `a` runs."),
            ("vCPUs: too many", "vCPUs: too many."),
            ("", ""),
        ] {
            assert_eq!(sentence(text), expected);
        }
    }

    #[test]
    fn one_line_without_controls() {
        assert_eq!(clean("a\r\nb\tc\n"), "a b c");
        assert_eq!(clean("\u{1b}[31mred\u{1b}[0m"), "\u{fffd}[31mred\u{fffd}[0m");
        assert_eq!(clean("\u{202e}evil"), "\u{fffd}evil");
        assert_eq!(clean("Grüße 世界"), "Grüße 世界");
    }
}
