//! Messages, as far as they have to be understood: what was asked and is not answered yet.

use std::collections::BTreeSet;

use serde::{Deserialize, de::IgnoredAny};
use serde_json::{Value, json};

use super::Line;
use crate::MAX_TOOLS_LINE_BYTES;

/// What every message of JSON-RPC 2.0 may have.
#[derive(Debug, Deserialize)]
struct Message {
    id: Option<Value>,
    method: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Cancelled {
    params: CancelledParams,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct CancelledParams {
    request_id: Value,
}

/// Requests of the client that were neither answered nor cancelled, by their ids as JSON; and how the client has begun.
#[derive(Debug, Default)]
pub struct Pending {
    ids: BTreeSet<String>,
    /// The request that no server has yet.
    waiting: Option<String>,
    /// What the client would begin with, and no server has answered.
    beginning: Option<Begun>,
    begun: Option<Begun>,
}

/// The request with which a client of a revision before 2026-07-28 begins its session. Later ones have none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Begun {
    id: Value,
    /// The whole line. Another server has to be told the same before anything else.
    pub line: Vec<u8>,
}

impl Begun {
    /// Whether a line is the answer to it, and the server takes it; none for what is no answer to it.
    #[must_use]
    pub fn is_taken(&self, line: &[u8]) -> Option<bool> {
        let answer: Answer = serde_json::from_str(str::from_utf8(line).ok()?).ok()?;
        (answer.id? == self.id && answer.method.is_none()).then_some(answer.result.is_some())
    }
}

/// An answer, as far as it says whether something was done.
#[derive(Debug, Deserialize)]
struct Answer {
    id: Option<Value>,
    method: Option<String>,
    result: Option<IgnoredAny>,
}

impl Pending {
    /// Takes note of what the client says, before it is said to a server.
    pub fn waits(&mut self, line: &[u8]) {
        self.waiting = match serde_json::from_slice(line) {
            Ok(Message { id: Some(id), method: Some(_) }) => Some(id.to_string()),
            _ => None,
        };
    }

    /// Takes note of what is said to a server. What can't be understood is the guest's to answer.
    pub fn sent(&mut self, line: &[u8]) {
        self.waiting = None;
        match serde_json::from_slice(line) {
            Ok(Message { id: Some(id), method: Some(method) }) => {
                self.ids.insert(id.to_string());
                if method == "initialize" {
                    self.beginning = Some(Begun { id, line: line.to_vec() });
                }
            }
            Ok(Message { id: None, method: Some(method) }) if method == "notifications/cancelled" => {
                if let Ok(cancelled) = serde_json::from_slice::<Cancelled>(line) {
                    self.ids.remove(&cancelled.params.request_id.to_string());
                }
            }
            _ => {}
        }
    }

    /// Takes note of what the guest says; whether that is a message at all. What is one holds no control characters: JSON
    /// has none.
    pub fn received(&mut self, line: &[u8]) -> bool {
        // What is skipped in bytes need not be UTF-8.
        match str::from_utf8(line).map(serde_json::from_str) {
            Ok(Ok(Message { id: Some(id), method: None })) => {
                self.ids.remove(&id.to_string());
                if let Some(taken) = self.beginning.as_ref().and_then(|beginning| beginning.is_taken(line)) {
                    self.begun = self.beginning.take().filter(|_| taken).or_else(|| self.begun.take());
                }
                true
            }
            Ok(Ok(Message { .. })) => true,
            _ => false,
        }
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty() && self.waiting.is_none()
    }

    /// How the client has begun, if a server has taken that.
    #[must_use]
    pub const fn begun(&self) -> Option<&Begun> {
        self.begun.as_ref()
    }

    /// What to tell the client, which the server is not going to: an answer to each that it had. What waits goes to another.
    pub fn lost(&mut self, why: &str) -> Vec<Value> {
        // A client that has not begun may begin anew.
        self.beginning = None;
        let ids = std::mem::take(&mut self.ids);
        ids.iter().map(|id| failure(&serde_json::from_str(id).unwrap_or(Value::Null), why)).collect()
    }

