//! What ttyd and its client say to each other: a byte that tells what it is, and the rest (ttyd's `server.h`).

use nexus_protocol::Token;
use serde_json::{Value, json};

/// Output of the terminal follows.
const OUTPUT: u8 = b'0';
/// The window's title follows.
const TITLE: u8 = b'1';
/// The client's settings follow, in JSON.
const PREFERENCES: u8 = b'2';

/// What a client says once it is admitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum FromClient<'a> {
    /// Something is typed.
    Input(&'a [u8]),
    /// The client's terminal has that many columns and rows.
    Resize(u32, u32),
    /// It can't take more for now.
    Pause,
    /// It can again.
    Resume,
}

/// What a client says first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Greeting {
    /// The token that it knows.
    pub(super) token: Token,
    /// The columns and rows of its terminal, if it knows them already.
    pub(super) size: Option<(u32, u32)>,
}

impl<'a> FromClient<'a> {
    /// None, if it is nothing that a client says.
    pub(super) fn parse(message: &'a [u8]) -> Option<Self> {
        let (kind, rest) = message.split_first()?;
        match kind {
            b'0' => Some(Self::Input(rest)),
            b'1' => size(&serde_json::from_slice(rest).ok()?).map(|(columns, rows)| Self::Resize(columns, rows)),
            b'2' => Some(Self::Pause),
            b'3' => Some(Self::Resume),
            _ => None,
        }
    }
}

impl Greeting {
    /// None, if it is no greeting.
    pub(super) fn parse(message: &[u8]) -> Option<Self> {
        let greeting: Value = serde_json::from_slice(message).ok()?;
        let token = greeting.as_object()?.get("AuthToken").and_then(Value::as_str).unwrap_or_default();
        Some(Self { token: token.into(), size: size(&greeting) })
    }
}

fn size(message: &Value) -> Option<(u32, u32)> {
    let count = |name| u32::try_from(message.get(name)?.as_u64()?).ok().filter(|count| *count > 0);
    Some((count("columns")?, count("rows")?))
}

/// Output as a message.
pub(super) fn output(bytes: &[u8]) -> Vec<u8> {
    message(OUTPUT, bytes)
}

/// A title as a message.
pub(super) fn title(text: &str) -> Vec<u8> {
    message(TITLE, text.as_bytes())
}

/// The settings as a message: a page may be left without a question, as the terminal goes on.
pub(super) fn preferences() -> Vec<u8> {
    message(PREFERENCES, json!({ "disableLeaveAlert": true }).to_string().as_bytes())
}

fn message(kind: u8, rest: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(rest.len() + 1);
    message.push(kind);
    message.extend_from_slice(rest);
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_read_as_ttyds_client_writes_them() {
        assert_eq!(FromClient::parse(b"0ls\r"), Some(FromClient::Input(b"ls\r")));
        assert_eq!(FromClient::parse(b"0"), Some(FromClient::Input(b"")));
        assert_eq!(FromClient::parse(br#"1{"columns":132,"rows":43}"#), Some(FromClient::Resize(132, 43)));
        assert_eq!(FromClient::parse(b"2"), Some(FromClient::Pause));
        assert_eq!(FromClient::parse(b"3"), Some(FromClient::Resume));
        for noise in [&b""[..], b"4", b"x", b"1", b"1{}", br#"1{"columns":0,"rows":5}"#, br#"1{"columns":-1,"rows":5}"#]
        {
            assert_eq!(FromClient::parse(noise), None, "{noise:?}");
        }
    }

    #[test]
    fn a_greeting_has_a_token_and_may_have_a_size() {
        let greeting = |text: &str| {
            Greeting::parse(text.as_bytes()).map(|greeting| (greeting.token.reveal().to_owned(), greeting.size))
        };
        let whole = r#"{"AuthToken":"t","columns":80,"rows":24}"#;
        assert_eq!(greeting(whole), Some(("t".to_owned(), Some((80, 24)))));
        assert_eq!(greeting(r#"{"columns":80}"#), Some((String::new(), None)));
        for noise in ["", "[]", "7", "{", "0{}"] {
            assert_eq!(greeting(noise), None, "{noise}");
        }
    }
}
