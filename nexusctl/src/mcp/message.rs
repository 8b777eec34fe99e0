//! Messages, as far as they have to be understood: what was asked and is not answered yet.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::{Value, json};

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

/// Requests of the client that were neither answered nor cancelled, by their ids as JSON.
#[derive(Debug, Default)]
pub(super) struct Pending(BTreeSet<String>);

impl Pending {
    /// Takes note of what the client says. What can't be understood is the guest's to answer.
    pub(super) fn sent(&mut self, line: &[u8]) {
        match serde_json::from_slice(line) {
            Ok(Message { id: Some(id), method: Some(_) }) => {
                self.0.insert(id.to_string());
            }
            Ok(Message { id: None, method: Some(method) }) if method == "notifications/cancelled" => {
                if let Ok(cancelled) = serde_json::from_slice::<Cancelled>(line) {
                    self.0.remove(&cancelled.params.request_id.to_string());
                }
            }
            _ => {}
        }
    }

    /// Takes note of what the guest says; whether that is a message at all. What is one holds no control characters: JSON
    /// has none.
    pub(super) fn received(&mut self, line: &[u8]) -> bool {
        // What is skipped in bytes need not be UTF-8.
        match str::from_utf8(line).map(serde_json::from_str) {
            Ok(Ok(Message { id: Some(id), method: None })) => {
                self.0.remove(&id.to_string());
                true
            }
            Ok(Ok(Message { .. })) => true,
            _ => false,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What to tell the client, which nobody else is going to: an answer to each.
    pub(super) fn give_up(&mut self, why: &str) -> Vec<Value> {
        let ids = std::mem::take(&mut self.0);
        ids.iter().map(|id| failure(&serde_json::from_str(id).unwrap_or(Value::Null), why)).collect()
    }
}

/// An answer to the request of that id, which is null where nobody knows it.
pub(super) fn failure(id: &Value, why: &str) -> Value {
    // From the range for implementations (JSON-RPC 2.0, section 5.1).
    json!({"jsonrpc": "2.0", "id": id, "error": {"code": -32000, "message": why}})
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
    fn what_is_no_message_is_seen() {
        let mut pending = Pending::default();
        for line in ["", "hello", "[1]", "{\"id\":1}\u{1b}[2J", "{\"a\":\"\u{1b}\"}", "\u{7}{}", &"[".repeat(100_000)] {
            assert!(!pending.received(line.as_bytes()), "{line:?}");
        }
        assert!(!pending.received(b"{\"a\":\"\xff\"}"));
        assert!(pending.received(br#"{"id":1,"result":{"text":"\u001b[2J"}}"#));
    }
}