    /// The same where there is not going to be another server: what waits is answered, too.
    pub fn give_up(&mut self, why: &str) -> Vec<Value> {
        self.ids.extend(self.waiting.take());
        self.lost(why)
    }
}

/// An answer to the request of that id, which is null where nobody knows it.
#[must_use]
pub fn failure(id: &Value, why: &str) -> Value {
    // From the range for implementations (JSON-RPC 2.0, section 5.1).
    json!({"jsonrpc": "2.0", "id": id, "error": {"code": -32000, "message": why}})
}

/// What to answer at once to a line of a client's that no server would answer: its sender would wait for ever.
#[must_use]
pub fn refusal(line: &Line) -> Option<Value> {
    match line {
        Line::TooLong => {
            let why = format!("a message was over the limit of {MAX_TOOLS_LINE_BYTES} bytes, and was not passed on");
            Some(failure(&Value::Null, &why))
        }
        Line::Whole(line) if !is_json(line) => {
            // JSON-RPC 2.0, section 5.1.
            let error = json!({"code": -32700, "message": "a line was no JSON, and was not passed on"});
            Some(json!({"jsonrpc": "2.0", "id": null, "error": error}))
        }
        Line::Whole(_) | Line::End => None,
    }
}

fn is_json(line: &[u8]) -> bool {
    // What is skipped in bytes need not be UTF-8.
    line.trim_ascii().is_empty()
        || str::from_utf8(line).is_ok_and(|line| serde_json::from_str::<IgnoredAny>(line).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_what_is_not_answered() {
        let mut pending = Pending::default();
        for line in [
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#,
            r#"{"jsonrpc":"2.0","id":"1","method":"tools/call","params":{"name":"x"}}"#,
            r#"{"jsonrpc":"2.0","id":2,"method":"tools/call"}"#,
            r#"{"jsonrpc":"2.0","id":3,"method":"tools/call"}"#,
            r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#,
            r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":3}}"#,
            r#"{"jsonrpc":"2.0","id":7,"result":{}}"#,
            "nonsense",
        ] {
            pending.sent(line.as_bytes());
        }
        assert!(pending.received(br#"{"jsonrpc":"2.0","id":1,"result":{}}"#));
        // A request of the guest's own is no answer.
        assert!(pending.received(br#"{"jsonrpc":"2.0","id":2,"method":"ping"}"#));
        assert!(!pending.is_empty());
        let answers: Vec<Value> = pending.give_up("gone").iter().map(|answer| answer["id"].clone()).collect();
        assert_eq!(answers, [json!("1"), json!(2)]);
        assert!(pending.is_empty());
    }

    #[test]
    fn how_a_client_has_begun_is_known_once_it_was_answered() {
        let hello = br#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{}}"#;
        let mut pending = Pending::default();
        pending.sent(hello);
        pending.give_up("gone");
        assert_eq!(pending.begun(), None);
        pending.sent(hello);
        pending.received(br#"{"id":0,"result":{}}"#);
        pending.sent(br#"{"id":1,"method":"tools/list"}"#);
        pending.give_up("gone");
        let begun = pending.begun().unwrap();
        assert_eq!(begun.line, hello);
        for (line, taken) in [
            (r#"{"id":0,"result":{}}"#, Some(true)),
            (r#"{"id":0,"error":{}}"#, Some(false)),
            (r#"{"id":"0","result":{}}"#, None),
            (r#"{"id":0,"method":"ping"}"#, None),
            (r#"{"method":"notifications/message"}"#, None),
            ("[]", None),
            ("{", None),
        ] {
            assert_eq!(begun.is_taken(line.as_bytes()), taken, "{line}");
        }
    }

    #[test]
    fn what_no_server_has_yet_is_lost_with_none() {
        let mut pending = Pending::default();
        pending.sent(br#"{"id":1,"method":"tools/list"}"#);
        pending.waits(br#"{"id":2,"method":"initialize"}"#);
        assert_eq!(pending.begun(), None);
        assert_eq!(pending.lost("gone").len(), 1);
        assert!(!pending.is_empty());
        assert_eq!(pending.lost("gone again"), [json!(null); 0]);
        let answers = pending.give_up("gone for good");
        assert_eq!((answers.len(), &answers[0]["id"]), (1, &json!(2)));
        assert!(pending.is_empty());
    }

    #[test]
    fn what_is_no_message_is_seen() {
        let mut pending = Pending::default();
        for line in ["", "hello", "[1]", "{\"id\":1}\u{1b}[2J", "{\"a\":\"\u{1b}\"}", "\u{7}{}", &"[".repeat(100_000)] {
            assert!(!pending.received(line.as_bytes()), "{line:?}");
        }
        assert!(!pending.received(b"{\"a\":\"\xff\"}"));
        assert!(pending.received(br#"{"id":1,"result":{"text":"\u001b[2J"}}"#));
    }
}
