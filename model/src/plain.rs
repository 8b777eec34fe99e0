//! Text that others wrote, before a person sees it.

/// Whether a character steers the terminal that shows it, or how what is beside it is shown: control characters (escape
/// sequences begin with one), ends of lines, and what turns the direction of writing
/// ([CVE-2021-42574](https://nvd.nist.gov/vuln/detail/CVE-2021-42574)).
#[must_use]
pub const fn steers_display(character: char) -> bool {
    matches!(
        character,
        '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_control_character_does_and_writing_does_not() {
        assert!(('\0'..=char::MAX).filter(|character| character.is_control()).all(steers_display));
        assert!("\u{202a}\u{202e}\u{2066}\u{2069}\u{2028}\u{2029}".chars().all(steers_display));
        assert!(!"Grüße, 世界! שלום \u{200d}👩".chars().any(steers_display));
    }
}
