//! Name and version of the guest's operating system, from `os-release(5)`.

use std::path::Path;

use nexus_protocol::Text;

use super::read_bounded;

const MAX_BYTES: u64 = 64 * 1024;

/// `NAME` and `VERSION_ID`, or empty texts.
pub(super) fn read() -> (Text, Text) {
    let text = ["/etc/os-release", "/usr/lib/os-release"]
        .iter()
        .find_map(|path| read_bounded(Path::new(path), MAX_BYTES).ok());
    let text = text.unwrap_or_default();
    (value(&text, "NAME"), value(&text, "VERSION_ID"))
}

fn value(text: &str, wanted: &str) -> Text {
    let found = text.lines().filter_map(|line| line.trim().split_once('=')).rfind(|(name, _)| *name == wanted);
    Text::from(found.map(|(_, value)| unquote(value)).unwrap_or_default())
}

/// A value as a shell would take it, without what the format does not allow.
fn unquote(value: &str) -> String {
    let mut characters = value.trim().chars();
    let mut plain = String::new();
    let mut quote = None;
    while let Some(character) = characters.next() {
        match (character, quote) {
            ('\\', None | Some('"')) => plain.extend(characters.next()),
            ('\'' | '"', None) => quote = Some(character),
            (character, Some(open)) if character == open => quote = None,
            (character, _) => plain.push(character),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_quotes_and_the_last_of_a_name() {
        let text = "NAME=\"Old\"\nNAME=\"Void \\\"Linux\\\"\"\nVERSION_ID='12'\nPRETTY_NAME=x\n# ID=1\n";
        assert_eq!(value(text, "NAME").as_str(), "Void \"Linux\"");
        assert_eq!(value(text, "VERSION_ID").as_str(), "12");
        assert_eq!(value(text, "ID").as_str(), "");
        assert_eq!(value("NAME=\"open \\", "NAME").as_str(), "open ");
    }
}
