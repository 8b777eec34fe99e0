/// Sees that a terminal which is shown this does nothing but show it.
///
/// # Panics
/// When it would.
pub fn assert_plain(text: &str) {
    let steers = |character: char| {
        character.is_control() || matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    assert!(!text.contains(steers), "{text:?}");
}
